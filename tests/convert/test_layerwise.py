"""Rounding layer by layer: what it gains, that it can be broken off, and when it is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from gguf import GGUFReader, dequantize
from numpy.typing import NDArray
from onnx.numpy_helper import to_array

from pitool.architectures.table import describe
from pitool.catalog.tensor_types import TENSOR_TYPES
from pitool.catalog.tiers import tiers
from pitool.checkpoint.config import read_config
from pitool.checkpoint.source import Checkpoint
from pitool.convert import cache, layerwise
from pitool.convert.calibrated_layer import Hidden, Layer
from pitool.convert.conversion import Job
from pitool.convert.effort import BEST, EFFORTS, NORMAL
from pitool.convert.feedback import Grid, Levels, Rounded
from pitool.convert.gguf.feedback import grid_of
from pitool.convert.gguf.ggml import dequantise_rows
from pitool.convert.gguf.layers import round_layers
from pitool.convert.gguf.model import find_model
from pitool.convert.layerwise import Format, State, walk
from pitool.convert.numpy_forward import Forward, reference_logits
from pitool.convert.onnx.feedback import NBitsGrid
from pitool.convert.pipeline import convert
from pitool.convert.plan import make_plan
from pitool.convert.propagation import Correction, Inputs
from pitool.quality.divergence import compare
from pitool.report.progress import Silent
from tests.cli.conftest import Pitool
from tests.cli.conftest import call as call
from tests.convert.helpers import (
    checkpoint_of,
    engines_of,
    sample_texts,
    source_of,
    tensors,
    write_float,
)
from tests.convert.onnx.test_onnx_artifacts import open_onnx
from tests.tiny import write_checkpoint

Array = NDArray[np.float32]
WALK = "rounding with error feedback"


class Broken(Silent):
    """Breaks off when so many layers are done."""

    def __init__(self, layers: int) -> None:
        self.left, self.at = layers, ""

    def stage(self, title: str, total: int, *, bytes_: bool = False) -> None:
        self.at = title

    def advance(self, count: int) -> None:
        self.left -= count if self.at == WALK else 0
        if not self.left:
            raise KeyboardInterrupt


class Counting(Silent):
    """Says how many layers were done at once when the stage began."""

    def __init__(self) -> None:
        self.steps: dict[str, list[int]] = {}

    def stage(self, title: str, total: int, *, bytes_: bool = False) -> None:
        self.steps[title] = []

    def advance(self, count: int) -> None:
        self.steps[list(self.steps)[-1]].append(count)


def rounded(
    folder: Path, scratch: Path, progress: Silent, effort: str = NORMAL
) -> dict[str, bytes]:
    checkpoint = checkpoint_of(folder)
    model = find_model(checkpoint.config)
    types = {
        t.name: TENSOR_TYPES["Q4_K" if "down" in t.name else "Q4_0"]
        for t in model.shape.tensors if t.name.startswith("blk.") and len(t.shape) == 2
    }  # fmt: skip
    scratch.mkdir(exist_ok=True)
    windows = np.random.default_rng(0).integers(3, 500, (2, 64)).tolist()
    made = round_layers(checkpoint, model, types, windows, EFFORTS[effort], scratch, progress)
    return {name: path.read_bytes() for name, path in made.items()}


@pytest.mark.thorough
@pytest.mark.parametrize("effort", [NORMAL, BEST])
def test_what_was_broken_off_goes_on_and_ends_in_the_same_bytes(
    tmp_path: Path, effort: str
) -> None:
    folder = write_checkpoint(tmp_path / "m")
    whole = rounded(folder, tmp_path / "whole", Silent(), effort)
    with pytest.raises(KeyboardInterrupt):
        rounded(folder, tmp_path / "again", Broken(2), effort)
    there = {path.stem for path in (tmp_path / "again").glob("*.bin")}
    assert "blk.1.ffn_down.weight" in there
    assert "blk.2.ffn_down.weight" not in there
    progress = Counting()
    assert rounded(folder, tmp_path / "again", progress, effort) == whole
    assert progress.steps == {WALK: [2, 1]}
    assert len([name for name in whole if ".weight" in name]) == 3 * 9  # seven matrices, two norms


@pytest.mark.thorough
def test_the_bytes_are_near_the_weights_that_the_norms_are_scaled_for(tmp_path: Path) -> None:
    """A norm times its matrix is what it was, but for rounding, row by row in llama.cpp's order."""
    folder = write_checkpoint(tmp_path / "m")
    made = rounded(folder, tmp_path / "made", Silent())
    exact = {
        t.name: dequantize(t.data, t.tensor_type).reshape(t.shape[::-1])
        for t in GGUFReader(write_float(folder, tmp_path / "exact.gguf", "F32")).tensors
    }
    norm = np.frombuffer(made["blk.1.attn_norm.weight"], np.float32)
    assert not np.allclose(norm, exact["blk.1.attn_norm.weight"], rtol=1e-3)
    raw = np.frombuffer(made["blk.1.attn_q.weight"], np.uint8).reshape(256, -1)
    back = dequantise_rows(raw, TENSOR_TYPES["Q4_0"]) * norm
    wanted = exact["blk.1.attn_q.weight"] * exact["blk.1.attn_norm.weight"]
    assert np.linalg.norm(back - wanted) < 0.3 * np.linalg.norm(wanted)


