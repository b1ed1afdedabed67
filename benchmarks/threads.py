"""How threads wait and where they run: each setting against the defaults, in turn.

    python -m benchmarks.threads --shape 25m --quant Q4_0
    python -m benchmarks.threads --gguf SmolLM2-135M.gguf --rounds 5

Every run is a worker of its own, since OpenMP reads how to wait when it is loaded. The settings are
those that ``pitool tune`` tries. On a build with OpenMP, ``polling`` is OMP_WAIT_POLICY, and a pool
of threads is attached for cores and priority alone; on one without, it is attached anyway. The last
line on stdout is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks import models
from pitool.bench import tune
from pitool.catalog.model_argument import find_runnable
from pitool.device.detect import detect
from pitool.device.settings import untuned
from pitool.engine import worker
from pitool.engine.base import Engine, Settings
from pitool.errors import PitoolError

PHASES: tuple[tune.TunePhase, ...] = ("prefill", "decode")
TRIED: tuple[dict[str, Any], ...] = (
    {"polling": 0},
    {"polling": 100},
    {"pinned": True},
    {"priority": "high"},
    {"micro_batch": 128},
    {"micro_batch": 1024},
    {"kv_type": "q8_0"},
)


def main() -> None:
    """Print a line a setting, then JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--shape", choices=sorted(models.SHAPES), default="25m")
    parser.add_argument("--quant", default="Q4_0")
    parser.add_argument("--gguf", type=Path, help="a model of yours")
    parser.add_argument("--rounds", type=int, default=tune.ROUNDS)
    order = parser.parse_args()
    os.environ.pop("OMP_WAIT_POLICY", None)  # or the defaults would not be those
    tune.ROUNDS = order.rounds
    runnable = find_runnable(order.gguf or models.gguf(order.shape, order.quant))
    base = untuned(runnable, tune.CONTEXT, detect())

    @contextmanager
    def open_engine(settings: Settings) -> Iterator[Engine]:
        with worker.start(runnable.format, runnable.entry, settings) as engine:
            backend.append(engine.info.backend)
            yield engine

    backend: list[str] = []
    found: list[dict[str, Any]] = []
    for changes in TRIED:
        name = ", ".join(f"{key} {value}" for key, value in changes.items())
        try:
            ratios = tune.in_turn(base, replace(base, **changes), PHASES, open_engine)
        except PitoolError as error:
            print(f"{name:<18} not possible: {error.what}")
            continue
        shown = [f"{p} {r.value:.3f} ({r.low:.3f} to {r.high:.3f})" for p, r in ratios.items()]
        print(f"{name:<18} {'  '.join(shown)}", flush=True)
        found.append({"changes": changes, **{str(p): asdict(r) for p, r in ratios.items()}})
    result = {"benchmark": "threads", "model": runnable.name, "backend": backend[-1]}
    print(json.dumps({**result, "rounds": order.rounds, "settings": found}))


if __name__ == "__main__":
    main()
