"""A calibration text of several answers at once against the same number of answers one by one.

    python -m benchmarks.calibration [GGUF] [--pairs 3] [--tokens 2048] [--kl]

Both sides load the model; without a GGUF it is one of random weights in bfloat16. The target is a
quarter of the time. ``--kl`` also quantises a float GGUF to Q4_K_M with the importance matrix of
either text, and compares both with it on the built-in text, which neither has seen: the mean KL
divergence is to be the same. The last line on stdout is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import models
from benchmarks.peer import say
from pitool.catalog.tensor_types import QUANTISATIONS
from pitool.convert.gguf import importance
from pitool.convert.gguf.quantise import quantise
from pitool.device.detect import detect
from pitool.engine import worker
from pitool.engine.base import Sampling, Settings
from pitool.quality import texts
from pitool.quality.calibration import SUBJECTS, ask, open_calibrator, write_text
from pitool.quality.divergence import WINDOW, score, summarise, unscored
from pitool.quality.health import windows_of

TARGET = 0.25
KIND = QUANTISATIONS["Q4_K_M"]
HELD_OUT = 4096
Windows = list[list[int]]


def together(path: Path, threads: int, tokens: int) -> tuple[float, Windows]:
    """Return the seconds a token of several answers at once, and the text."""
    start = time.monotonic()
    windows = write_text(path, threads, tokens, lambda _: None)
    return (time.monotonic() - start) / sum(map(len, windows)), windows


def one_by_one(path: Path, threads: int, tokens: int) -> tuple[float, Windows]:
    """Return the seconds a token of one answer after another, and the text."""
    start = time.monotonic()
    ids: list[int] = []
    with worker.start("gguf", path, Settings(2 * WINDOW, threads, threads)) as engine:
        for seed, subject in enumerate(cycle(SUBJECTS)):
            prompt = engine.tokenize(ask(engine, subject))
            sampling = Sampling(1.0, 0, 1.0, 0.0, seed=seed, max_tokens=WINDOW // 2)
            engine.clear()
            answer = [token.id for token in engine.stream(prompt, sampling)]
            ids += [*prompt, *(token for token in answer if token is not None)]
            if len(ids) >= tokens:
                break
    return (time.monotonic() - start) / len(ids), importance.join([ids])


class Loss:
    """What Q4_K_M loses of a float GGUF with the importance matrix of a text."""

    def __init__(self, path: Path, threads: int) -> None:
        self._path, self._threads = path, threads
        self._windows: Windows = []
        self._base = self._logits(path)

    def of(self, text: Windows | None) -> float:
        """Return the mean KL divergence on the built-in text; None for no matrix."""
        with tempfile.TemporaryDirectory() as folder:
            target, matrix = Path(folder) / "quantised.gguf", None
            if text is not None:
                matrix = Path(folder) / "importance.gguf"
                with open_calibrator(self._path, self._threads) as engine:
                    found = importance.collect(engine, text, "text", lambda _: None)
                importance.write(matrix, found)
            quantise(self._path, target, KIND, self._threads, importance=matrix)
            other = self._logits(target)
        pairs = zip(self._base, other, self._windows, strict=True)
        return summarise([score(b, o, ids, unscored(ids)) for b, o, ids in pairs]).mean_kl

    def _logits(self, path: Path) -> Sequence[NDArray[np.float32]]:
        settings = Settings(WINDOW, self._threads, self._threads, micro_batch=128, outputs=128)
        with worker.start("gguf", path, settings) as engine:
            if not self._windows:
                ids = engine.tokenize(texts.built_in(engine.tokenize, HELD_OUT))[:HELD_OUT]
                self._windows = windows_of(engine, ids)
            return [engine.logits(window) for window in self._windows]


def main() -> None:
    """Print a line a pair, then JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("gguf", nargs="?", type=Path)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--kl", action="store_true")
    order = parser.parse_args()
    path = order.gguf or models.gguf("135m", "BF16")
    threads = detect().physical_cores
    loss = Loss(path, threads) if order.kl else None
    ratios, kls = [], []
    for number in range(order.pairs):
        sides = (together, one_by_one) if number % 2 else (one_by_one, together)
        found = {side: side(path, threads, order.tokens) for side in sides}
        (new, new_text), (old, old_text) = found[together], found[one_by_one]
        ratios.append(new / old)
        say(f"{1 / new:.0f} tokens/s together, {1 / old:.0f} one by one: {new / old:.3f} of it")
        if loss:
            kls.append((loss.of(new_text), loss.of(old_text)))
            say(f"{KIND.name}: a mean KL of {kls[-1][0]:.5f} together, {kls[-1][1]:.5f} one by one")
    median = statistics.median(ratios)
    result: dict[str, object] = {
        "ratio": median,
        "ratios": ratios,
        "target": TARGET,
        "met": median <= TARGET,
    }
    if loss:
        result["kl"] = {
            "together": [new_kl for new_kl, _ in kls],
            "one_by_one": [old_kl for _, old_kl in kls],
            "without": loss.of(None),
        }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
