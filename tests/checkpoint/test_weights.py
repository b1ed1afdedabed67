"""Which files are a folder's weights, against transformers' own choice and in odd folders."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from pitool.checkpoint.source import Source, open_checkpoint
from pitool.checkpoint.weights import (
    INDEX,
    SINGLE,
    find_name,
    has_weights,
    is_buffer,
    link_weights,
    plain_name,
    read_index,
    weight_files,
)
from pitool.errors import BadInput
from tests.tiny import write_checkpoint

ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


def put(path: Path, **tensors: Any) -> Path:
    made = {name: np.full(2, value, np.float32) for name, value in tensors.items()}
    save_file(made, path, metadata={"format": "pt"})
    return path


def list_in_index(folder: Path, **files: str) -> Path:
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": files}))
    return folder


def shards(folder: Path, index: bool = True) -> Path:
    put(folder / ONE, a=1, b=2)
    put(folder / TWO, c=3)
    return list_in_index(folder, a=ONE, b=ONE, c=TWO) if index else folder


def names(folder: Path) -> list[str]:
    return [path.name for path in weight_files(folder)]


# -- the choice ----------------------------------------------------------------------------


def test_the_single_file_goes_before_an_older_index(tmp_path: Path) -> None:
    shards(tmp_path)
    assert names(tmp_path) == [ONE, TWO]
    put(tmp_path / SINGLE, a=7)
    assert names(tmp_path) == [SINGLE]
    assert read_index(tmp_path)["a"].float32().tolist() == [7, 7]
    (tmp_path / INDEX).write_text("{")  # not even read
    assert names(tmp_path) == [SINGLE]


@pytest.mark.oracle
def test_the_choice_is_that_of_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    folder = write_checkpoint(tmp_path / "c", shards=2, num_hidden_layers=1)
    newer = {n: t.float32() * 2 for n, t in read_index(folder).items()}
    save_file(newer, folder / SINGLE, metadata={"format": "pt"})
    save_file({n: t * 0 for n, t in newer.items()}, folder / "model.fp16.safetensors")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
    name = "model.layers.0.mlp.up_proj.weight"
    ours = read_index(folder)[name].float32()
    np.testing.assert_array_equal(ours, theirs.state_dict()[name].numpy())


def test_variants_are_not_mixed_with_the_weights(tmp_path: Path) -> None:
    put(tmp_path / SINGLE, a=1)
    put(tmp_path / "model.fp16.safetensors", a=2, z=2)
    put(tmp_path / "consolidated.safetensors", a=3)
    assert list(read_index(tmp_path)) == ["a"]
    (tmp_path / SINGLE).unlink()
    shards(tmp_path)
    put(tmp_path / "model.fp16-00001-of-00002.safetensors", z=2)
    assert names(tmp_path) == [ONE, TWO]


def test_a_single_file_of_another_name(tmp_path: Path) -> None:
    put(tmp_path / "weights.safetensors", a=1)
    assert names(tmp_path) == ["weights.safetensors"]


def folder_in_place(folder: Path) -> None:
    (folder / SINGLE).mkdir()


def dead_link(folder: Path) -> None:
    (folder / SINGLE).symlink_to(folder / "blob")


def pickles(folder: Path) -> None:
    (folder / "pytorch_model-00001-of-00002.bin").write_bytes(b"PK")


ODD: dict[str, tuple[Callable[[Path], object], str]] = {
    "shards without an index": (
        lambda f: shards(f, index=False),
        rf"has shards \({ONE}, {TWO}\), but no index.*: download {INDEX}",
    ),
    "one of two shards without an index": (lambda f: put(f / ONE, a=1), "has shards"),
    "shards of a variant": (
        lambda f: put(f / "model-00001-of-00002.fp16.safetensors", a=1), "has shards",
    ),
    "a missing shard": (
        lambda f: (shards(f) / TWO).unlink(),
        rf"has 1 of the 2 files that {INDEX} lists; {TWO} is missing",
    ),
    "two variants": (
        lambda f: (put(f / "model.fp16.safetensors"), put(f / "model.bf16.safetensors")),
        r"only variants of the weights \(model\.bf16\.\S+, model\.fp16\.safetensors\)",
    ),
    "two files": (
        lambda f: (put(f / "a.safetensors"), put(f / "b.safetensors")),
        "several files of weights",
    ),
    "a tensor in two shards": (
        lambda f: (shards(f), put(f / TWO, a=9, c=3)),
        f"has the tensor 'a' both in {ONE} and in {TWO}",
    ),
    "a tensor that no shard has": (
        lambda f: (shards(f), list_in_index(f, a=ONE, gone=TWO)),
        f"lists the tensor 'gone' in {TWO}, which does not have it",
    ),
    "a file outside of the folder": (
        lambda f: list_in_index(f, a="../x.safetensors"), "which is not a file in the folder",
    ),
    "a file whose name is none": (
        lambda f: list_in_index(f, a="x\0.safetensors"), "which is not a file in the folder",
    ),
    "a pickle in the index": (
        lambda f: list_in_index(f, a="pytorch_model.bin"), "which is not a file in the folder",
    ),
    "an index that is a pointer of Git LFS": (
        lambda f: (f / INDEX).write_text("version https://git-lfs.github.com/spec/v1\n"),
        "is a pointer of Git LFS",
    ),
    "pickles alone": (pickles, r"only as pytorch_model\.bin, a format that can run code"),
    "a folder of that name": (folder_in_place, r"model\.safetensors is a folder, not a file"),
    "a dead link": (dead_link, "is a link to a file that does not exist"),
    "nothing": (lambda f: None, r"has no model\.safetensors: choose a folder with weights"),
}  # fmt: skip


@pytest.mark.parametrize("case", ODD)
def test_an_odd_folder(tmp_path: Path, case: str) -> None:
    write, message = ODD[case]
    write(tmp_path)
    with pytest.raises(BadInput, match=message) as caught:
        read_index(tmp_path)
    assert caught.value.do


def test_the_index_may_name_another_shard_or_a_buffer(tmp_path: Path) -> None:
    shards(tmp_path)
    list_in_index(tmp_path, a=TWO, b=ONE, c=TWO, **{"layers.0.rotary_emb.inv_freq": ONE})
    assert set(read_index(tmp_path)) == {"a", "b", "c"}


def test_whether_there_is_anything(tmp_path: Path) -> None:
    assert not has_weights(tmp_path)
    dead_link(tmp_path)
    assert has_weights(tmp_path)
    (tmp_path / SINGLE).unlink()
    shards(tmp_path)
    assert has_weights(tmp_path)


def test_links_leave_one_choice(tmp_path: Path) -> None:
    source, into, other = (tmp_path / name for name in "abc")
    for folder in (source, into, other):
        folder.mkdir()
    put(source / "weights.safetensors", a=1)
    link_weights(source, into)
    assert {path.name for path in into.iterdir()} == {SINGLE}
    (source / "weights.safetensors").unlink()
    shards(source)
    put(source / "model.fp16.safetensors", a=1)
    link_weights(source, other)
    assert {path.name for path in other.iterdir()} == {INDEX, ONE, TWO}
    assert read_index(other)["c"].float32().tolist() == [3, 3]


# -- names ---------------------------------------------------------------------------------

PLAIN = {
    "model.layers.0.mlp.up_proj.weight": "model.layers.0.mlp.up_proj.weight",
    "language_model.model.layers.0.mlp.up_proj.weight": "model.layers.0.mlp.up_proj.weight",
    "model.language_model.layers.0.mlp.up_proj.weight": "model.layers.0.mlp.up_proj.weight",
    "model.language_model.embed_tokens.weight": "model.embed_tokens.weight",
    "language_model.lm_head.weight": "lm_head.weight",
    "model.text_model.norm.weight": "model.norm.weight",
    "model.vision_tower.encoder.layers.0.weight": "model.vision_tower.encoder.layers.0.weight",
    "vision_tower.vision_model.post_layernorm.bias": (
        "vision_tower.vision_model.post_layernorm.bias"
    ),
    "lm_head.weight": "lm_head.weight",
}


@pytest.mark.parametrize("name", PLAIN)
def test_the_plain_name_of_a_tensor(name: str) -> None:
    assert plain_name(name) == PLAIN[name]


def test_names_that_would_meet_are_kept(tmp_path: Path) -> None:
    both = {"model.norm.weight": 1, "language_model.model.norm.weight": 2}
    put(tmp_path / SINGLE, **both)
    assert set(read_index(tmp_path)) == set(both)


def test_a_decoder_that_was_saved_alone() -> None:
    for stored, asked in (
        ("layers.0.weight", "model.layers.0.weight"),
        ("h.0.weight", "transformer.h.0.weight"),
        ("model.layers.0.weight", "layers.0.weight"),
        ("gpt_neox.layers.0.weight", "layers.0.weight"),
    ):
        assert find_name({stored: None}, asked) == stored  # type: ignore[dict-item]
    assert find_name({"norm.weight": None}, "lm_head.norm.weight") is None  # type: ignore[dict-item]


# -- what is no weight -----------------------------------------------------------------------

BUFFERS = [
    "model.layers.0.self_attn.rotary_emb.inv_freq", "gpt_neox.layers.3.attention.bias",
    "gpt_neox.layers.3.attention.masked_bias", "transformer.h.0.attn.bias",
    "vision_tower.embeddings.position_ids", "x.num_batches_tracked",
]  # fmt: skip
WEIGHTS = [
    "model.layers.0.self_attn.q_proj.bias", "transformer.h.0.attn.c_attn.bias", "lm_head.weight",
    "gpt_neox.layers.0.attention.dense.bias", "model.layers.0.mlp.act_fn.alpha_p",
]  # fmt: skip


def test_names_of_buffers() -> None:
    assert [name for name in BUFFERS + WEIGHTS if is_buffer(name)] == BUFFERS


def opened(folder: Path, **more: Any) -> Any:
    path = folder / SINGLE
    save_file({**load_file(path), **more}, path)
    return open_checkpoint(Source("c", None, folder))


def test_buffers_of_any_type_are_left_out(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "c", kind="F32", num_hidden_layers=1)
    before = set(open_checkpoint(Source("c", None, folder)).tensors)
    checkpoint = opened(folder, **{
        "model.layers.0.attention.bias": np.ones((1, 1, 9, 9), np.uint8),
        "model.layers.0.attention.masked_bias": np.array(-1e9, np.float32),
        "model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(16, np.float32),
        "model.embed_positions.position_ids": np.arange(9),
        "model.step": np.array(3),
        "model.mask": np.ones(4, bool),
    })  # fmt: skip
    assert set(checkpoint.tensors) == before


def test_a_weight_of_integers_is_said_to_be_that(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "c", kind="F32", num_hidden_layers=1)
    name = "model.layers.0.self_attn.q_proj.weight"
    checkpoint = opened(folder, **{name: np.ones((256, 256), np.int8)})
    with pytest.raises(BadInput, match=r"q_proj\.weight' is stored as I8; only F64, F32"):
        checkpoint.weight([name], (256, 256))
    tensors = load_file(folder / SINGLE)
    del tensors[name]
    packed = {name.replace("weight", "qweight"): np.ones((32, 256), np.int32)}
    save_file({**tensors, **packed}, folder / SINGLE)
    with pytest.raises(BadInput, match=r"q_proj\.qweight' is stored as I32"):
        opened(folder).weight([name], (256, 256))


def test_weights_are_looked_up_with_their_shapes(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(
        Source("c", None, write_checkpoint(tmp_path / "c", num_hidden_layers=1))
    )
    assert checkpoint.weight(["gone", "model.norm.weight"], (256,)).shape == (256,)
    with pytest.raises(BadInput, match=r"shape \(256,\), but config\.json implies \(3,\)"):
        checkpoint.weight(["model.norm.weight"], (3,))
    with pytest.raises(BadInput, match="has no tensor 'gone'"):
        checkpoint.weight(["gone", "gone too"], (3,))
    assert checkpoint.tied


def test_a_checkpoint_without_a_head_is_tied(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "c", num_hidden_layers=1)
    path = folder / "config.json"
    values = json.loads(path.read_text())
    del values["tie_word_embeddings"]
    path.write_text(json.dumps(values))
    assert open_checkpoint(Source("c", None, folder)).tied
    more = {"lm_head.weight": np.ones((512, 256), np.float32)}
    save_file(more | {n: t.float32() for n, t in read_index(folder).items()}, folder / SINGLE)
    assert not open_checkpoint(Source("c", None, folder)).tied
    path.write_text(json.dumps(values | {"model_type": "gemma2"}))  # which says so by its family
    assert open_checkpoint(Source("c", None, folder)).tied
