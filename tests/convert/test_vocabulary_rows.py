"""Embedding and head with error feedback: what they gain, and what the layers get of it."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, dequantize
from numpy.typing import NDArray

from pitool.catalog.tensor_types import TENSOR_TYPES
from pitool.checkpoint.source import Checkpoint
from pitool.convert import vocabulary_rows
from pitool.convert.calibrated_layer import Hidden
from pitool.convert.effort import EFFORTS, NORMAL
from pitool.convert.feedback import Grid, Levels
from pitool.convert.gguf.feedback import TypeGrid, grid_of, pack
from pitool.convert.layerwise import State, walk
from pitool.convert.numpy_forward import Forward
from pitool.convert.vocabulary_rows import Made
from pitool.report.progress import Silent
from tests.convert.helpers import checkpoint_of, sample_texts
from tests.tiny import write_checkpoint

Array = NDArray[np.float32]
EFFORT = EFFORTS[NORMAL]
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
WINDOWS = np.random.default_rng(1).integers(3, 500, (8, 64)).tolist()


def q4_0(name: str, shape: tuple[int, ...]) -> TypeGrid | None:
    assert name in (EMBEDDING, HEAD)
    return grid_of(TENSOR_TYPES["Q4_0"], shape[-1])


def opened(folder: Path, *, tied: bool) -> tuple[Checkpoint, Forward, Array]:
    """Return a tiny checkpoint, its forward pass, and the float matrix of its head."""
    checkpoint = checkpoint_of(write_checkpoint(folder / "m", tie_word_embeddings=tied))
    forward = Forward(checkpoint)
    return checkpoint, forward, forward.head[1].float32()


def weights(made: Made) -> Array:
    """Return what gguf's reader makes of the bytes that are written."""
    name, found = made
    grid = q4_0(name, found.levels.shape)
    assert grid
    values: Array = dequantize(pack(found, grid), GGMLQuantizationType.Q4_0)
    return values


def finals(forward: Forward, hidden: list[Array]) -> Array:
    """Return what the head multiplies, of all tokens."""
    for i in range(forward.layers):
        weights = forward.weights(i)
        hidden = [forward.layer(i, weights, x) for x in hidden]
    return np.concatenate([forward.final(x) for x in hidden])


@pytest.mark.thorough
def test_a_head_that_is_the_embedding_is_rounded_for_its_inputs() -> None:
    """On windows that were not read its logits are closer than those of the nearest levels."""
    checkpoint, judged, text = sample_texts()
    forward = Forward(checkpoint)
    float_head = forward.head[1].float32()
    made, hidden = vocabulary_rows.embed(forward, text, EFFORT, q4_0, Silent(), tied=True)
    assert made
    name, rounded = made[0], weights(made)
    assert name == EMBEDDING
    np.testing.assert_allclose(hidden[0].rounded, rounded[text[0]], rtol=1e-6)
    np.testing.assert_allclose(hidden[0].exact, float_head[text[0]], rtol=1e-6)
    read = finals(forward, [forward.embed(window) for window in text])
    grid = q4_0(name, float_head.shape)
    assert grid
    nearest = grid.nearest(float_head, np.square(read).mean(0))
    x = finals(forward, [forward.embed(judged)])
    lost = np.square(x @ (rounded - float_head).T).sum()
    assert lost < 0.8 * np.square(x @ (nearest - float_head).T).sum()


def test_an_embedding_alone_has_the_nearest_levels(tmp_path: Path) -> None:
    _, forward, _ = opened(tmp_path, tied=False)
    made, hidden = vocabulary_rows.embed(forward, WINDOWS, EFFORT, q4_0, Silent(), tied=False)
    assert made
    floats = forward.embedding[1].float32()
    grid = q4_0(EMBEDDING, floats.shape)
    assert grid
    nearest = grid.nearest(floats, np.ones(floats.shape[1], np.float32))
    rounded = weights(made)
    assert np.square(rounded - floats).sum() <= np.square(nearest - floats).sum()
    np.testing.assert_allclose(hidden[1].rounded, rounded[WINDOWS[1]], rtol=1e-6)


def test_a_head_of_its_own_makes_up_for_the_layers(tmp_path: Path) -> None:
    """Its rounded weights give, for inputs that are off, what the float head gives for right ones.

    The inputs are off by a tenth of the others in each window, as layers that lost something are.
    """
    _, forward, float_head = opened(tmp_path, tied=False)
    hidden = [forward.embed(window) for window in WINDOWS]
    columns = hidden[0].shape[1]
    mixed = np.eye(columns) + 0.1 * np.random.default_rng(2).standard_normal((columns, columns))
    seen = [Hidden(x, (x @ mixed).astype(np.float32)) for x in hidden]
    (found,) = vocabulary_rows.round_head(forward, seen[:6], EFFORT, q4_0, Silent())
    assert found[0] == HEAD

    def lost(head: Array) -> float:
        pairs = [(forward.final(x.exact), forward.final(x.rounded)) for x in seen[6:]]
        return sum(float(np.square(f @ float_head.T - x @ head.T).sum()) for f, x in pairs)

    assert lost(weights(found)) < lost(float_head)


def test_no_more_is_held_than_the_floats_of_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A vocabulary has more rows than a layer: levels and scales are held, not weights."""
    size = 16_384
    folder = write_checkpoint(tmp_path / "m", tie_word_embeddings=False, vocab_size=size)
    forward = Forward(checkpoint_of(folder))
    monkeypatch.setattr(vocabulary_rows, "SLAB", 1 << 16)
    tracemalloc.start()
    made, _ = vocabulary_rows.embed(forward, WINDOWS, EFFORT, q4_0, Silent(), tied=False)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert made
    assert made[1].levels.shape[0] == size
    assert most < 4 * made[1].levels.size


class Tables:
    """A format that rounds embedding and head alone."""

    def grid(self, name: str, shape: tuple[int, ...]) -> Grid | None:
        return q4_0(name, shape) if name in (EMBEDDING, HEAD) else None

    def holds(self, _name: str) -> bool:
        return True


@pytest.mark.parametrize("tied", [True, False])
def test_the_walk_makes_them_once_each(tmp_path: Path, *, tied: bool) -> None:
    checkpoint, forward, _ = opened(tmp_path, tied=tied)
    state = State(tmp_path)
    made = list(walk(checkpoint, WINDOWS, EFFORT, Tables(), state, Silent()))
    names = [name for name, each in made if isinstance(each, Levels)]
    assert names == ([EMBEDDING] if tied else [EMBEDDING, HEAD])
    assert list(walk(checkpoint, WINDOWS, EFFORT, Tables(), state, Silent())) == []
    assert state.load() == (forward.layers + 1, [])


def test_a_walk_that_ends_at_the_head_goes_on_there(tmp_path: Path) -> None:
    checkpoint, _, _ = opened(tmp_path, tied=False)
    tables, state = Tables(), State(tmp_path)
    for name, _ in walk(checkpoint, WINDOWS, EFFORT, tables, state, Silent()):
        if name == HEAD:
            break  # before it is asked for more, as where the power fails
    again = walk(checkpoint, WINDOWS, EFFORT, tables, state, Silent())
    assert [name for name, _ in again] == [HEAD]
