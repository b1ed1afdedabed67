"""Keeps what a bench measured beside what was predicted, so that predictions here improve."""

from __future__ import annotations

from collections.abc import Iterable

from pitool.bench.run import Result
from pitool.bench.subject import Subject
from pitool.device import probe, residuals
from pitool.device.residuals import Phase, Residual


def keep(results: Iterable[Result], subject: Subject) -> int:
    """Keep a residual for each test with a prediction; return how many.

    Call it for results of the usual settings only: a prediction is of the best threads.
    """
    kept = 0
    for result in results:
        predicted = subject.predicted(result.workload)
        if subject.machine is None or not predicted or not result.samples_ns:
            continue
        phase: Phase = "decode" if result.workload.generate else "prefill"
        model = f"{result.info.name} {result.info.quantisation}"
        day = result.test_time[:10]
        machine = probe.key(subject.machine)
        residuals.keep(
            Residual(machine, model, phase, predicted, result.avg_ts, day, result.info.engine)
        )
        kept += 1
    return kept
