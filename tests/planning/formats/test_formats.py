"""The table of formats: nothing else in the package asks which of them something is."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import pitool
from pitool.catalog.profiles import find_profile
from pitool.catalog.tensor_types import QUANTISATIONS, TENSOR_TYPES, Quantisation, TensorType
from pitool.errors import UsageError
from pitool.planning.formats import FORMATS, GGUF, ONNX, find_format, format_of_engine
from pitool.planning.formats.base import PlannedFormat, PlannedModel
from pitool.planning.formats.gguf import GgufPlan
from pitool.planning.memory import Load
from pitool.planning.places import tier_places
from pitool.planning.planner import Planner
from pitool.planning.shapes import typical_shape

PACKAGE = Path(pitool.__file__).parent
MODEL = PlannedModel("", typical_shape(1e9))


def comparisons(tree: ast.AST) -> Iterator[int]:
    """Yield the lines on which something is compared with the name of a format."""
    for node in ast.walk(tree):
        compared: list[ast.expr] = []
        if isinstance(node, ast.Compare):
            compared = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            compared = [node.value]
        for each in compared:
            parts = each.elts if isinstance(each, ast.Tuple | ast.List | ast.Set) else [each]
            if any(isinstance(p, ast.Constant) and p.value in FORMATS for p in parts):
                yield each.lineno


@pytest.mark.thorough
def test_nothing_compares_with_the_name_of_a_format() -> None:
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 100
    found = [
        f"{path.relative_to(PACKAGE)}:{line}"
        for path in files
        for line in comparisons(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert found == []


@pytest.mark.parametrize(
    "code", ['x == "gguf"', '"onnx" != x', 'x in ("onnx", "script")', 'not x in ["gguf"]']
)
def test_a_comparison_would_be_seen(code: str) -> None:
    assert list(comparisons(ast.parse(code))) == [1]


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_every_format_plans_its_own_quantisations(form: PlannedFormat) -> None:
    planner = Planner(MODEL, find_profile("balanced"), Load(2048))
    place = tier_places()[-1]
    for name, kind in form.quantisations.items():
        assert form.knows(name.lower())
        assert form.find(name.lower()) == kind
        row = planner.row(kind, place)
        assert row.artifact.format == form.name
        assert (
            row.artifact.memory.total == sum(line.bytes for line in row.artifact.memory.lines) > 0
        )
        assert row.peak >= row.artifact.memory.total
        assert row.longest_context >= 2048
    named = {*form.common, *form.summed, *form.timed, *form.beside, *form.by_bits}
    assert named <= set(form.quantisations)
    assert {kind.name for kind in form.usual(MODEL)} == set(form.common)
    with pytest.raises(UsageError, match="did you mean"):
        form.find(f"{form.common[0]}X")


def test_a_format_is_found_by_its_name_and_by_its_engine() -> None:
    assert [find_format(name) for name in FORMATS] == [GGUF, ONNX]
    assert format_of_engine("llamacpp") is GGUF
    assert format_of_engine("onnx") is ONNX
    assert format_of_engine("scripted").title == "scripted"


def test_a_tensor_type_from_outside_is_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row in each table is all that it takes."""
    monkeypatch.setitem(TENSOR_TYPES, "Q4_X", TensorType("Q4_X", 99, 32, 17))
    monkeypatch.setitem(QUANTISATIONS, "Q4_X", Quantisation("Q4_X", 99, "Q4_X"))
    planner = Planner(MODEL, find_profile("balanced"), Load(2048))
    place = tier_places()[-1]
    own, eight = (planner.row(GGUF.find(name), place) for name in ("q4_x", "Q8_0"))
    assert own.artifact.bytes < eight.artifact.bytes
    assert isinstance(own.artifact, GgufPlan)
    layer = next(t for t in own.artifact.tensors if t.tensor.name == "blk.0.ffn_up.weight")
    assert layer.bytes == layer.tensor.weights // 32 * 17
