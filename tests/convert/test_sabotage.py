"""A writer's mistake is found by convert's own verification, in every format and without torch."""

from __future__ import annotations

from pathlib import Path

import pytest

from pitool.errors import PitoolError
from tests.convert import sabotage

pytestmark = pytest.mark.engine
FOUND = "differs from the checkpoint by .* more than rounding explains"


@pytest.fixture(scope="module")
def gemma2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sabotage.write_gemma2(tmp_path_factory.mktemp("gemma2") / "model")


def test_without_a_mistake_both_formats_are_certified(gemma2: Path, tmp_path: Path) -> None:
    bundle = sabotage.convert_as(gemma2, tmp_path / "b", gguf="F16", onnx="FP32")
    for artifact in bundle.manifest.artifacts:
        assert artifact.certificate
        assert artifact.certificate.verified
        assert artifact.certificate.reference == "model in pitool's own forward pass, float32"
        most = {"F16": 0.02, "FP32": 1e-4}[artifact.quantisation]
        assert artifact.certificate.logit_error is not None
        assert artifact.certificate.logit_error < most


@pytest.mark.parametrize("mistake", sabotage.GGUF)
@pytest.mark.parametrize("quantisation", ["F16", "Q4_0"])
def test_a_mistake_in_a_gguf_is_found(
    gemma2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mistake: str, quantisation: str
) -> None:
    sabotage.GGUF[mistake](monkeypatch)
    with pytest.raises(PitoolError, match=FOUND):
        sabotage.convert_as(gemma2, tmp_path / "b", gguf=quantisation)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("mistake", sabotage.ONNX)
@pytest.mark.parametrize("quantisation", ["FP16", "INT4"])
def test_a_mistake_in_a_graph_is_found(
    gemma2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mistake: str, quantisation: str
) -> None:
    sabotage.ONNX[mistake](monkeypatch)
    with pytest.raises(PitoolError, match=FOUND):
        sabotage.convert_as(gemma2, tmp_path / "b", onnx=quantisation)
    assert not (tmp_path / "b").exists()
