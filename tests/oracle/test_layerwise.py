"""A layer of every family whose input was changed: its matrices make up for it on its text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pitool.architectures.description import Description
from pitool.architectures.table import describe
from pitool.convert.calibrated_layer import Hidden, Layer
from pitool.convert.layerwise import unwalkable
from pitool.convert.numpy_forward import Forward
from pitool.convert.propagation import Correction, added
from tests.convert.helpers import checkpoint_of
from tests.oracle.cases import CASES

pytest.importorskip("torch")
pytest.importorskip("transformers")

Array = NDArray[np.float32]
# Fewer than the columns of any matrix, so that nothing is left where nothing hinders.
TOKENS = 12
# Of the two matrices whose results are added to the residual: experts, a parallel MLP and what a
# norm changes first are not made to make up for it.
FEWER = {
    "mixtral": 1, "olmoe": 1, "qwen3_moe": 1, "gpt_oss": 1, "stablelm-parallel": 1, "gpt_neox": 1,
    "exaone4": 0, "glm4": 0, "gemma2": 0, "gemma3": 0, "gemma3-linear": 0, "olmo2": 0,
}  # fmt: skip


def off(layer: Layer) -> float:
    """Return how far a layer's output is from the float model's."""
    hidden, _same = layer.outputs()
    return float(np.linalg.norm(hidden.rounded - hidden.exact))


@pytest.mark.parametrize("case", CASES)
def test_a_layer_makes_up_for_its_input(
    family_checkpoint: Callable[[str], Path], case: str
) -> None:
    checkpoint = checkpoint_of(family_checkpoint(case))
    if unwalkable(checkpoint.config):
        return
    model, forward = describe(checkpoint.config), Forward(checkpoint)
    rng = np.random.default_rng(0)
    exact = forward.embed(rng.integers(3, 500, TOKENS).tolist())
    noise = rng.standard_normal(exact.shape).astype(np.float32) * exact.std() * np.float32(0.02)
    layer = Layer(forward, model, 0, [Hidden(exact, exact + noise)] * 2)
    before = off(layer)
    written = matrices(layer, model)
    for name in written:
        inputs = layer.inputs([name])
        layer.rounded[f"{name}.weight"] = Correction(inputs, 1e-7).corrected(
            layer.floats[f"{name}.weight"]
        )
    assert len(written) == FEWER.get(case, 2)
    most = {2: 0.01, 1: 0.999, 0: 1.0}[len(written)]
    assert off(layer) <= before * most


def matrices(layer: Layer, model: Description) -> list[str]:
    """Return the matrices that are added to the residual, in the order of the data."""
    return [name for name, _norm in added(model, layer.index) if f"{name}.weight" in layer.floats]
