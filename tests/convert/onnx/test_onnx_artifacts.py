"""ONNX in the pipeline: folders, certificates and the reference of families not known here."""

from __future__ import annotations

from pathlib import Path

import pytest

from pitool.catalog.bundles import Bundle, choose
from pitool.catalog.onnx import read_folder
from pitool.catalog.tiers import tiers
from pitool.checkpoint.config import read_config
from pitool.convert import forward
from pitool.convert.conversion import Job
from pitool.convert.pipeline import convert
from pitool.convert.plan import make_plan
from pitool.engine import worker
from pitool.engine.base import Settings
from pitool.errors import PitoolError
from pitool.report.progress import Silent
from tests.convert.helpers import engines_of, names, source_of
from tests.tiny import write_checkpoint

pytestmark = pytest.mark.engine


def open_onnx(path: Path, tokens: int) -> worker.WorkerEngine:
    settings = Settings(-(-tokens // 256) * 256, 1, 1, micro_batch=64, outputs=64)
    return worker.start("onnx" if path.is_dir() else "gguf", path, settings)


def convert_onnx(
    folder: Path, target: Path, onnx: str, *, gguf: str = "", worst: float | None = None
) -> Bundle:
    tier = tiers()["1gb"]
    plan = make_plan(read_config(folder), "1gb", tier, gguf, 512, onnx=onnx)
    job = Job(plan, target, replace=False, threads=1, worst_kl=worst)
    return convert(source_of(folder), job, engines_of(open_onnx), Silent())


@pytest.mark.thorough
def test_folders_are_whole_and_of_the_planned_size(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "m", num_hidden_layers=2, tie_word_embeddings=False)
    made = convert_onnx(source, tmp_path / "b", "FP32,INT8,INT8_DYNAMIC,INT4,INT4_B64")
    kinds = [a.quantisation for a in made.manifest.artifacts]
    assert kinds == ["FP32", "INT8", "INT8_DYNAMIC", "INT4", "INT4_B64"]
    assert names(tmp_path / "b") == {
        "manifest.json", "reference.npz", "m-onnx-fp32", "m-onnx-int8", "m-onnx-int8-dynamic",
        "m-onnx-int4", "m-onnx-int4-b64",
    }  # fmt: skip
    plan = make_plan(read_config(source), "1gb", tiers()["1gb"], "", 512, onnx=",".join(kinds))
    for artifact, planned in zip(made.manifest.artifacts, plan.artifacts, strict=True):
        runnable = choose(made, artifact.quantisation)
        weights = sum(f.bytes for f in artifact.files if f.path.endswith(".data"))
        # Each of the tensors begins at a multiple of 4096 bytes.
        assert 0 <= weights - planned.tensor_bytes < 4096 * len(planned.tensors)
        assert {f.name for f in read_folder(runnable.entry).files} <= names(runnable.entry)
        assert artifact.context == 512
    losses = [a.certificate.mean_kl for a in made.manifest.artifacts if a.certificate]
    assert losses[0] < 1e-6
    assert losses[1] < losses[3] < losses[4]  # 8 bits, 4 bits, larger blocks


def test_the_reference_is_shared_with_the_gguf(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "m", num_hidden_layers=1)
    made = convert_onnx(source, tmp_path / "b", "FP32", gguf="F32")
    first, second = (a.certificate for a in made.manifest.artifacts)
    assert first
    assert second
    assert first.reference_perplexity == second.reference_perplexity
    assert first.perplexity == pytest.approx(second.perplexity, rel=1e-3)


def test_without_a_forward_pass_a_float_graph_is_the_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward, "covers", lambda _config: False)
    source = write_checkpoint(tmp_path / "m", num_hidden_layers=1)
    made = convert_onnx(source, tmp_path / "b", "INT8")
    assert names(tmp_path / "b") == {"manifest.json", "reference.npz", "m-onnx-int8"}
    (artifact,) = made.manifest.artifacts
    assert artifact.certificate
    assert artifact.certificate.reference == "the float ONNX graph of m in onnxruntime"
    assert not artifact.certificate.verified
    assert 0 < artifact.certificate.mean_kl < 0.01


def test_worse_than_asked_for_leaves_nothing(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "m", num_hidden_layers=1)
    with pytest.raises(PitoolError, match="INT4 has a mean KL divergence of"):
        convert_onnx(source, tmp_path / "b", "INT4", worst=1e-9)
    assert names(tmp_path) == {"m"}
