"""Error feedback: against the paper's algorithm, every choice, and plain rounding on the grid."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pitool.architectures.table import describe
from pitool.catalog.tensor_types import TENSOR_TYPES
from pitool.checkpoint.source import find_source, open_checkpoint
from pitool.convert import feedback
from pitool.convert.calibrated_layer import Hidden, Layer
from pitool.convert.feedback import Grid, Steps
from pitool.convert.gguf import feedback as types
from pitool.convert.gguf.ggml import dequantise_rows
from pitool.convert.gguf.levels import LAYOUTS
from pitool.convert.numpy_forward import Forward
from pitool.convert.onnx.feedback import NBitsGrid
from pitool.convert.techniques.rounding import IntegerMatrix

Array = NDArray[np.float32]
MODULES = ("self_attn.q_proj", "self_attn.o_proj", "mlp.down_proj")
GRIDS: dict[str, Grid] = {
    **{name: types.TypeGrid(TENSOR_TYPES[name], layout) for name, layout in LAYOUTS.items()},
    "INT4": NBitsGrid(4, 32),
    "INT8": NBitsGrid(8, 32),
}


@dataclass(frozen=True, slots=True)
class Even:
    """A grid of one step for all weights, four levels on either side."""

    block: int
    step: float = 0.5

    def steps(self, rows: Array, _importance: Array) -> Steps:
        values = np.arange(-4, 5, dtype=np.float32)
        scales = np.full(rows.T.shape, self.step, np.float32)
        return Steps(scales, None, values, even=True, stored=np.zeros(len(rows)))

    def nearest(self, rows: Array, _importance: Array) -> Array:
        made: Array = np.clip(np.rint(rows / self.step), -4, 4) * np.float32(self.step)
        return made


def correlated(columns: int, seed: int = 0) -> Array:
    """Return the Hessian of correlated inputs, some columns of which are large."""
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((columns, columns)) * 0.2 + np.eye(columns)
    inputs = rng.standard_normal((4 * columns, columns)) @ mixing
    inputs[:, ::11] *= 5
    return (inputs.T @ inputs / len(inputs)).astype(np.float32)


def damped(hessian: Array) -> NDArray[np.float64]:
    """Damp a Hessian as little as its factor needs: it is that of the inputs that are judged."""
    return feedback.damped(hessian, 0.01)


def weights(rows: int, columns: int, seed: int = 1) -> Array:
    return np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)


def test_it_is_gptq_column_by_column() -> None:
    """OBQ's update with the inverse of the remaining Hessian at each step, as GPTQ derives it."""
    hessian, rows = damped(correlated(96)), weights(6, 96)
    made = feedback.quantise(rows, hessian, Even(96)).values
    left, remaining = rows.astype(np.float64), list(np.argsort(-np.diag(hessian), kind="stable"))
    for column in list(remaining):
        inverse = np.linalg.inv(hessian[np.ix_(remaining, remaining)])
        rounded = np.clip(np.rint(left[:, column] / 0.5), -4, 4) * 0.5
        error = (left[:, column] - rounded) / inverse[0, 0]
        left[:, remaining] -= np.outer(error, inverse[0])
        np.testing.assert_array_equal(made[:, column], rounded)
        remaining = remaining[1:]


def test_the_factor_is_the_hessian() -> None:
    hessian = damped(correlated(64))
    factor = feedback.factorise(hessian, 32)
    m = factor.feedback.astype(np.float64)
    np.testing.assert_array_equal(np.triu(m), m)
    np.testing.assert_array_equal(np.diag(m), 1)
    ordered = hessian[np.ix_(factor.order, factor.order)]
    np.testing.assert_allclose(m * factor.weights @ m.T, ordered, rtol=1e-4, atol=1e-4)


def test_columns_stay_within_their_blocks() -> None:
    order = feedback.order_of(np.array([1, 9, 2, 3, 8, 7, 5, 6]), 2)
    assert order.tolist() == [4, 5, 7, 6, 1, 0, 3, 2]


@pytest.mark.thorough
@given(seed=st.integers(0, 1000), count=st.sampled_from([3, 5]))
@settings(max_examples=25)
def test_sweeps_end_between_the_best_of_all_and_feedback_alone(seed: int, count: int) -> None:
    hessian, rows = damped(correlated(count, seed)), weights(1, count, seed)
    alone, swept = (feedback.quantise(rows, hessian, Even(1), n).values for n in (0, 8))
    tried = itertools.product(np.arange(-4, 5) * 0.5, repeat=count)
    best = min(feedback.loss(rows, np.array([each], np.float32), hessian) for each in tried)
    last = feedback.loss(rows, swept, hessian)
    assert best - 1e-6 <= last <= feedback.loss(rows, alone, hessian) + 1e-6


