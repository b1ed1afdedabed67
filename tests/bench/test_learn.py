"""A bench keeps what it measured beside what was predicted."""

from __future__ import annotations

from pathlib import Path

import pytest

from pitool.bench import learn
from pitool.bench.artifact import MeasuredArtifact
from pitool.bench.run import Workload, measure
from pitool.catalog.manifest import Speed
from pitool.device import probe, residuals
from pitool.device.detect import detect
from tests.bench.conftest import Recorder

PI5 = detect(Path(__file__).parents[1] / "device" / "fixtures" / "pi5")


def test_tests_with_a_prediction_are_kept(private_home: Path) -> None:
    subject = MeasuredArtifact(
        Path("m.gguf"), "m", "Q4_0", None, None, speed=Speed("pi5", 100.0, 10.0), machine=PI5
    )
    tests = [Workload(prompt=64), Workload(generate=16), Workload(generate=16, depth=64)]
    engine = Recorder((2.0,))
    results = [list(measure(engine, [test], 2))[-1] for test in tests]
    assert learn.keep(results, subject) == 2
    kept = {r.phase: (r.predicted, r.measured) for r in residuals.read()}
    assert kept == {"prefill": (100.0, 32.0), "decode": (10.0, 8.0)}
    found = residuals.factors(probe.key(PI5), "scripted")
    assert found == pytest.approx({"prefill": 0.32, "decode": 0.8})
    assert residuals.factors(probe.key(PI5)) == {}  # what another engine does is not learnt


def test_nothing_is_kept_without_a_prediction(private_home: Path) -> None:
    subject = MeasuredArtifact(Path("m.gguf"), None, "Q4_0", None, None, machine=PI5)
    results = list(measure(Recorder(), [Workload(generate=4)], 1))
    assert learn.keep(results, subject) == 0
    assert residuals.read() == []