class Everywhere:
    """One grid for all matrices of the layers."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def grid(self, name: str, shape: tuple[int, ...]) -> Grid | None:
        kind = self._kind
        if name in ("model.embed_tokens.weight", "lm_head.weight"):
            return None
        return NBitsGrid(4, 32) if kind == "INT4" else grid_of(TENSOR_TYPES[kind], shape[-1])

    def holds(self, _name: str) -> bool:
        return True


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["Q4_0", "INT4"])
def test_more_effort_is_closer_on_a_text_that_it_has_not_seen(tmp_path: Path, kind: str) -> None:
    """The sample model's KL divergence, against each matrix rounded by its format's quantiser."""
    checkpoint, judged, text = sample_texts()
    exact = reference_logits(checkpoint, judged)
    plain = rounded_logits(checkpoint, judged, by_itself(checkpoint, text, Everywhere(kind)))
    divergence = compare(exact, plain, judged).mean_kl
    state = State(tmp_path)
    made = dict(walk(checkpoint, text, EFFORTS[NORMAL], Everywhere(kind), state, Silent()))
    found = rounded_logits(checkpoint, judged, made)
    assert compare(exact, found, judged).mean_kl < 0.7 * divergence


@pytest.mark.thorough
def test_making_up_for_the_layers_before_is_closer_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, judged, text = sample_texts()
    exact = reference_logits(checkpoint, judged)

    def divergence(folder: Path) -> float:
        folder.mkdir()
        effort, grid = EFFORTS[NORMAL], Everywhere("Q2_K")
        made = dict(walk(checkpoint, text, effort, grid, State(folder), Silent()))
        return compare(exact, rounded_logits(checkpoint, judged, made), judged).mean_kl

    found = divergence(tmp_path / "with")
    monkeypatch.setattr(layerwise, "Correction", lambda i: Correction(Inputs(i.halves[:1])))
    assert found < 0.85 * divergence(tmp_path / "without")


def by_itself(
    checkpoint: Checkpoint, text: Sequence[Sequence[int]], format_: Format
) -> dict[str, Levels | Array]:
    """Round each matrix with the importance of its columns and nothing else."""
    forward, made = Forward(checkpoint), dict[str, Levels | Array]()
    hidden = [Hidden(x, x) for x in map(forward.embed, text)]
    for i in range(forward.layers):
        layer = Layer(forward, describe(checkpoint.config), i, hidden)
        modules = [n.removesuffix(".weight") for n, w in layer.floats.items() if w.ndim == 2]
        for name, hessian in layer.hessians(modules).items():
            rows = layer.floats[f"{name}.weight"]
            grid = format_.grid(name, rows.shape)
            assert grid
            values = grid.nearest(rows, np.diag(hessian).copy())
            made[f"{layer.prefix}{name}.weight"] = values
        hidden = layer.outputs()
    return made


def rounded_logits(
    checkpoint: Checkpoint, ids: Sequence[int], made: Mapping[str, Levels | Array]
) -> Array:
    """Return the logits of the float32 forward pass with other tensors in the layers."""
    forward = Forward(checkpoint)
    hidden = forward.embed(ids)
    for i in range(forward.layers):
        weights = forward.weights(i)
        for name in weights:
            found = made.get(forward.prefix(i) + name)
            if isinstance(found, Rounded):
                weights[name] = found.values
            elif found is not None:
                assert not isinstance(found, Levels)
                weights[name] = found
        hidden = forward.layer(i, weights, hidden)
    return forward.logits(hidden)


@pytest.mark.thorough
@pytest.mark.engine
def test_a_bundle_holds_what_was_rounded(tmp_path: Path) -> None:
    """GGUF and ONNX: what the cache keeps of the rounding is what stands in the files."""
    folder = write_checkpoint(tmp_path / "m", num_hidden_layers=2)
    (tmp_path / "notes.txt").write_text("A Raspberry Pi has 4 cores. " * 40)
    plan = make_plan(
        read_config(folder), "1gb", tiers()["1gb"], "Q4_0", 256, onnx="INT4", importance=True
    )
    job = Job(
        plan, tmp_path / "b", replace=False, threads=1, calibration=str(tmp_path / "notes.txt"),
        effort=EFFORTS[NORMAL],
    )  # fmt: skip
    bundle = convert(source_of(folder), job, engines_of(open_onnx), Silent())
    made = {path.stem: path.read_bytes() for path in cache.folder().glob("*.layers/*.bin")}
    stored = tensors(tmp_path / "b" / "m-Q4_0.gguf")
    assert len(made) == 2 * 9 + 1
    assert {name: stored[name][1] for name in made} == made
    assert [a.quantisation for a in bundle.manifest.artifacts] == ["Q4_0", "INT4"]
    for artifact in bundle.manifest.artifacts:
        assert artifact.certificate
        error = artifact.certificate.logit_error
        assert error is not None
        assert error < 0.7  # matrices that do not belong together differ by all of the spread
    graph = onnx.load(tmp_path / "b" / "m-onnx-int4" / "model.onnx").graph
    levels = {each.name: each for each in graph.initializer}
    for name in ("model.layers.1.mlp.down_proj", "model.embed_tokens"):
        (path,) = cache.folder().glob(f"*.layers/{name}.weight.npz")
        with np.load(path) as found:
            scales = to_array(levels[f"{name}.scales"])
            np.testing.assert_array_equal(scales, found["scales"])


def test_an_effort_needs_a_text(call: Pitool, tiny_checkpoint: Path) -> None:
    order = ("convert", tiny_checkpoint, "--ram", "1gb", "--dry-run", "--effort")
    without = call(*order, "normal", "--calibration", "none")
    assert without.code == 2
    assert "needs a calibration text, but --calibration is 'none'" in without.err
    unknown = call(*order, "bets")
    assert unknown.code == 2
    assert "best" in unknown.sentence


def test_the_plan_says_how_long_it_takes(call: Pitool, tiny_checkpoint: Path) -> None:
    order = ("convert", tiny_checkpoint, "--ram", "1gb", "--dry-run", "--quant", "Q4_0")
    assert "error feedback" in call(*order, "--effort", "best").err
    assert "error feedback" not in call(*order).err
