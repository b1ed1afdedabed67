"""Types under a byte budget: against every combination tried, and against ggml's own quantiser."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType, dequantize, quantize
from hypothesis import given
from hypothesis import strategies as st

from pitool.catalog.gguf import padded, read_header
from pitool.catalog.model_shape import TensorShape
from pitool.catalog.profiles import find_profile
from pitool.catalog.tensor_types import QUANTISATIONS, TENSOR_TYPES, TensorType
from pitool.convert.gguf import importance, losses
from pitool.convert.gguf.fitting import Fitting, Options, TypeOption, allocate, options_of
from pitool.convert.gguf.quantise import quantise
from pitool.errors import DoesNotFit
from pitool.planning.formats.base import PlannedModel
from pitool.planning.memory import Load
from pitool.planning.planner import Planner
from pitool.planning.report import find_places
from pitool.planning.shapes import typical_shape
from tests.convert.helpers import write_float
from tests.tiny import write_checkpoint

KINDS = [TENSOR_TYPES[name] for name in ("Q2_K", "Q4_K", "Q6_K", "Q8_0")]
rows = st.lists(st.floats(1e-6, 1), min_size=4, max_size=4).map(lambda x: sorted(x, reverse=True))


def choices(losses_: list[list[float]], weights: list[int]) -> dict[str, list[TypeOption]]:
    return {
        f"t{i}": [
            TypeOption(kind, kind.block_bytes * (256 // kind.block) * weight, loss)
            for kind, loss in zip(KINDS, row, strict=True)
        ]
        for i, (row, weight) in enumerate(zip(losses_, weights, strict=True))
    }


@given(
    table=st.lists(rows, min_size=1, max_size=4),
    weights=st.lists(st.integers(1, 5), min_size=4, max_size=4),
    share=st.floats(0, 1),
)
def test_within_the_budget_and_the_best_of_all(
    table: list[list[float]], weights: list[int], share: float
) -> None:
    options = choices(table, weights[: len(table)])
    least = sum(row[0].bytes for row in options.values())
    most = sum(row[-1].bytes for row in options.values())
    budget = int(least + share * (most - least))
    types, loss, bound = allocated(options, budget)
    taken = [next(c for c in options[n] if c.type is kind) for n, kind in types.items()]
    assert sum(c.bytes for c in taken) <= budget
    tried = itertools.product(*options.values())
    best = min(sum(c.loss for c in t) for t in tried if sum(c.bytes for c in t) <= budget)
    assert loss == pytest.approx(sum(c.loss for c in taken))
    assert loss == pytest.approx(best)
    assert bound <= loss


def allocated(
    options: Options, budget: int, seconds: Sequence[float] = ()
) -> tuple[dict[str, TensorType], float, float]:
    """Return what is allocated, of which there is something."""
    found = allocate(options, budget, seconds)
    assert found is not None
    return found


def test_all_the_room_is_used() -> None:
    options = choices([[1.0, 0.5, 0.2, 0.1]] * 3, [1, 1, 1])
    assert set(allocated(options, 10**9)[0].values()) == {TENSOR_TYPES["Q8_0"]}


def test_too_small_a_budget_is_refused_with_the_numbers() -> None:
    with pytest.raises(DoesNotFit, match=r"the smallest types need 252 B.*larger --size"):
        allocate(choices([[1, 1, 1, 1]] * 3, [1, 1, 1]), 251)


def test_seconds_are_a_budget_of_their_own() -> None:
    """The smallest type is the slowest here, as Q3_K is without a fast kernel."""
    slow, fast = (
        TypeOption(TENSOR_TYPES["Q3_K"], 110, 1.0, (4.0, 1.0)),
        TypeOption(TENSOR_TYPES["Q4_K"], 144, 0.5, (1.0, 1.5)),
    )
    options = {"a": [slow, fast], "b": [slow, fast]}
    assert allocate(options, 230, (5.0, 9.0)) is None  # one fast one takes 254 bytes
    types, loss, _ = allocated(options, 260, (5.0, 9.0))
    assert sorted(kind.name for kind in types.values()) == ["Q3_K", "Q4_K"]
    assert loss == 1.5
    assert allocate(options, 300, (2.0, 2.9)) is None


@pytest.mark.thorough
@pytest.mark.parametrize("board", ["pi5-8gb", "pi4b-8gb"])
@pytest.mark.parametrize("share", [0.75, 1.0])
def test_a_speed_that_is_asked_for_is_what_the_plan_says(board: str, share: float) -> None:
    """Asked of every type as large as can be, the plan's own prediction is the judge."""
    key, _, ram = board.rpartition("-")
    (place,) = find_places(ram, key)
    planner = Planner(PlannedModel("", typical_shape(1e9)), find_profile("balanced"), Load(1024))
    usual = planner.row(QUANTISATIONS["Q4_K_M"], place).slowest
    row = Fitting(planner, place, None, usual * share).planned()
    assert row.slowest >= usual * share * (1 - 1e-9)
    # Not much faster than it must be, since every bit is worth something.
    assert row.slowest < usual * share * 1.02


