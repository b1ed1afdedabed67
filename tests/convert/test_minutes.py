"""What is said of the time before a conversion begins: its steps, and what they grow by."""

from __future__ import annotations

from pathlib import Path

import pytest

from pitool.catalog.tensor_types import QUANTISATIONS
from pitool.catalog.tiers import tiers
from pitool.checkpoint.config import Config, read_config
from pitool.convert import layer_cost, minutes
from pitool.convert.effort import BEST, EFFORTS, FAST, NORMAL
from pitool.convert.gguf.quantise import quantise
from pitool.convert.plan import ConvertPlan, make_plan
from tests.convert.helpers import write_float
from tests.tiny import write_checkpoint

EACH = 1e-9


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Multiply a thousand million times in a second, whatever runs beside the test."""
    monkeypatch.setattr(layer_cost, "seconds_each", lambda: EACH)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return read_config(write_checkpoint(tmp_path_factory.mktemp("minutes") / "c"))


def planned(config: Config, quant: str, size: int | None = None) -> ConvertPlan:
    return make_plan(config, "1gb", tiers()["1gb"], quant, 512, size=size, importance=True)


def steps(config: Config, plan: ConvertPlan, effort: str, calibration: str) -> dict[str, float]:
    found = minutes.steps(plan, config, EFFORTS[effort], calibration, 2)
    return {step.name: step.seconds for step in found}


def test_a_float_is_only_compared(config: Config) -> None:
    found = steps(config, planned(config, "F16"), FAST, "self")
    assert {name for name, seconds in found.items() if seconds} == {"reference", "comparison"}


def test_what_is_not_done_takes_no_time(config: Config) -> None:
    plan = planned(config, "Q4_K_M")
    own, given = (steps(config, plan, FAST, name) for name in ("self", "notes.txt"))
    assert set(own) - set(given) == {"writing a text"}
    assert set(given) - set(steps(config, plan, FAST, "none")) == {"importance matrix"}
    fitted = steps(config, planned(config, "FIT", 10**9), FAST, "notes.txt")
    assert set(fitted) - set(given) == {"rounding errors", "sensitivity"}
    assert set(steps(config, plan, NORMAL, "notes.txt")) - set(given) == {"error feedback"}


def test_q8_0_heeds_no_matrix_and_the_walk_needs_a_text(config: Config) -> None:
    plan = planned(config, "Q8_0")
    assert set(steps(config, plan, FAST, "self")) == {"rounding", "reference", "comparison"}
    walked = steps(config, plan, NORMAL, "self")
    assert {"writing a text", "error feedback"} < set(walked)
    assert "importance matrix" not in walked


@pytest.mark.engine
def test_the_type_of_a_gguf_is_copied(tmp_path: Path) -> None:
    """Nothing is read or rounded for it, as when only its vocabulary is cut."""
    checkpoint = write_checkpoint(tmp_path / "c")
    path = write_float(checkpoint, tmp_path / "m-BF16.gguf", "BF16")
    quantised = tmp_path / "m-Q4_K_M.gguf"
    quantise(path, quantised, QUANTISATIONS["Q4_K_M"], 2)
    own = read_config(quantised)
    for effort in (FAST, NORMAL):
        found = steps(own, planned(own, "Q4_K_M"), effort, "self")
        assert {name for name, seconds in found.items() if seconds} == {"reference", "comparison"}
    assert "writing a text" in steps(own, planned(own, "Q4_0"), FAST, "self")


def test_more_effort_takes_longer(config: Config) -> None:
    plan = planned(config, "FIT", 10**9)
    totals = [sum(steps(config, plan, name, "self").values()) for name in (FAST, NORMAL, BEST)]
    assert totals == sorted(totals)
    assert len(set(totals)) == 3


def test_the_matrix_is_its_tokens_times_its_multiplications(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a token is multiplied with; the few weights of norms count as well."""
    monkeypatch.setenv("PITOOL_CALIBRATION_TOKENS", "1000")
    plan = planned(config, "Q4_K_M")
    used = sum(t.weights * plan.model.read_share(t.name) for t in plan.model.tensors)
    found = steps(config, plan, FAST, "notes.txt")["importance matrix"]
    assert found == pytest.approx(1000 * used * EACH * minutes.READING)


def test_each_artifact_that_is_walked_for_takes_its_time(config: Config) -> None:
    """ONNX in blocks as well as GGUF; dynamic INT8 has no levels that can be chosen."""

    def walk(quant: str, onnx: str) -> float:
        plan = make_plan(config, "1gb", tiers()["1gb"], quant, 512, onnx=onnx, importance=True)
        return steps(config, plan, NORMAL, "notes.txt").get("error feedback", 0.0)

    alone = walk("Q4_0", "")
    assert walk("Q4_0", "INT4,INT8_DYNAMIC") == pytest.approx(2 * alone)
    assert alone < walk("Q4_0", "INT4_HEAD8") < 2 * alone  # embedding and head stay as they are


def test_a_line_names_what_takes_long(config: Config) -> None:
    said = minutes.describe(planned(config, "Q4_K_M"), config, EFFORTS[NORMAL], "self", 2)
    assert said.startswith("time: about ")
    assert "with --effort normal (" in said
