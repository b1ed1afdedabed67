"""The assumption on onnxruntime's speeds: by hand on a made-up board, and its range."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pitool.catalog import tables
from pitool.catalog.boards import Board, boards
from pitool.planning.formats import ONNX
from pitool.planning.formats.base import PlannedModel
from pitool.planning.formats.onnx import assumed
from pitool.planning.memory import Load
from pitool.planning.onnx_weights import ONNX_QUANTISATIONS
from pitool.planning.places import Place
from pitool.planning.speed import NONE, Correction, Estimate
from tests.planning.shapes import shape

PI5, PI4 = boards()["pi5"], boards()["pi4b"]
ROWS, COLUMNS, VOCABULARY = 4096, 1024, 8192
TIED = shape(
    num_hidden_layers=1, hidden_size=COLUMNS, intermediate_size=ROWS, num_attention_heads=8,
    num_key_value_heads=8, vocab_size=VOCABULARY, tie_word_embeddings=True,
)  # fmt: skip
BODY = 4 * COLUMNS * COLUMNS + 3 * ROWS * COLUMNS


def predicted(kind: str, board: Board, correction: Correction = NONE) -> Estimate:
    place = Place("", "", 0, 0, {"b": board})
    model = PlannedModel("", TIED)
    made = ONNX.artifact(model, ONNX_QUANTISATIONS[kind], place, Load(512), correction)
    (found,) = made.estimates
    return found


def test_a_decode_is_bandwidth_over_bytes_by_hand() -> None:
    """Blocks of 32 weights at 4 bits and a float32 scale: 20 bytes; two norms and a last one."""
    board = replace(PI5, bandwidth_gbs=10.0, prefill_gflops=1e9)
    streamed = (BODY + VOCABULARY * COLUMNS) // 32 * 20 + 3 * COLUMNS * 4
    found = predicted("INT4", board)
    assert found.decode == pytest.approx(10e9 / streamed)
    cache = 2 * 512 * COLUMNS * 4
    assert found.decode_full == pytest.approx(10e9 / (streamed + cache))
    assert found.bound == "memory"
    floats = 4 * (BODY + VOCABULARY * COLUMNS + 3 * COLUMNS)
    assert predicted("FP32", board).decode == pytest.approx(10e9 / floats)


def test_a_prefill_is_products_over_the_rate_by_hand() -> None:
    """llama.cpp's rates: of 8-bit weights for quantised ones, of F16 for the others."""
    board, costs = replace(PI4, prefill_gflops=20.0), PI4.costs.plain
    assert predicted("INT4", board).prefill == pytest.approx(20e9 / (2 * BODY) / costs["Q8_0"])
    assert predicted("FP32", board).prefill == pytest.approx(20e9 / (2 * BODY) / costs["F16"])
    fast = replace(PI5, prefill_gflops=20.0)
    faster = 20e9 / (2 * BODY) / PI5.costs.interleaved["Q8_0"]
    assert predicted("INT4", fast).prefill == pytest.approx(faster)
    assert predicted("INT4", replace(PI4, prefill_gflops=0.001)).bound == "products"


@pytest.mark.parametrize("kind", ONNX_QUANTISATIONS)
@pytest.mark.parametrize("board", boards().values(), ids=boards())
def test_the_range_is_wider_than_that_of_fitted_figures(kind: str, board: Board) -> None:
    found = predicted(kind, board)
    assert found.decode_error >= max(board.decode_error, assumed().decode_error)
    assert found.prefill_error >= max(board.prefill_error, assumed().prefill_error)
    assert 0 < found.decode_range[0] < found.decode < found.decode_range[1]
    assert found.decode_full <= found.decode


def test_what_a_bench_taught_corrects_it() -> None:
    plain, learnt = predicted("INT4", PI5), predicted("INT4", PI5, Correction(0.5, 0.8))
    assert learnt.decode == pytest.approx(0.8 * plain.decode)
    assert learnt.prefill == pytest.approx(0.5 * plain.prefill)


def test_every_assumption_says_where_it_is_from() -> None:
    found = assumed()
    assert set(found.sources) == {"decode_error", "prefill_error"}
    assert all("derived" in source for source in found.sources.values())


def test_the_package_has_every_table_of_recipes() -> None:
    project = tables.read_toml(tables.recipes_folder().parent / "pyproject.toml")
    packed = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    names = {f"recipes/{path.name}" for path in tables.recipes_folder().glob("*.toml")}
    assert len(names) >= 7
    assert names <= set(packed)
