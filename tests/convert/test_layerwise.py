"""Rounding layer by layer: what it gains, that it can be broken off, and when it is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader, dequantize

from pitool.catalog.bundles import Bundle
from pitool.catalog.gguf import read_header
from pitool.catalog.tensor_types import TENSOR_TYPES
from pitool.catalog.tiers import tiers
from pitool.checkpoint.config import read_config
from pitool.checkpoint.source import find_source
from pitool.convert.conversion import Job
from pitool.convert.effort import BEST, EFFORTS, FAST, NORMAL
from pitool.convert.gguf.ggml import dequantise_rows
from pitool.convert.gguf.layers import round_layers
from pitool.convert.gguf.model import find_model
from pitool.convert.pipeline import convert
from pitool.convert.plan import make_plan
from pitool.report.progress import Silent
from tests.cli.conftest import Pitool
from tests.cli.conftest import call as call
from tests.convert.helpers import checkpoint_of, engines_of, write_float
from tests.convert.onnx.test_onnx_artifacts import open_onnx
from tests.tiny import write_checkpoint


class Broken(Silent):
    """Breaks off when so many layers are done."""

    def __init__(self, layers: int) -> None:
        self.left = layers

    def advance(self, count: int) -> None:
        self.left -= count
        if not self.left:
            raise KeyboardInterrupt


class Counting(Silent):
    """Says how many layers were done at once when the stage began."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def advance(self, count: int) -> None:
        self.steps.append(count)


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
    assert progress.steps == [2, 1]
    assert len([name for name in whole if ".weight" in name]) == 3 * 9  # seven matrices, two norms


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


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Bundle]:
    """Convert the sample at an effort, calibrated on a text that it is not judged on."""
    source = find_source("sample", "1gb")
    assert source.text
    text, root = source.text.read_text(encoding="utf-8"), tmp_path_factory.mktemp("efforts")
    (root / "calibration.txt").write_text(text[len(text) // 2 :])
    (root / "judged.txt").write_text(text[: len(text) // 2])
    source = replace(source, text=root / "judged.txt")
    made: dict[str, Bundle] = {}

    def give(effort: str) -> Bundle:
        if effort not in made:
            assert source.folder
            config, tier = read_config(source.folder), tiers()["1gb"]
            plan = make_plan(config, "1gb", tier, "Q4_0,Q4_K_M", 256, onnx="INT4")
            job = Job(
                plan, root / effort, replace=False, threads=1,
                calibration=str(root / "calibration.txt"), effort=EFFORTS[effort],
            )  # fmt: skip
            made[effort] = convert(source, job, engines_of(open_onnx), Silent())
        return made[effort]

    return give


@pytest.mark.engine
@pytest.mark.parametrize("kind", ["Q4_0", "Q4_K_M", "INT4"])
def test_more_effort_is_closer_at_the_same_types(
    bundles: Callable[[str], Bundle], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("PITOOL_FEEDBACK_TOKENS", "4096")
    monkeypatch.setenv("PITOOL_CALIBRATION_TOKENS", "4096")
    found = [
        next(a for a in bundles(effort).manifest.artifacts if a.quantisation == kind)
        for effort in (FAST, NORMAL)
    ]
    before, after = (each.certificate.mean_kl for each in found if each.certificate)
    assert after < 0.75 * before
    assert sum(f.bytes for f in found[0].files) == pytest.approx(
        sum(f.bytes for f in found[1].files), rel=1e-4
    )
    if kind != "INT4":
        paths = (next(bundles(effort).path.glob(f"*-{kind}.gguf")) for effort in (FAST, NORMAL))
        plain, made = ([(t.name, t.type, t.shape) for t in read_header(p).tensors] for p in paths)
        assert made == plain


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
    assert "error feedback takes about" in call(*order, "--effort", "best").err
    assert "error feedback" not in call(*order).err
