"""What the writer writes, read back by gguf's own reader and computed independently."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from pitool.architectures.gguf import interleave
from pitool.checkpoint.source import Checkpoint
from pitool.checkpoint.tensors import Tensor
from pitool.convert.gguf import writer
from pitool.convert.gguf.model import find_model
from pitool.convert.gguf.writer import cast, match_tensors
from pitool.errors import BadInput
from tests.convert.helpers import checkpoint_of, write_float
from tests.tiny import LLAMA, write_checkpoint

SMALL: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 300, "max_position_embeddings": 256,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
CASES: dict[str, dict[str, Any]] = {
    "tied": {},
    "untied": {"tie_word_embeddings": False},
    "biases": {"attention_bias": True, "mlp_bias": True},
    "head-dim": {"head_dim": 32},
    "multi-head": {"num_key_value_heads": 4},
    "one-kv-head": {"num_key_value_heads": 1},
    "llama3": {"rope_scaling": LLAMA3},
    "qwen2": {"model_type": "qwen2"},
    "qwen2-untied": {"model_type": "qwen2", "tie_word_embeddings": False},
}

# Name in transformers -> name in GGUF; written out, so that no code of ours is asked.
LAYER = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}  # fmt: skip
WHOLE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def gguf_name(name: str) -> str:
    stem, _, kind = name.rpartition(".")
    if stem in WHOLE:
        return f"{WHOLE[stem]}.{kind}"
    _, _, layer, part = stem.split(".", 3)
    return f"blk.{layer}.{LAYER[part]}.{kind}"


def in_pairs(array: np.ndarray[Any, Any], head_dim: int) -> np.ndarray[Any, Any]:
    """Put row j of a head to 2j and row j + head_dim / 2 to 2j + 1, one by one."""
    turned = np.empty_like(array)
    half = head_dim // 2
    for row in range(len(array)):
        head, j = divmod(row, head_dim)
        turned[head * head_dim + (2 * j if j < half else 2 * (j - half) + 1)] = array[row]
    return turned


def expected(folder: Path, config: dict[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """Return every tensor of the GGUF but rope_freqs, in the checkpoint's type."""
    head_dim = config.get("head_dim", config["hidden_size"] // config["num_attention_heads"])
    tensors = {}
    for name, array in load_file(folder / "model.safetensors").items():
        turned = config["model_type"] == "llama" and (".q_proj." in name or ".k_proj." in name)
        tensors[gguf_name(name)] = in_pairs(array, head_dim) if turned else array
    return tensors


STORED: dict[str, Any] = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}


@pytest.mark.parametrize("kind", STORED)
@pytest.mark.parametrize("case", CASES)
def test_every_tensor(tmp_path: Path, case: str, kind: str) -> None:
    config = {**LLAMA, **SMALL, **CASES[case]}
    folder = write_checkpoint(tmp_path / "c", **{**SMALL, **CASES[case]})
    reader = GGUFReader(write_float(folder, tmp_path / "m.gguf", kind))
    found = {tensor.name: tensor for tensor in reader.tensors}
    wanted = expected(folder, config)
    assert set(found) - {"rope_freqs.weight"} == set(wanted)
    assert ("rope_freqs.weight" in found) == (case == "llama3")
    for name, array in wanted.items():
        stored = np.float32 if array.ndim == 1 else STORED[kind]
        assert found[name].shape.tolist() == list(array.shape)[::-1], name
        assert found[name].tensor_type == GGMLQuantizationType["F32" if array.ndim == 1 else kind]
        assert found[name].data.tobytes() == array.astype(stored).tobytes(), name


@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("kind", STORED)
def test_every_type_from_every_type(tmp_path: Path, stored: str, kind: str) -> None:
    folder = write_checkpoint(tmp_path / "c", kind=stored, **SMALL)
    reader = GGUFReader(write_float(folder, tmp_path / "m.gguf", kind))
    found = {tensor.name: tensor.data.tobytes() for tensor in reader.tensors}
    for name, array in expected(folder, {**LLAMA, **SMALL}).items():
        values = array.astype(np.float32)
        assert (
            found[name] == values.astype(STORED[kind] if array.ndim > 1 else np.float32).tobytes()
        )


def test_a_sharded_checkpoint_gives_the_same_bytes(tmp_path: Path) -> None:
    one = write_checkpoint(tmp_path / "one" / "c", **SMALL)
    three = write_checkpoint(tmp_path / "three" / "c", shards=3, **SMALL)
    single = write_float(one, tmp_path / "1.gguf", "F16").read_bytes()
    assert write_float(three, tmp_path / "3.gguf", "F16").read_bytes() == single


def test_slabs_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_checkpoint(tmp_path / "c", **SMALL)
    whole = write_float(folder, tmp_path / "whole.gguf", "F16").read_bytes()
    monkeypatch.setattr(writer, "SLAB_BYTES", 1)
    assert write_float(folder, tmp_path / "slabs.gguf", "F16").read_bytes() == whole


@pytest.mark.parametrize("stored_as", ["model.embed_tokens.weight", "lm_head.weight"])
def test_a_tied_matrix_under_either_name(tmp_path: Path, stored_as: str) -> None:
    folder = write_checkpoint(tmp_path / "c", **SMALL)
    tensors = load_file(folder / "model.safetensors")
    table = tensors.pop("model.embed_tokens.weight")
    save_file({**tensors, stored_as: table}, folder / "model.safetensors")
    reader = GGUFReader(write_float(folder, tmp_path / "m.gguf", "BF16"))
    found = {tensor.name: tensor.data.tobytes() for tensor in reader.tensors}
    assert found["token_embd.weight"] == table.tobytes()
    assert "output.weight" not in found


