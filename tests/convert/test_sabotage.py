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


@pytest.mark.thorough
def test_without_a_mistake_both_formats_are_certified(gemma2: Path, tmp_path: Path) -> None:
    bundle = sabotage.convert_as(gemma2, tmp_path / "b", gguf="F16", onnx="FP32")
    for artifact in bundle.manifest.artifacts:
        assert artifact.certificate
        assert artifact.certificate.verified
        assert artifact.certificate.reference == "model in pitool's own forward pass, float32"
        most = {"F16": 0.02, "FP32": 1e-4}[artifact.quantisation]
        assert artifact.certificate.logit_error is not None
        assert artifact.certificate.logit_error < most


@pytest.mark.thorough
@pytest.mark.parametrize("mistake", sabotage.MISTAKES["gguf"])
@pytest.mark.parametrize(
    ("form", "quantisation"),
    [("gguf", "F16"), ("gguf", "Q4_0"), ("onnx", "FP16"), ("onnx", "INT4")],
)
def test_a_mistake_of_a_writer_is_found(
    gemma2: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    form: str,
    quantisation: str,
    mistake: str,
) -> None:
    sabotage.MISTAKES[form][mistake](monkeypatch)
    with pytest.raises(PitoolError, match=FOUND):
        sabotage.convert_as(gemma2, tmp_path / "b", **{form: quantisation})
    assert not (tmp_path / "b").exists()