def test_a_speed_that_nothing_reaches_is_refused_with_what_is_reached() -> None:
    (place,) = find_places("8gb", "pi4b")
    planner = Planner(PlannedModel("", typical_shape(7e9)), find_profile("balanced"), Load(1024))
    with pytest.raises(
        DoesNotFit, match=r"no types reach 99\.0 tokens/s.*the smallest reach 1\.\d"
    ):
        Fitting(planner, place, None, 99.0).planned()


def test_layers_are_measured_in_bands() -> None:
    names = [f"blk.{i}.{part}.weight" for i in range(30) for part in ("attn_q", "ffn_up")]
    names.append("token_embd.weight")
    assert [len(group) for group in losses.groups(names)] == [30, 30, 1]
    banded = losses.groups(names, 3)
    assert sorted(map(len, banded)) == [1, 10, 10, 10, 10, 10, 10]
    assert [banded[0][0], banded[0][-1]] == ["blk.0.attn_q.weight", "blk.9.attn_q.weight"]
    assert losses.groups(names[:4], 3) == [[name] for name in names[:4]]


def test_a_tensor_that_llama_cpp_keeps_is_not_chosen_for() -> None:
    assert losses.candidates(TensorShape("blk.0.attn_norm.weight", (256,))) == ()
    assert losses.candidates(TensorShape("blk.0.attn_q.weight", (8, 48))) == ()
    names = {k.name for k in losses.candidates(TensorShape("blk.0.attn_q.weight", (8, 576)))}
    assert names == set(losses.SMALL_BLOCKS)


def test_losses_are_the_weighted_error_of_ggufs_own_quantiser(tmp_path: Path) -> None:
    """Q8_0 needs no importance to round, so gguf's numpy quantiser gives the same weights."""
    folder = write_checkpoint(tmp_path / "c", kind="F32", num_hidden_layers=1)
    path = write_float(folder, tmp_path / "c.gguf", "F32")
    rng = np.random.default_rng(0)
    name = "blk.0.ffn_down.weight"
    columns = rng.uniform(0, 3, (1, 512)).astype(np.float32)
    matrix = importance.ImportanceMatrix({name: columns}, 1, "t")
    found = losses.measure_losses(path, matrix, lambda _: None)
    import gguf

    tensor = next(t for t in gguf.GGUFReader(path).tensors if t.name == name)
    w = np.array(tensor.data, np.float64).reshape(256, 512)
    kind = GGMLQuantizationType.Q8_0
    rounded = dequantize(quantize(w.astype(np.float32), kind), kind)
    expected = ((w - rounded) ** 2 * columns).sum() / (w**2 * columns).sum()
    assert found[name]["Q8_0"] == pytest.approx(expected, rel=1e-3)
    assert list(found[name]) == list(losses.CANDIDATES)
    assert found[name]["Q2_K"] > found[name]["Q4_K"] > found[name]["Q6_K"] > found[name]["Q8_0"]


@pytest.mark.thorough
@pytest.mark.engine
@pytest.mark.parametrize("changes", [{}, {"hidden_size": 288, "num_attention_heads": 9,
                                          "num_key_value_heads": 3}])  # fmt: skip
def test_llama_cpp_writes_the_chosen_types_and_the_predicted_size(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    folder = write_checkpoint(tmp_path / "c", **changes)
    exact = write_float(folder, tmp_path / "c.gguf", "BF16")
    header = read_header(exact)
    shapes = [TensorShape(t.name, t.shape) for t in header.tensors]
    measured = losses.measure_losses(exact, None, lambda _: None)
    options = options_of(shapes, lambda t, k: measured[t.name][k.name])
    budget = sum(row[len(row) // 2].bytes for row in options.values())
    types = allocated(options, budget)[0]
    made = tmp_path / "made.gguf"
    quantise(exact, made, QUANTISATIONS["Q4_K_M"], 1, types=types)
    stored = {t.name: t.type for t in read_header(made).tensors}
    assert {name: stored[name] for name in types} == types
    assert len(set(types.values())) > 1
    predicted = exact.stat().st_size + sum(
        padded(stored[t.name].size(t.shape)) - padded(t.bytes) for t in header.tensors
    )
    assert made.stat().st_size == predicted
    taken = sum(next(c.bytes for c in options[n] if c.type is k) for n, k in types.items())
    assert 0.99 * budget < taken <= budget


@pytest.mark.engine
def test_the_importance_matrix_lowers_the_weighted_error(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "c", kind="F32", num_hidden_layers=1)
    exact = write_float(folder, tmp_path / "c.gguf", "F32")
    name = "blk.0.ffn_up.weight"
    columns = np.ones((1, 256), np.float32)
    columns[0, ::4] = 1000
    importance.write(tmp_path / "m.gguf", importance.ImportanceMatrix({name: columns}, 512, "t"))
    errors = []
    import gguf

    for matrix in (None, tmp_path / "m.gguf"):
        made = tmp_path / f"{matrix is None}.gguf"
        quantise(exact, made, QUANTISATIONS["Q4_K_S"], 1, importance=matrix)
        before, after = (
            next(t for t in gguf.GGUFReader(p).tensors if t.name == name) for p in (exact, made)
        )
        back = dequantize(np.array(after.data), after.tensor_type).reshape(-1, 256)
        difference = np.array(before.data).reshape(-1, 256) - back
        errors.append(float((difference**2 * columns).sum()))
    assert errors[1] < 0.9 * errors[0]