def test_tensors_that_nothing_needs_are_left_out(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "c", **SMALL)
    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].copy()
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(8, np.float32)
    save_file(tensors, folder / "model.safetensors")
    reader = GGUFReader(write_float(folder, tmp_path / "m.gguf", "F16"))
    assert {t.name for t in reader.tensors} == set(
        expected(write_checkpoint(tmp_path / "d", **SMALL), {**LLAMA, **SMALL})
    )


def test_the_frequencies_of_llama3_by_hand(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "c", **SMALL, rope_scaling=LLAMA3)
    reader = GGUFReader(write_float(folder, tmp_path / "m.gguf", "F16"))
    (found,) = (t.data for t in reader.tensors if t.name == "rope_freqs.weight")

    # head_dim 16, theta 1e4: wavelengths 2 pi 10000^(i/8); kept below 16, divided by 8 above 64,
    # 19.87 and 62.83 lie between.
    def blended(wavelength: float) -> float:
        smooth = (64 / wavelength - 1) / (4 - 1)
        return 1 / ((1 - smooth) / 8 + smooth)

    wavelengths = [2 * np.pi * 10000 ** (i / 8) for i in range(8)]
    wanted = [1.0, blended(wavelengths[1]), blended(wavelengths[2]), 8.0, 8.0, 8.0, 8.0, 8.0]
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


METADATA = {
    "general.architecture": "llama",
    "general.type": "model",
    "general.file_type": 1,
    "llama.block_count": 2,
    "llama.context_length": 256,
    "llama.embedding_length": 64,
    "llama.feed_forward_length": 96,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
    "llama.attention.key_length": 32,
    "llama.attention.value_length": 32,
    "llama.rope.dimension_count": 32,
    "llama.rope.freq_base": 5e5,
    "llama.rope.scaling.type": "linear",
    "llama.rope.scaling.factor": 4.0,
    "llama.vocab_size": 300,
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "smollm",
    "tokenizer.ggml.eos_token_id": 2,
}


def test_metadata(tmp_path: Path) -> None:
    changes = {"head_dim": 32, "rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 4}}
    folder = write_checkpoint(tmp_path / "c", **{**SMALL, **changes})
    reader = GGUFReader(write_float(folder, tmp_path / "m.gguf", "F16"))
    found = {key: field.contents() for key, field in reader.fields.items()}
    assert {key: found.get(key) for key in METADATA} == METADATA
    assert found["llama.attention.layer_norm_rms_epsilon"] == pytest.approx(1e-5)
    assert len(found["tokenizer.ggml.tokens"]) == 300


# -- refusals ------------------------------------------------------------------------------


def changed(folder: Path, name: str, array: np.ndarray[Any, Any] | None) -> Checkpoint:
    tensors = load_file(folder / "model.safetensors")
    del tensors[name]
    if array is not None:
        tensors[name] = array
    save_file(tensors, folder / "model.safetensors")
    return checkpoint_of(folder)


def match(checkpoint: Checkpoint) -> list[tuple[Tensor, ...]]:
    return match_tensors(checkpoint, find_model(checkpoint.config).wanted())


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "c", **SMALL)
    checkpoint = changed(folder, "model.layers.1.mlp.up_proj.weight", None)
    with pytest.raises(BadInput, match=r"no tensor 'model\.layers\.1\.mlp\.up_proj\.weight'"):
        match(checkpoint)


def test_a_tensor_of_another_shape_is_named(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "c", **SMALL)
    checkpoint = changed(folder, "model.norm.weight", np.ones(32, np.float32))
    with pytest.raises(BadInput, match=r"has shape \(32,\), but config\.json implies \(64,\)"):
        match(checkpoint)


# -- casts ---------------------------------------------------------------------------------

bits32 = st.lists(st.integers(0, (1 << 32) - 1), min_size=1, max_size=50)


@given(bits=bits32)
def test_bf16_is_that_of_ml_dtypes(bits: list[int]) -> None:
    values = np.array(bits, np.uint32).view(np.float32)
    with np.errstate(invalid="ignore"):
        wanted = values.astype(ml_dtypes.bfloat16).astype(np.float32)
    found = (cast(values, "F32", "BF16").astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(found, wanted)


def test_a_nan_stays_one_and_is_quiet() -> None:
    nans = np.array([0x7F800001, 0xFF800001, 0x7FFFFFFF, 0xFFFFFFFF], np.uint32).view(np.float32)
    assert cast(nans, "F32", "BF16").tolist() == [0x7FC0, 0xFFC0, 0x7FFF, 0xFFFF]
    assert np.isnan(cast(nans, "F32", "F16")).all()


@pytest.mark.parametrize("kind", ["F16", "BF16"])
def test_casts_to_single_and_back_are_exact(kind: str) -> None:
    half = np.arange(1 << 16, dtype=np.uint16)
    stored = half.view("<f2") if kind == "F16" else half
    single = cast(stored, kind, "F32")
    number = ~np.isnan(single)
    back = np.ascontiguousarray(cast(single, "F32", kind)).view(np.uint16)
    np.testing.assert_array_equal(back[number], half[number])


@given(
    heads=st.integers(1, 5), half=st.integers(1, 6), columns=st.integers(1, 3), flat=st.booleans()
)
def test_interleave_moves_rows_by_pairs(heads: int, half: int, columns: int, flat: bool) -> None:
    rows = heads * half * 2
    array = np.arange(rows * columns).reshape(rows, columns)
    array = array[:, 0] if flat else array
    np.testing.assert_array_equal(interleave(half * 2)(array), in_pairs(array, half * 2))
