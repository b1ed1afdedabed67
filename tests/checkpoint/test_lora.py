"""LoRA adapters that do not belong, worked out by hand and refused in one sentence."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from pitool.checkpoint.lora import Adapter, merge
from pitool.checkpoint.source import find_adapters
from pitool.checkpoint.weights import read_index
from pitool.errors import BadInput, UsageError
from tests.tiny import write_checkpoint

MODULE = "model.layers.0.mlp.down_proj"
SETTINGS = {"peft_type": "LORA", "r": 2, "lora_alpha": 6}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("lora") / "c", num_hidden_layers=1)


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    rng = np.random.default_rng(3)
    half = f"base_model.model.{MODULE}.lora_"
    a, b = rng.normal(size=(2, 512)), rng.normal(size=(256, 2))
    tensors = {f"{half}A.weight": a.astype(np.float32), f"{half}B.weight": b.astype(np.float32)}
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps(SETTINGS))
    return tmp_path


def test_the_formula(folder: Path, adapter: Path) -> None:
    a, b = load_file(adapter / "adapter_model.safetensors").values()
    before = read_index(folder)
    name = f"{MODULE}.weight"
    tensor = merge(before, Adapter(adapter, 0.5), tied=True)[name]
    wanted = before[name].float32() + 0.5 * 6 / 2 * (b @ a)
    np.testing.assert_allclose(tensor.float32(), wanted, atol=1e-5)
    twice = merge(merge(before, Adapter(adapter), tied=True), Adapter(adapter, -1.0), tied=True)
    np.testing.assert_allclose(twice[name].float32(), before[name].float32(), atol=1e-5)
    assert tensor.kind == "F32"
    assert tensor.bytes == 256 * 512 * 4


def settings(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / "adapter_config.json").write_text(json.dumps({**SETTINGS, **changes}))

    return change


def tensors(rename: Callable[[str], str | None], cut: bool = False) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "adapter_model.safetensors"
        found = load_file(path)
        kept = {n: t[:, :100].copy() if cut else t for k, t in found.items() if (n := rename(k))}
        save_file(kept, path)

    return change


HALF = f"base_model.model.{MODULE}.lora_"
TABLE = np.ones((515, 256), np.float32)


def add(folder: Path, more: dict[str, Any]) -> None:
    path = folder / "adapter_model.safetensors"
    save_file({**load_file(path), **more}, path)


def factors(folder: Path, rank: int, kind: Any = np.float32) -> Path:
    made = {"A": np.ones((rank, 512), kind), "B": np.ones((256, rank), kind)}
    path = folder / "adapter_model.safetensors"
    save_file({f"{HALF}{half}.weight": array for half, array in made.items()}, path)
    return folder


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder of an adapter": (
        lambda f: (f / "adapter_config.json").unlink(), "is not an adapter: it has no adapter_con",
    ),
    "settings that are no JSON": (
        lambda f: (f / "adapter_config.json").write_text("{"), "cannot read",
    ),
    "settings that are a list": (
        lambda f: (f / "adapter_config.json").write_text("[]"), "is not a JSON object",
    ),
    "weights as a pickle": (
        lambda f: (f / "adapter_model.safetensors").rename(f / "adapter_model.bin"),
        "has no adapter_model.safetensors: save the adapter as safetensors",
    ),
    "IA3": (settings(peft_type="IA3"), "is IA3, and pitool can only merge a plain LoRA"),
    "no type": (settings(peft_type=None), "is an unknown adapter type"),
    "DoRA": (settings(use_dora=True), "is DoRA, and pitool can only merge a plain LoRA"),
    "another rank": (settings(r=4), "has rank 2, but adapter_config.json says rank 4"),
    "alpha that is no number": (settings(lora_alpha="x"), "alpha 'x'"),
    "another model's module": (
        tensors(lambda k: k.replace("layers.0", "layers.7")), "which the checkpoint does not have",
    ),
    "another model's shape": (tensors(lambda k: k, cut=True), "but the checkpoint|do not match"),
    "one half": (tensors(lambda k: None if "lora_B" in k else k), "only one of the two factors of"),
    "a key of another method": (
        tensors(lambda k: k.replace("lora_A.weight", "vera_lambda_b")),
        "which the checkpoint does not have",
    ),
    "DoRA that only its tensors show": (
        lambda f: add(f, {f"{HALF}magnitude_vector": np.ones(256, np.float32)}), "is DoRA",
    ),
    "biases that only its tensors show": (
        lambda f: add(f, {f"{HALF}B.bias": np.ones(256, np.float32)}), "is a LoRA with biases",
    ),
    "a base changed before training": (
        settings(init_lora_weights="pissa_niter_16"), "is a LoRA on a changed base",
    ),
    "rank nothing": (
        lambda f: settings(r=0)(factors(f, 0)), "has rank 0, but adapter_config.json says",
    ),
    "alpha that is not finite": (settings(lora_alpha=float("nan")), "alpha nan"),
    "alpha beyond a float": (settings(lora_alpha=10**400), "alpha 1000"),
    "factors of integers": (lambda f: factors(f, 2, np.int8), "is stored as I8; only F64"),
    "two adapters in a file": (
        lambda f: add(f, {f"{HALF}A.other.weight": np.ones((2, 512), np.float32)}),
        "holds several adapters \\(default, other\\)",
    ),
    "a factor under two names": (
        lambda f: add(f, {f"{HALF}A.default.weight": np.ones((2, 512), np.float32)}),
        "under two names",
    ),
    "a module under two names": (
        lambda f: add(f, {
            n.replace("model.layers", "language_model.model.layers"): t
            for n, t in load_file(f / "adapter_model.safetensors").items()
        }),
        "changes 'model.layers.0.mlp.down_proj.weight' under two names",
    ),
    "a resized embedding": (
        lambda f: add(f, {"base_model.model.model.embed_tokens.weight": TABLE}),
        "was trained with a resized vocabulary: .* has 515 rows, the checkpoint's 512",
    ),
    "a LoRA of a resized embedding": (
        lambda f: add(f, {
            "base_model.model.model.embed_tokens.lora_embedding_A": np.ones((2, 515), np.float32),
            "base_model.model.model.embed_tokens.lora_embedding_B": np.ones((256, 2), np.float32),
        }),
        "was trained with a resized vocabulary",
    ),
    "weights that are a pointer of Git LFS": (
        lambda f: (f / "adapter_model.safetensors").write_text(
            "version https://git-lfs.github.com/spec/v1"
        ),
        "is a pointer of Git LFS",
    ),
    "nothing": (tensors(lambda k: None), "changes no tensor"),
    "a tied head": (
        tensors(lambda k: k.replace(MODULE, "lm_head")), "as both embedding and head",
    ),
    "cut short": (
        lambda f: (f / "adapter_model.safetensors").write_bytes(b"123"), "is truncated",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_adapter(folder: Path, adapter: Path, case: str) -> None:
    spoil, message = WRONG[case]
    spoil(adapter)
    with pytest.raises(BadInput) as caught:
        merge(read_index(folder), Adapter(adapter), tied=True)
    assert re.search(message, str(caught.value)), caught.value
    assert "\n" not in str(caught.value)


NAMES: dict[str, Callable[[str], str]] = {
    "as PEFT saves them": lambda name: name,
    "with the adapter's name": lambda name: name.replace(".weight", ".default.weight"),
    "with another adapter's name": lambda name: name.replace(".weight", ".style.weight"),
    "without the prefix": lambda name: name.removeprefix("base_model.model."),
    "of a multimodal model of transformers 4.52": lambda name: name.replace(
        "model.layers", "model.language_model.layers"
    ),
    "of a multimodal model before": lambda name: name.replace(
        "model.layers", "language_model.model.layers"
    ),
    "of the decoder alone": lambda name: name.replace("model.model.layers", "model.layers"),
    "compiled": lambda name: name.replace("base_model.model.", "_orig_mod.base_model.model."),
    "compiled inside": lambda name: name.replace("mlp.", "mlp._orig_mod."),
    "of distributed training": lambda name: f"module.{name}".replace(
        "layers.0.", "layers.0._fsdp_wrapped_module."
    ),
}


@pytest.mark.parametrize("spelling", NAMES)
@pytest.mark.parametrize("inside", ["", "language_model.", "model.language_model."])
def test_names_of_adapters_and_of_bases(
    folder: Path, adapter: Path, tmp_path: Path, spelling: str, inside: str
) -> None:
    wanted = merge(read_index(folder), Adapter(adapter), tied=True)[f"{MODULE}.weight"].float32()
    tensors(NAMES[spelling])(adapter)
    base = tmp_path / "base"
    base.mkdir()
    stored = {tensor.name: tensor.float32() for tensor in read_index(folder).values()}
    inner = {"model.language_model.": "model.", "": "", "language_model.": ""}[inside]
    save_file(
        {f"{inside}{name.removeprefix(inner)}": array for name, array in stored.items()},
        base / "model.safetensors",
    )
    merged = merge(read_index(base), Adapter(adapter), tied=True)
    np.testing.assert_array_equal(merged[f"{MODULE}.weight"].float32(), wanted)


def test_tensors_that_are_no_change_are_left_out(folder: Path, adapter: Path) -> None:
    wanted = merge(read_index(folder), Adapter(adapter), tied=True)
    add(adapter, {
        "base_model.model.model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(16, np.float32),
        "base_model.model.model.position_ids": np.arange(9),
        "base_model.model.lm_head.original_module.weight": TABLE,
    })  # fmt: skip
    found = merge(read_index(folder), Adapter(adapter), tied=True)
    assert found.keys() == wanted.keys()
    changed = [name for name, tensor in found.items() if tensor != read_index(folder)[name]]
    assert changed == [f"{MODULE}.weight"]


@pytest.mark.parametrize("infix", ["", ".modules_to_save", ".modules_to_save.default"])
def test_a_tensor_that_was_trained_as_a_whole(folder: Path, adapter: Path, infix: str) -> None:
    norm = np.arange(256, dtype=np.float32)
    add(adapter, {f"base_model.model.model.norm{infix}.weight": norm})
    merged = merge(read_index(folder), Adapter(adapter), tied=True)
    np.testing.assert_array_equal(merged["model.norm.weight"].float32(), norm)


PATTERNS: dict[str, bool] = {
    "down_proj": True, "mlp.down_proj": True, MODULE: True, "own_proj": False,
    r"layers\.\d+\.mlp\..*": True, r"^model\.layers\.0\.mlp\.(up|down)_proj": True,
    r"layers\.1\..*": False, "(": False, "q_proj|down_proj": True,
}  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_of_alpha(folder: Path, adapter: Path, pattern: str) -> None:
    base = read_index(folder)[f"{MODULE}.weight"].float32()
    plain = merge(read_index(folder), Adapter(adapter), tied=True)[f"{MODULE}.weight"].float32()
    settings(alpha_pattern={pattern: 12})(adapter)
    found = merge(read_index(folder), Adapter(adapter), tied=True)[f"{MODULE}.weight"].float32()
    times = 2 if PATTERNS[pattern] else 1
    np.testing.assert_allclose(found - base, times * (plain - base), atol=1e-5)


# Python's own engine would need longer than anybody waits for each of them.
HARMLESS_NOW = ["(.*.*.*)*x!", "(a|.)*!", "(.+.+)+!", r"(.*)*\1(.*)*\1!"]
ENDLESS = ["((.)|(.))*[^a-z]", r"(.?){30}\1{3}[^a-z]"]


@pytest.mark.parametrize("pattern", HARMLESS_NOW)
def test_a_hostile_pattern_that_matches_nothing(folder: Path, adapter: Path, pattern: str) -> None:
    wanted = merge(read_index(folder), Adapter(adapter), tied=True)
    settings(rank_pattern={pattern: 4}, alpha_pattern={pattern: 99})(adapter)
    assert merge(read_index(folder), Adapter(adapter), tied=True) == wanted


@pytest.mark.parametrize("pattern", ENDLESS)
@pytest.mark.parametrize("key", ["rank_pattern", "alpha_pattern"])
def test_a_pattern_without_an_end(
    folder: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, key: str
) -> None:
    monkeypatch.setattr("pitool.checkpoint.lora.PATTERN_SECONDS", 0.02)
    settings(**{key: {pattern: 4}})(adapter)
    with pytest.raises(BadInput, match="has a pattern that takes too long to match"):
        merge(read_index(folder), Adapter(adapter), tied=True)


def test_scales_follow_their_adapters() -> None:
    paths = [Path("a"), Path("b")]
    assert find_adapters(paths, [0.5]) == (Adapter(Path("a"), 0.5), Adapter(Path("b")))
    for scales in ([1.0, 1.0, 1.0], [float("nan")]):
        with pytest.raises(UsageError, match="scale"):
            find_adapters(paths, scales)
