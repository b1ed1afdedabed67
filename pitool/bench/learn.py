"""Stores measured next to predicted speeds, so that predictions on this machine improve."""

from __future__ import annotations

from collections.abc import Iterable

from pitool.bench.artifact import MeasuredArtifact
from pitool.bench.run import Result
from pitool.device import probe, residuals
from pitool.device.residuals import Phase, Residual
from pitool.engine.base import Settings


def may_teach(settings: Settings, usual: Settings, *, warm_up: bool, whole: bool) -> bool:
    """Tell whether the results of a load are what a prediction is of.

    That is a warm model with the settings that everybody gets here, every test run to its end: one
    thread, another batch, a cold start or a bench that was stopped would teach what is not so.
    """
    return settings == usual and warm_up and whole


def keep(results: Iterable[Result], about: MeasuredArtifact) -> int:
    """Keep a residual for each test with a prediction; return how many.

    Of results that ``may_teach`` only.
    """
    kept = 0
    for result in results:
        predicted = about.predicted(result.workload)
        if about.machine is None or not predicted or not result.samples_ns:
            continue
        phase: Phase = "decode" if result.workload.generate else "prefill"
        model = f"{result.info.name} {result.info.quantisation}"
        day = result.test_time[:10]
        machine = probe.key(about.machine)
        residuals.keep(
            Residual(machine, model, phase, predicted, result.avg_ts, day, result.info.engine)
        )
        kept += 1
    return kept