@pytest.mark.parametrize("name", GRIDS)
def test_the_layers_error_is_below_plain_rounding_on_the_same_grid(name: str) -> None:
    grid, columns = GRIDS[name], max(2 * GRIDS[name].block, 96)
    hessian, rows = correlated(columns), weights(8, columns)
    plain = feedback.loss(rows, grid.nearest(rows, np.diag(hessian).copy()), hessian)
    made = feedback.quantise(rows, damped(hessian), grid)
    swept = feedback.quantise(rows, damped(hessian), grid, 2)
    assert feedback.loss(rows, made.values, hessian) < 0.8 * plain
    assert feedback.loss(rows, swept.values, hessian) < feedback.loss(rows, made.values, hessian)


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_bytes_are_the_weights_that_were_chosen(name: str) -> None:
    grid = GRIDS[name]
    assert isinstance(grid, types.TypeGrid)
    columns = 2 * grid.block
    made = feedback.quantise(weights(8, columns), damped(correlated(columns)), grid, 1)
    back = dequantise_rows(types.pack(made, grid), grid.kind)
    limit = 2 * np.finfo(np.float32).eps * np.abs(back).max()
    np.testing.assert_allclose(back, made.values, atol=limit, rtol=0)


@pytest.mark.parametrize("bits", [4, 8])
def test_the_levels_of_onnx_are_the_weights_that_were_chosen(bits: int) -> None:
    made = feedback.quantise(weights(8, 96), damped(correlated(96)), NBitsGrid(bits, 32))
    matrix = IntegerMatrix("m", made.levels, made.stored, None, bits, 32)
    np.testing.assert_allclose(matrix.values, made.values, rtol=1e-6)


@pytest.mark.parametrize("name", ["Q4_0", "Q8_0", "IQ4_NL", "Q4_K", "INT4"])
def test_a_block_of_zeros_stays_zero(name: str) -> None:
    rows = weights(4, 512)
    rows[:, :256] = 0
    made = feedback.quantise(rows, damped(np.eye(512, dtype=np.float32)), GRIDS[name], 1)
    np.testing.assert_array_equal(made.values[:, :256], 0)
    assert np.isfinite(made.values).all()


def test_a_matrix_without_inputs_is_rounded_all_the_same() -> None:
    rows = weights(4, 64)
    made = feedback.quantise(rows, damped(np.zeros((64, 64), np.float32)), GRIDS["Q4_0"])
    assert np.abs(made.values - rows).max() < 0.5


@pytest.fixture(scope="module")
def sample() -> tuple[Layer, dict[str, Array], dict[str, Array]]:
    """A layer of the sample model, with its inputs on one text and on the next."""
    from tokenizers import Tokenizer

    source = find_source("sample", "1gb")
    assert source.text
    checkpoint = open_checkpoint(source)
    tokenizer = Tokenizer.from_file(str(checkpoint.folder / "tokenizer.json"))
    ids = tokenizer.encode(Path(source.text).read_text(encoding="utf-8")).ids
    forward = Forward(checkpoint)

    def layer(first: int) -> Layer:
        starts = range(first, first + 2048, 512)
        hidden = [Hidden(x, x) for x in (forward.embed(ids[at : at + 512]) for at in starts)]
        return Layer(forward, describe(checkpoint.config), 0, hidden)

    here, there = (layer(first).hessians(MODULES) for first in (0, 2048))
    return layer(0), here, there


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["Q4_0", "Q8_0", "IQ4_NL", "Q5_1", "INT4", "INT8"])
@pytest.mark.parametrize("module", MODULES)
def test_on_a_real_layer_and_another_text_too(
    sample: tuple[Layer, dict[str, Array], dict[str, Array]], name: str, module: str
) -> None:
    layer, here, there = sample
    rows, grid = layer.floats[f"{module}.weight"], GRIDS[name]
    measured, other = here[module], there[module]
    plain = grid.nearest(rows, np.diag(measured).copy())
    made = feedback.quantise(rows, feedback.damped(measured), grid).values
    assert feedback.loss(rows, made, measured) < 0.9 * feedback.loss(rows, plain, measured)
    assert feedback.loss(rows, made, other) < feedback.loss(rows, plain, other)
