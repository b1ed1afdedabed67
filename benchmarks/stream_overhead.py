"""Decoding through ``pitool run`` (engine, worker, sampling, pipe) against llama-bench's bare one.

    python -m benchmarks.stream_overhead --shape 135m --quant Q4_0 --pairs 5
    python -m benchmarks.stream_overhead --threads 1    with a core to spare, as on a Pi 5

The target is a ratio of at least 0.97 for greedy sampling; the default sampling is shown beside
it. The last line on stdout is JSON.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks import peer
from benchmarks.bench_parity import arguments, model_and_settings
from benchmarks.pairs import Comparison, interleave
from benchmarks.peer import Figure
from pitool.bench.run import Workload

TARGET = 0.97
PROMPT = "a"
SAMPLINGS = {"greedy": ["--temp", "0"], "sampled": ["--temp", "0.8", "--seed", "1"]}


def pitool_run(model: Path, tokens: int, options: Sequence[str]) -> float:
    """Return the tokens/s that one answer of ``tokens`` steps was decoded with.

    The answer goes through a pipe, as it does to a user's own program.
    """
    # The first token belongs to the prefill.
    length = ["--max-tokens", str(tokens + 1)]
    command = [sys.executable, "-m", "pitool", "run", str(model), PROMPT, "--raw"]
    done = subprocess.run([*command, *options, *length], check=True, capture_output=True)
    found = re.search(r"decode (\d+) tokens, ([\d.]+) t/s", done.stderr.decode())
    if not found or int(found[1]) < tokens:
        raise SystemExit(f"pitool run ended early: {done.stderr.decode().strip()}")
    return float(found[2])


def main() -> None:
    """Print a line for each sampling, then JSON."""
    order = arguments(__doc__)
    model, settings = model_and_settings(order)
    workload = Workload(generate=order.generate)
    peer.program(peer.BENCH)

    def ours(name: str) -> list[Figure]:
        options = [*SAMPLINGS[name], *threads]
        rates = (pitool_run(model, order.generate, options) for _ in range(order.repetitions))
        return [Figure(workload.name, tuple(rates))]

    threads = ["--threads", str(settings.decode_threads)]
    results: dict[str, Comparison] = {}
    for name in SAMPLINGS:
        (results[name],) = interleave(
            partial(ours, name),
            lambda: peer.run(model, settings, workload, order.repetitions),
            order.pairs,
        )
        print(name, results[name].line())
    print(
        json.dumps(
            {
                "benchmark": "stream_overhead",
                "model": model.stem,
                "threads": settings.decode_threads,
                "llama_cpp_python": peer.version(),
                "tests": {name: result.json() for name, result in results.items()},
                "target": TARGET,
                "met": results["greedy"].ratio >= TARGET,
            }
        )
    )


if __name__ == "__main__":
    main()
