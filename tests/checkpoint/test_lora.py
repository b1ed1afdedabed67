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
from pitool.checkpoint.tensors import read_index
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
        tensors(lambda k: k.replace("lora_A.weight", "lora_magnitude_vector")),
        "which the checkpoint does not have",
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


def test_scales_follow_their_adapters() -> None:
    paths = [Path("a"), Path("b")]
    assert find_adapters(paths, [0.5]) == (Adapter(Path("a"), 0.5), Adapter(Path("b")))
    for scales in ([1.0, 1.0, 1.0], [float("nan")]):
        with pytest.raises(UsageError, match="scale"):
            find_adapters(paths, scales)
