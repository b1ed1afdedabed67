"""``pitool bench`` against llama-bench of the same llama.cpp, interleaved, with equal settings.

    python -m benchmarks.bench_parity --shape 135m --quant Q4_0 --pairs 5

The targets are a ratio of the medians within 0.97 to 1.03 for pp512 and tg128, and a spread of
ours no larger than 1.2 times theirs. Run it on a quiet machine. The last line on stdout is JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from benchmarks import models, peer
from benchmarks.pairs import Comparison, interleave
from pitool.bench.run import Workload
from pitool.catalog.model_argument import find_runnable
from pitool.device.settings import settings_for
from pitool.engine.base import Settings

TARGET = (0.97, 1.03)
LARGEST_SPREAD = 1.2


def pitool_bench(model: Path, settings: Settings, workload: Workload, repetitions: int) -> str:
    """Return the JSON of ``pitool bench``, in a process of its own as llama-bench is."""
    numbers = {
        "-p": workload.prompt,
        "-n": workload.generate,
        "-r": repetitions,
        "-t": settings.decode_threads,
    }
    order = [str(part) for pair in numbers.items() for part in pair]
    command = [sys.executable, "-m", "pitool", "bench", str(model), *order, "--json"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def arguments(description: str | None) -> argparse.Namespace:
    """Return what the benchmarks of this folder are called with."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--shape", choices=sorted(models.SHAPES), default="135m")
    parser.add_argument("--quant", default="Q4_0")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--generate", type=int, default=128)
    return parser.parse_args()


def model_and_settings(order: argparse.Namespace) -> tuple[Path, Settings]:
    """Return the model file and what pitool loads it with, one number of threads for both."""
    model = models.gguf(order.shape, order.quant)
    settings = settings_for(find_runnable(model), order.prompt + order.generate)
    threads = order.threads or settings.decode_threads
    return model, replace(settings, decode_threads=threads, prefill_threads=threads)


def met(result: Comparison) -> bool:
    """Tell whether a test reached both targets."""
    low, high = TARGET
    steady = result.spread_ours <= LARGEST_SPREAD * result.spread_theirs
    return low <= result.ratio <= high and steady


def main() -> None:
    """Print a line for each test, then JSON."""
    order = arguments(__doc__)
    model, settings = model_and_settings(order)
    workload = Workload(order.prompt, order.generate)
    peer.program(peer.BENCH)
    results = interleave(
        lambda: [
            peer.figure(row)
            for row in json.loads(pitool_bench(model, settings, workload, order.repetitions))
        ],
        lambda: peer.run(model, settings, workload, order.repetitions),
        order.pairs,
    )
    for result in results:
        print(result.line())
    print(
        json.dumps(
            {
                "benchmark": "bench_parity",
                "model": model.stem,
                "threads": settings.decode_threads,
                "llama_cpp_python": peer.version(),
                "tests": [result.json() for result in results],
                "target": {"ratio": TARGET, "spread": LARGEST_SPREAD},
                "met": all(map(met, results)),
            }
        )
    )


if __name__ == "__main__":
    main()
