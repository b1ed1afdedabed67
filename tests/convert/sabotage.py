"""Writers that make one mistake each, which convert's own verification must notice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from pitool.architectures import gemma2
from pitool.architectures.base import Wanted
from pitool.architectures.description import Description
from pitool.architectures.settings import Settings
from pitool.catalog.bundles import Bundle
from pitool.catalog.tiers import tiers
from pitool.checkpoint.config import read_config
from pitool.cli import convert_engines
from pitool.convert.conversion import Job
from pitool.convert.gguf import writer
from pitool.convert.onnx import decoder
from pitool.convert.onnx.rotary import make_rotary
from pitool.convert.onnx.weights import Weights
from pitool.convert.pipeline import convert
from pitool.convert.plan import make_plan
from pitool.report.progress import Silent
from tests.convert.helpers import source_of
from tests.tiny import write_checkpoint

Sabotage = Callable[[pytest.MonkeyPatch], None]

# Theta is not the usual one, no two heads are alike, and the window is shorter than a text.
SETTINGS: dict[str, Any] = {
    "architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2", "hidden_size": 64,
    "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 300, "query_pre_attn_scalar": 16,
    "max_position_embeddings": 512, "sliding_window": 64, "rope_theta": 500000.0,
}  # fmt: skip


def convert_as(folder: Path, target: Path, *, gguf: str = "", onnx: str = "") -> Bundle:
    """Convert a checkpoint to one format, with the engines that the command uses."""
    plan = make_plan(read_config(folder), "1gb", tiers()["1gb"], gguf, 512, onnx=onnx)
    engines = convert_engines.engines()
    return convert(source_of(folder), Job(plan, target, False, 1, None, "none"), engines, Silent())


def swap_heads(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the rows of a matrix with its first two heads of 16 swapped."""
    return np.concatenate([rows[16:32], rows[:16], rows[32:]])


# -- GGUF ----------------------------------------------------------------------------------------


def gguf_heads(patch: pytest.MonkeyPatch) -> None:
    _patch_wanted(patch, "blk.1.attn_q.weight", transform=swap_heads, rows=64)


def gguf_norm(patch: pytest.MonkeyPatch) -> None:
    """Gemma stores what is added to 1; no residual hides the effect of the last norm."""
    _patch_wanted(patch, "output_norm.weight", shift=0.5)


def _patch_wanted(patch: pytest.MonkeyPatch, name: str, **wrong: Any) -> None:
    stored = writer._stored

    def write(want: Wanted, *rest: Any) -> Any:
        return stored(replace(want, **wrong) if want.target.name == name else want, *rest)

    patch.setattr(writer, "_stored", write)


def gguf_window(patch: pytest.MonkeyPatch) -> None:
    _patch_metadata(patch, "attention.sliding_window", 4096)


def gguf_theta(patch: pytest.MonkeyPatch) -> None:
    _patch_metadata(patch, "rope.freq_base", 10000.0)


def _patch_metadata(patch: pytest.MonkeyPatch, key: str, wrong: object) -> None:
    add = writer._add
    patch.setattr(writer, "_add", lambda file, k, v: add(file, k, wrong if k.endswith(key) else v))


# -- ONNX ----------------------------------------------------------------------------------------


def onnx_heads(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(decoder, "pad_halves", lambda *_: swap_heads)


def onnx_norm(patch: pytest.MonkeyPatch) -> None:
    vector = Weights.stored_vector

    def halved(self: Any, name: str, values: np.ndarray[Any, Any]) -> Any:
        wrong = name == "model.layers.2.post_feedforward_layernorm.weight"
        return vector(self, name, values * np.float32(0.5) if wrong else values)

    patch.setattr(Weights, "stored_vector", halved)


def onnx_window(patch: pytest.MonkeyPatch) -> None:
    _patch_graph_model(patch, windows=(0, 0, 0, 0))


def onnx_theta(patch: pytest.MonkeyPatch) -> None:
    def wrong(rope: Any, *rest: Any, **named: Any) -> Any:
        return make_rotary(replace(rope, theta=10000.0), *rest, **named)

    patch.setattr(decoder, "make_rotary", wrong)


def _patch_graph_model(patch: pytest.MonkeyPatch, **wrong: Any) -> None:
    init = decoder.DecoderGraph.__init__

    def begin(self: Any, graph: Any, weights: Any, model: Description, *rest: Any) -> None:
        init(self, graph, weights, replace(model, **wrong), *rest)

    patch.setattr(decoder.DecoderGraph, "__init__", begin)


# -- both alike: the settings themselves are misread -----------------------------------------------


def misread_window(patch: pytest.MonkeyPatch) -> None:
    _patch_description(patch, windows=lambda _: (0, 0, 0, 0))


def misread_theta(patch: pytest.MonkeyPatch) -> None:
    _patch_description(patch, rope=lambda model: model.rope and replace(model.rope, theta=10000.0))


def misread_norm(patch: pytest.MonkeyPatch) -> None:
    _patch_description(patch, norm=lambda model: replace(model.norm, epsilon=0.1))


def misread_scale(patch: pytest.MonkeyPatch) -> None:
    _patch_description(patch, embedding_scale=lambda model: model.embedding_scale / 2)


def _patch_description(patch: pytest.MonkeyPatch, **wrong: Callable[[Description], Any]) -> None:
    family = gemma2.ARCHITECTURE

    def misread(settings: Settings) -> Description:
        model = family.describe(settings)
        changes: dict[str, Any] = {name: value(model) for name, value in wrong.items()}
        return replace(model, **changes)

    patch.setattr(gemma2, "ARCHITECTURE", replace(family, describe=misread))


# By the format, the same mistakes in each.
MISTAKES: dict[str, dict[str, Sabotage]] = {
    "gguf": {"heads": gguf_heads, "norm": gguf_norm, "window": gguf_window, "theta": gguf_theta},
    "onnx": {"heads": onnx_heads, "norm": onnx_norm, "window": onnx_window, "theta": onnx_theta},
}
MISREAD: dict[str, Sabotage] = {
    "window": misread_window, "theta": misread_theta, "norm": misread_norm,
    "scale": misread_scale,
}  # fmt: skip


def write_gemma2(folder: Path) -> Path:
    """Write a Gemma 2 of random weights, whose every second layer has a window."""
    write_checkpoint(folder, kind="F32", **SETTINGS)
    path = folder / "model.safetensors"
    tensors = dict(load_file(path))
    rng = np.random.default_rng(1)
    for i in range(SETTINGS["num_hidden_layers"]):
        for norm in ("pre_feedforward_layernorm", "post_feedforward_layernorm"):
            name = f"model.layers.{i}.{norm}.weight"
            tensors[name] = rng.normal(0, 0.1, SETTINGS["hidden_size"]).astype(np.float32)
    save_file(tensors, path)
    return folder
