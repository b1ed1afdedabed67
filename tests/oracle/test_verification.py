"""Certificates against transformers: every family passes, and a misreading shared by all fails."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pitool.architectures.table import describe
from pitool.catalog.bundles import Bundle
from pitool.convert import forward
from pitool.convert.forward import OWN, open_forward
from pitool.errors import PitoolError
from tests.convert import sabotage
from tests.convert.helpers import checkpoint_of
from tests.oracle import cases as families

pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.usefixtures("with_transformers")

OF = f"transformers {transformers.__version__}"


@pytest.fixture(scope="module")
def gemma2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sabotage.write_gemma2(tmp_path_factory.mktemp("gemma2") / "model")


def references(bundle: Bundle) -> set[str]:
    return {a.certificate.reference for a in bundle.manifest.artifacts if a.certificate}


@pytest.mark.engine
def test_both_formats_are_compared_with_transformers(gemma2: Path, tmp_path: Path) -> None:
    bundle = sabotage.convert_as(gemma2, tmp_path / "b", gguf="F32", onnx="FP32")
    assert references(bundle) == {f"model in {OF}, float32"}


@pytest.mark.engine
@pytest.mark.parametrize("mistake", sabotage.MISREAD)
def test_a_misreading_is_found_by_transformers_alone(
    gemma2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mistake: str
) -> None:
    """Writers and pitool's own forward pass share it, so these certify each other."""
    sabotage.MISREAD[mistake](monkeypatch)
    with pytest.raises(PitoolError, match="more than rounding explains"):
        sabotage.convert_as(gemma2, tmp_path / "theirs", onnx="INT4")
    monkeypatch.setenv("PITOOL_REFERENCE", "pitool")
    own = sabotage.convert_as(gemma2, tmp_path / "own", onnx="FP32")
    assert references(own) == {f"model in {OWN}, float32"}


@pytest.mark.parametrize("case", families.CASES)
def test_matrix_by_matrix_gives_the_same_logits(
    family_checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    checkpoint = checkpoint_of(family_checkpoint(case))
    ids = np.random.default_rng(0).integers(0, 200, 40).tolist()
    found = []
    for large in (False, True):
        monkeypatch.setattr(forward, "is_large", lambda *_, large=large: large)
        with open_forward(checkpoint) as model:
            assert model
            assert model.of == OF
            layers: list[int] = []
            found.append(model.logits(ids, 0.0, functools.partial(layers.append, 1)))
            assert len(layers) == model.layers == describe(checkpoint.config).sizes.layers
    np.testing.assert_array_equal(found[0], found[1])
