"""A calibration text of several answers at once against the same number of answers one by one.

    python -m benchmarks.calibration [GGUF] [--pairs 3] [--tokens 2048]

Both sides load the model; without a GGUF it is one of random weights in bfloat16. The target is a
quarter of the time. The last line on stdout is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

from benchmarks import models
from benchmarks.peer import say
from pitool.device.detect import detect
from pitool.engine import worker
from pitool.engine.base import Sampling, Settings
from pitool.quality.calibration import PROMPTS, ROUNDS, ask, write_text
from pitool.quality.divergence import WINDOW

TARGET = 0.25


def together(path: Path, threads: int, tokens: int) -> float:
    """Return the seconds a token of several answers at once."""
    start = time.monotonic()
    windows = write_text(path, threads, tokens, lambda _: None)
    return (time.monotonic() - start) / sum(map(len, windows))


def one_by_one(path: Path, threads: int, tokens: int) -> float:
    """Return the seconds a token of one answer after another."""
    start = time.monotonic()
    done = 0
    with worker.start("gguf", path, Settings(2 * WINDOW, threads, threads)) as engine:
        for seed in range(ROUNDS * len(PROMPTS)):
            prompt = engine.tokenize(ask(engine, PROMPTS[seed % len(PROMPTS)]))
            sampling = Sampling(1.0, 0, 1.0, 0.0, seed=seed, max_tokens=WINDOW // 2)
            engine.clear()
            done += len(prompt)
            done += sum(token.id is not None for token in engine.stream(prompt, sampling))
            if done >= tokens:
                break
    return (time.monotonic() - start) / done


def main() -> None:
    """Print a line a pair, then JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("gguf", nargs="?", type=Path)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=2048)
    order = parser.parse_args()
    path = order.gguf or models.gguf("135m", "BF16")
    threads = detect().physical_cores
    ratios = []
    for number in range(order.pairs):
        sides = (together, one_by_one) if number % 2 else (one_by_one, together)
        found = {side: side(path, threads, order.tokens) for side in sides}
        ratios.append(found[together] / found[one_by_one])
        say(
            f"{1 / found[together]:.0f} tokens/s together, {1 / found[one_by_one]:.0f} one by one:"
            f" {ratios[-1]:.3f} of the time"
        )
    median = statistics.median(ratios)
    print(
        json.dumps({"ratio": median, "ratios": ratios, "target": TARGET, "met": median <= TARGET})
    )


if __name__ == "__main__":
    main()
