"""A model with a vocabulary cut to languages against the whole: file, memory, decode, tokens.

    python -m benchmarks.vocabulary MODEL [--languages en] [--quant Q4_K_M] [--text FILE]

MODEL is what ``pitool convert`` takes, such as a GGUF. Both sides are made by ``pitool convert``
and run by the same engine, in turns: decode writes ``--generate`` tokens greedily, sampling and
pipe included, and memory is the peak resident memory of the worker after that. ``--text`` is one
that chose no token, such as articles of an encyclopedia: how many of its tokens change. Goals for
Gemma 3 270M in English: file and memory at most 0.55, decode at least 1.6 times, less than 1 % of
the tokens changed. The last line on stdout is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.pairs import Comparison, interleave
from benchmarks.peer import Figure, say
from pitool.catalog.bundles import choose, open_bundle
from pitool.device.detect import detect
from pitool.device.memory import peak_rss
from pitool.engine import worker
from pitool.engine.base import Sampling, Settings

SHARE, FASTER, CHANGED = 0.55, 1.6, 0.01
PROMPT = "The history of the river begins in the mountains, where"


@dataclass
class Side:
    """One of the two bundles; ``peaks``: bytes of its workers."""

    path: Path
    generate: int
    peaks: list[int] = field(default_factory=list)

    def open(self) -> worker.WorkerEngine:
        """Load its GGUF with the settings of a chat."""
        cores = detect().physical_cores
        return worker.start("gguf", self.path, Settings(512, cores, cores, micro_batch=128))

    def decode(self) -> Sequence[Figure]:
        """Write an answer; return its tokens per second from the first token on."""
        with self.open() as engine:
            ids = engine.tokenize(PROMPT)
            sampling = Sampling(temperature=0.0, max_tokens=self.generate)
            times = [time.monotonic() for _ in engine.stream(ids, sampling)]
            peak = peak_rss(engine.pid)
        assert peak
        self.peaks.append(peak)
        rate = (len(times) - 1) / (times[-1] - times[0])
        return [Figure(f"tg{len(times)}", (rate,))]


def convert(model: str, target: Path, *options: str) -> Path:
    """Convert a model; return its GGUF."""
    order = [sys.executable, "-m", "pitool", "convert", model, "--out", str(target), "--json"]
    order += ["--format", "gguf", "--ram", "8gb", "--calibration", "none"]
    say(f"pitool convert {model} {' '.join(options)}")
    # Quality is not what is measured here.
    few = {**os.environ, "PITOOL_REFERENCE_TOKENS": "256"}
    done = subprocess.run([*order, *options], stdout=subprocess.DEVNULL, check=False, env=few)
    if done.returncode:
        sys.exit(done.returncode)  # it has said why
    return choose(open_bundle(target)).entry


def changed(whole: Side, cut: Path, text: Path) -> tuple[int, int, int]:
    """Return the tokens of a text, how many are not kept, and how many the cut vocabulary makes."""
    kept = set(json.loads((cut.parent / "kept-tokens.json").read_text()))
    written = text.read_text(encoding="utf-8")
    with whole.open() as engine:
        before = engine.tokenize(written)
    with Side(cut, 0).open() as engine:
        after = engine.tokenize(written)
    return len(before), sum(token not in kept for token in before), len(after)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--languages", default="en")
    parser.add_argument("--quant", help="of a model that is not a quantised GGUF")
    parser.add_argument("--text", type=Path)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--generate", type=int, default=128)
    given = parser.parse_args()
    quant = ("--quant", given.quant) if given.quant else ()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        before = convert(given.model, folder / "whole", *quant)
        after = convert(given.model, folder / "cut", *quant, "--languages", given.languages)
        whole, cut = (Side(path, given.generate) for path in (before, after))
        (decode,) = interleave(cut.decode, whole.decode, given.pairs)
        text = changed(whole, after, given.text) if given.text else None
        report(given.model, whole, cut, decode, text)


def report(
    model: str, whole: Side, cut: Side, decode: Comparison, text: tuple[int, int, int] | None
) -> None:
    """Print what was measured, then JSON."""
    sizes = [side.path.stat().st_size for side in (cut, whole)]
    peaks = [statistics.median(side.peaks) for side in (cut, whole)]
    file, memory = sizes[0] / sizes[1], peaks[0] / peaks[1]
    print(f"file    {sizes[0] / 1e6:8.1f} MB of {sizes[1] / 1e6:8.1f}: {file:.3f}")
    print(f"memory  {peaks[0] / 1e6:8.1f} MB of {peaks[1] / 1e6:8.1f}: {memory:.3f}")
    print(decode.line())
    share = None
    if text:
        tokens, gone, now = text
        share = gone / tokens
        print(f"tokens  {gone} of {tokens} changed: {share:.2%}; {now / tokens - 1:.2%} more now")
    print(
        json.dumps(
            {
                "benchmark": "vocabulary",
                "model": model,
                "file": file,
                "memory": memory,
                "decode": decode.json(),
                "changed": share,
                "met": file <= SHARE
                and memory <= SHARE
                and decode.ratio >= FASTER
                and (share is None or share < CHANGED),
            }
        )
    )


if __name__ == "__main__":
    main()
