"""How long a prompt waits: by hand from the prediction, the shape and what a medium reads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pitool.catalog.boards import boards
from pitool.catalog.profiles import find_profile
from pitool.engine.base import Settings
from pitool.engine.llamacpp import LlamaCpp
from pitool.errors import UsageError
from pitool.planning.alternatives import storages
from pitool.planning.formats import FORMATS, GGUF
from pitool.planning.formats.base import PlannedModel
from pitool.planning.memory import Load
from pitool.planning.places import Place
from pitool.planning.planner import Planner
from pitool.planning.report import Options, find_places, make_report
from pitool.planning.waiting import waiting
from tests.engine.conftest import tiny_gguf  # noqa: F401 - a fixture
from tests.planning.shapes import shape

SHAPE = shape(
    num_hidden_layers=24, hidden_size=2048, intermediate_size=8192, max_position_embeddings=32768
)
MODEL = PlannedModel("m", SHAPE)
PLACE = Place("p", "16gb", 10**12, 0, {"pi5": boards()["pi5"], "pi4b": boards()["pi4b"]}, ())


def planner(model: PlannedModel = MODEL, context: int = 32768, kv_type: str = "f16") -> Planner:
    return Planner(model, find_profile("balanced"), Load(context, kv_type=kv_type))


def test_a_short_prompt_waits_as_the_plain_prediction_says() -> None:
    row = planner().row(GGUF.find("Q4_0"), PLACE)
    for each, estimate in zip(waiting(planner(), row, 512), row.artifact.estimates, strict=True):
        assert each.board == estimate.board
        assert each.seconds == pytest.approx(512 / estimate.prefill)
        assert each.fastest == pytest.approx(512 / estimate.prefill_range[1])
        assert each.slowest == pytest.approx(512 / estimate.prefill_range[0])


def test_a_long_one_waits_longer_a_token_and_a_window_bounds_that() -> None:
    plain = planner()
    windows = replace(MODEL, shape=replace(MODEL.shape, windows=(512,) * 24))
    for model, low, high in ((MODEL, 2.0, 40.0), (windows, 1.0, 1.2)):
        asked = replace(plain, model=model)
        row = asked.row(GGUF.find("Q4_0"), PLACE)
        short, long = (next(iter(waiting(asked, row, n))).seconds / n for n in (512, 20_000))
        assert low < long / short < high


@pytest.mark.parametrize(("kv_type", "bytes_"), [("f16", 2.0), ("q8_0", 34 / 32)])
def test_what_is_saved_is_its_keys_and_values(kv_type: str, bytes_: float) -> None:
    asked = planner(kv_type=kv_type)
    row = asked.row(GGUF.find("Q4_0"), PLACE)
    model = MODEL.shape
    by_hand = 2 * 24 * model.kv_heads * model.head_dim * 20_000 * bytes_
    for each in waiting(asked, row, 20_000):
        assert each.saved_bytes == by_hand
        storage = storages()[boards()[each.board].soc]
        assert each.saved_seconds["sd"] == pytest.approx(by_hand / storage.sd / 1e6)


@pytest.mark.engine
def test_a_saved_prefill_is_as_large_as_predicted(
    tiny_gguf: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    from pitool.catalog.gguf import read_header
    from pitool.planning.shapes import header_shape

    engine = LlamaCpp(tiny_gguf, Settings(512, 1, 1))
    engine.time_forward([5] * 300, one_by_one=False)
    engine.save_state(tmp_path / "state")
    engine.close()
    model = PlannedModel("tiny", header_shape(read_header(tiny_gguf)))
    asked = planner(model, 512)
    found = GGUF.state_bytes(model.shape, asked.row(GGUF.find("F32"), PLACE).artifact, 300)
    assert (tmp_path / "state").stat().st_size == pytest.approx(found, rel=0.02)


def test_onnx_waits_too() -> None:
    form = FORMATS["onnx"]
    asked = planner(context=8192)
    row = asked.row(form.find("INT4"), PLACE)
    first = next(iter(waiting(asked, row, 4000)))
    assert first.seconds == pytest.approx(4000 / row.artifact.estimates[0].prefill)
    assert first.saved_bytes == 2 * 24 * MODEL.shape.kv_heads * MODEL.shape.head_dim * 4000 * 4


def test_a_plan_holds_the_prompt_that_is_asked_of() -> None:
    places = find_places("16gb", "pi5")
    report = make_report(Options(ram="16gb", board="pi5", prompt=20_000), MODEL, places)
    assert report.planner.load.context == 20_480
    waits = json.loads(json.dumps(report.to_json()))["waiting"]
    assert {each["tokens"] for each in waits} == {20_000}
    assert {each["board"] for each in waits} == {"pi5"}
    assert "waiting" not in make_report(Options(board="pi5"), MODEL, places).to_json()
    for options in (Options(prompt=40_000), Options(prompt=5000, context=4096)):
        with pytest.raises(UsageError, match="does not fit"):
            make_report(options, MODEL, places)
