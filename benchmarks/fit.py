"""Is a GGUF of solved types better than a usual one of no more bytes and no less predicted speed?

    python -m benchmarks.fit [MODEL] [--quant Q4_K_M] [--seeds 3] [--effort normal] [--board pi5]

MODEL is what ``pitool convert`` takes, the sample by default. The model writes a calibration text
for each seed, and the sides are converted with it in turn; both are judged on text that neither
has seen, by the certificate of ``pitool convert`` (of the sample its held-out text, of others the
built-in one). Plain is llama.cpp's mixture without a matrix; the same with one shows which part
the matrix has, and what is left is that of the types and of what ``--effort`` adds. ``--same``
keeps the type: only ``--effort`` is compared. The last line on stdout is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.peer import say
from pitool.engine import worker
from pitool.engine.base import Settings
from pitool.quality.calibration import write_text

GOALS = {"Q4_K_M": 0.45, "Q4_0": 0.6, "INT4": 0.6}
FLOAT = "F16"
TOKENS = 16_384


@dataclass(frozen=True, slots=True)
class Made:
    """What a side made: bytes, predicted decode, and what the certificate says."""

    bytes: int
    decode: float
    mean_kl: float
    p99_kl: float
    top1: float
    kinds: dict[str, float]
    why: tuple[str, ...]


def convert(model: str, target: Path, *options: str) -> Made:
    """Return the one artifact that is made."""
    order = [sys.executable, "-m", "pitool", "convert", model, "--out", str(target), "--json"]
    say(f"pitool convert {model} {' '.join(options)}")
    done = subprocess.run([*order, *options], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(done.returncode)  # it has said why
    (made,) = json.loads(done.stdout)["manifest"]["artifacts"]
    files: list[dict[str, Any]] = made["files"]
    found, fit = made["certificate"], made.get("fit")
    weights = (f["bytes"] for f in files if f["path"].endswith((".gguf", ".onnx", ".data")))
    return Made(
        sum(weights),
        min((speed["decode"] for speed in made["speed"]), default=0.0),
        found["mean_kl"],
        found["p99_kl"],
        found["top1"],
        {kind["name"]: kind["mean_kl"] for kind in found.get("kinds", ())},
        (fit["made"], fit["why"]) if fit else (),
    )


def write_texts(model: str, folder: Path, ram: tuple[str, ...], seeds: int) -> list[Path]:
    """Return a text for each seed, as the model writes it."""
    convert(model, folder / "float", *ram, "--quant", FLOAT, "--calibration", "none")
    (path,) = (folder / "float").glob("*.gguf")
    threads, made = os.cpu_count() or 1, []
    for seed in range(1, seeds + 1):
        windows = write_text(path, threads, TOKENS, lambda _: None, seed=seed)
        with worker.start("gguf", path, Settings(256, threads, threads)) as engine:
            text = "".join(engine.detokenize(window) for window in windows)
        made.append(folder / f"text-{seed}.txt")
        made[-1].write_text(text, encoding="utf-8")
    return made


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", nargs="?", default="sample")
    parser.add_argument("--quant", default="Q4_K_M")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ram", default="8gb")
    parser.add_argument("--board", default="pi5")
    parser.add_argument("--effort", default="")
    parser.add_argument("--same", action="store_true")
    given = parser.parse_args()
    place = ("--ram", given.ram, "--board", given.board)
    quant: tuple[str, ...] = ("--quant", given.quant)
    effort = ("--effort", given.effort) if given.effort else ()
    runs: dict[str, list[Made]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        texts = write_texts(given.model, folder, place, given.seeds)
        plain = convert(given.model, folder / "plain", *place, *quant, "--calibration", "none")
        for seed, text in enumerate(texts):
            matrix = ("--calibration", str(text))
            usual = convert(given.model, folder / f"usual-{seed}", *place, *quant, *matrix)
            ours = quant
            if not given.same:
                # A hair below, because a manifest rounds speeds to a tenth.
                speed = f"{usual.decode - 0.05:.2f}"
                ours = ("--fit", "--size", f"{usual.bytes / 1e6:.6f}mb", "--target-tps", speed)
            made = convert(given.model, folder / f"ours-{seed}", *place, *ours, *matrix, *effort)
            runs.setdefault("matrix", []).append(usual)
            runs.setdefault("ours", []).append(made)
    report(given.model, given.quant, plain, runs)


def report(model: str, quant: str, plain: Made, runs: dict[str, list[Made]]) -> None:
    """Print every run, the median ratio of the pairs, and whether the goal is reached."""
    pairs = list(zip(runs["matrix"], runs["ours"], strict=True))
    ratio = statistics.median(ours.mean_kl / usual.mean_kl for usual, ours in pairs)
    rows = [("plain", plain)]
    for i, (usual, ours) in enumerate(pairs, 1):
        rows += [(f"with matrix, seed {i}", usual), (f"ours, seed {i}", ours)]
    print(f"{model:<24} {'bytes':>12} {'tok/s':>7} {'mean KL':>8} {'99 %':>7} {'top-1':>7}")
    for name, row in rows:
        figures = f"{row.mean_kl:>8.4f} {row.p99_kl:>7.3f} {row.top1:>7.2%}"
        print(f"{name:<24} {row.bytes:>12} {row.decode:>7.1f} {figures}")
    for line in dict.fromkeys(line for _, ours in pairs for line in ours.why):
        print(line)
    if (goal := GOALS.get(quant)) is not None:
        reached = "reached" if ratio <= goal else "missed"
        print(f"goal: {goal} of {quant} with matrix or less: {reached}, {ratio:.3f}")
    both = {name: [asdict(row) for row in found] for name, found in runs.items()}
    made = {"model": model, "quant": quant, "ratio": ratio, "plain": asdict(plain)}
    print(json.dumps(made | both))


if __name__ == "__main__":
    main()
