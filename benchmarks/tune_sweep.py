"""``pitool tune`` against an exhaustive sweep of the same settings: what each finds, and its time.

    python -m benchmarks.tune_sweep --shape 25m --quant Q4_0

The winners of both are measured once more in turn, so that neither is judged by the luck of its
own samples. Models are loaded in this process, for both alike, without the settings that belong to
a process: hundreds of workers would take most of the time. The target is a ratio whose interval
reaches 1 in every phase, in a tenth of the sweep's time. The last line on stdout is JSON.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from contextlib import AbstractContextManager, closing
from dataclasses import replace
from math import prod

from benchmarks import models
from benchmarks.peer import say
from pitool.bench import tune
from pitool.bench.run import measure
from pitool.catalog.model_argument import find_runnable
from pitool.device import tuned
from pitool.device.detect import detect
from pitool.device.settings import untuned
from pitool.engine import registry
from pitool.engine.base import Engine, Settings
from pitool.errors import PitoolError

LARGEST_SHARE = 0.1


def main() -> None:
    """Print both winners, then JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--shape", choices=sorted(models.SHAPES), default="25m")
    parser.add_argument("--quant", default="Q4_0")
    order = parser.parse_args()
    runnable = find_runnable(models.gguf(order.shape, order.quant))
    machine = detect()
    base = untuned(runnable, 512, machine)
    axes = tune.axes(base, machine.physical_cores, runnable.format)
    plan = [axis for axis in axes if axis.name not in tune.WAITING]

    def open_engine(settings: Settings) -> AbstractContextManager[Engine]:
        return closing(registry.load(runnable.format, runnable.entry, settings))

    start = time.monotonic()
    tuned_best = base
    for _, tuned_best in tune.tune(base, plan, open_engine):  # noqa: B007 - the last one counts
        pass
    tuned_seconds = time.monotonic() - start

    start = time.monotonic()
    swept_best, combinations = sweep(base, plan, open_engine)
    swept_seconds = time.monotonic() - start

    ratios = tune.in_turn(swept_best, tuned_best, tuple(tune.WORKLOADS), open_engine)
    share = tuned_seconds / swept_seconds
    for name, best, seconds in (
        ("tune", tuned_best, tuned_seconds),
        ("sweep", swept_best, swept_seconds),
    ):
        print(f"{name:>6}  {seconds:7.1f} s  {tuned.changes(base, best)}")
    for phase, ratio in ratios.items():
        print(
            f"{phase}: tune's over the sweep's {ratio.value:.3f}"
            f" ({ratio.low:.3f} to {ratio.high:.3f})"
        )
    print(
        json.dumps(
            {
                "benchmark": "tune_sweep",
                "model": f"{order.shape}-{order.quant}",
                "combinations": combinations,
                "seconds": [tuned_seconds, swept_seconds],
                "share_of_time": share,
                "ratios": {p: (r.value, r.low, r.high) for p, r in ratios.items()},
                "met": share <= LARGEST_SHARE and all(r.high >= 1 for r in ratios.values()),
            }
        )
    )


def sweep(
    base: Settings, plan: list[tune.Axis], open_engine: tune.OpenWith
) -> tuple[Settings, int]:
    """Return the fastest of all by the product of the phases' rates, and how many there were."""
    values = [list(dict.fromkeys((getattr(base, a.name), *a.candidates))) for a in plan]
    best, best_score, count = base, 0.0, 0
    for choice in itertools.product(*values):
        settings = replace(base, **dict(zip((a.name for a in plan), choice, strict=True)))
        count += 1
        if count % 50 == 0:
            say(f"{count} of {prod(map(len, values))} combinations")
        try:
            score = _score(settings, open_engine)
        except PitoolError:  # a quantised KV cache needs flash attention
            continue
        if score > best_score:
            best, best_score = settings, score
    return best, count


def _score(settings: Settings, open_engine: tune.OpenWith) -> float:
    score = 1.0
    with open_engine(settings) as engine:
        for workload in tune.WORKLOADS.values():
            *_, last = measure(engine, [workload], tune.REPETITIONS)
            score *= last.avg_ts
    return score


if __name__ == "__main__":
    main()
