"""Is a GGUF of solved types better than Q4_K_M at no more bytes? Mean KL divergence of both.

    python -m benchmarks.fit [MODEL] [--quant Q4_K_M] [--calibration self]

MODEL is what ``pitool convert`` takes, the sample by default. Plain is llama.cpp's mixture without
an importance matrix; the same with one shows which part the matrix has, and what is left is that
of the types. All are made by ``pitool convert`` and measured by its certificate.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.peer import say

GOAL = 0.85


def convert(model: str, target: Path, *options: str) -> tuple[int, float]:
    """Return the bytes of the one GGUF that is made, and its mean KL divergence in nats."""
    order = [sys.executable, "-m", "pitool", "convert", model, "--out", str(target), "--json"]
    say(f"pitool convert {model} {' '.join(options)}")
    done = subprocess.run([*order, *options], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(done.returncode)  # it has said why
    (made,) = json.loads(done.stdout)["manifest"]["artifacts"]
    files: list[dict[str, Any]] = made["files"]
    (size,) = (file["bytes"] for file in files if file["path"].endswith(".gguf"))
    return size, made["certificate"]["mean_kl"]


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", nargs="?", default="sample")
    parser.add_argument("--quant", default="Q4_K_M")
    parser.add_argument("--calibration", default="self")
    parser.add_argument("--ram", default="8gb")
    given = parser.parse_args()
    ram, matrix = ("--ram", given.ram), ("--calibration", given.calibration)
    with tempfile.TemporaryDirectory() as scratch:
        folder, quant = Path(scratch), ("--quant", given.quant)
        plain = convert(given.model, folder / "plain", *ram, *quant, "--calibration", "none")
        same = convert(given.model, folder / "matrix", *ram, *quant, *matrix)
        size = f"{plain[0] / 1e6:.6f}mb"
        fitted = convert(given.model, folder / "fitted", *ram, "--size", size, *matrix)
    rows = {f"{given.quant}, plain": plain, f"{given.quant}, with matrix": same, "fitted": fitted}
    print(f"{given.model:<22} {'bytes':>12} {'of plain':>9} {'mean KL':>9} {'of plain':>9}")
    for name, (count, kl) in rows.items():
        share, ratio = count / plain[0], kl / plain[1]
        print(f"{name:<22} {count:>12} {share:>9.4f} {kl:>9.5f} {ratio:>9.3f}")
    reached = "reached" if fitted[1] <= GOAL * plain[1] else "missed"
    print(f"goal: fitted at most {GOAL} of plain: {reached}")


if __name__ == "__main__":
    main()
