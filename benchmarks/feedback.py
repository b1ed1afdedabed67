"""What does rounding layer by layer gain at the same types? Mean KL divergence of both.

    python -m benchmarks.feedback [MODEL] [--quant Q4_0,Q4_K_M,INT4] [--calibration FILE]
    python -m benchmarks.feedback --shape     # time and memory of a model of a billion weights

MODEL is what ``pitool convert`` takes, the sample by default. All are made by ``pitool convert``
from one calibration and measured by its certificate, on another text. A row of ONNX is compared
with plain rounding, one of GGUF with llama.cpp's own quantiser and an importance matrix.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.peer import say
from pitool.catalog.tensor_types import TENSOR_TYPES
from pitool.convert.effort import EFFORTS
from pitool.convert.feedback import damped, quantise
from pitool.convert.gguf.feedback import grid_of
from pitool.convert.propagation import Correction, Inputs, Moments

GOAL = 0.6
# Llama 3.2 1B: rows and columns of a layer's matrices, and how many layers there are.
SHAPE = ((2048, 2048), (512, 2048), (512, 2048), (2048, 2048), (8192, 2048), (8192, 2048),
         (2048, 8192))  # fmt: skip
LAYERS = 16


def convert(model: str, target: Path, *options: str) -> tuple[int, float, float]:
    """Return bytes, mean KL divergence in nats and seconds of the one artifact that is made."""
    order = [sys.executable, "-m", "pitool", "convert", model, "--out", str(target), "--json"]
    say(f"pitool convert {model} {' '.join(options)}")
    begun = time.perf_counter()
    done = subprocess.run([*order, *options], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(done.returncode)  # it has said why
    (made,) = json.loads(done.stdout)["manifest"]["artifacts"]
    size = sum(file["bytes"] for file in made["files"])
    return size, made["certificate"]["mean_kl"], time.perf_counter() - begun


def compare(given: argparse.Namespace) -> None:
    """Print a line for each quantisation."""
    rest = ("--ram", given.ram, "--calibration", given.calibration)
    print(f"{'':<12} {'plain':>9} {'effort':>9} {'ratio':>6} {'bytes':>6} {'seconds':>8}")
    for quant in given.quant.split(","):
        with tempfile.TemporaryDirectory() as scratch:
            plain, made = (
                convert(given.model, Path(scratch) / effort, "--quant", quant, *rest,
                        "--effort", effort)
                for effort in ("fast", given.effort)
            )  # fmt: skip
        ratio, size = made[1] / plain[1], made[0] / plain[0]
        reached = "reached" if ratio <= GOAL else "missed"
        print(
            f"{quant:<12} {plain[1]:>9.5f} {made[1]:>9.5f} {ratio:>6.3f} {size:>6.3f}"
            f" {made[2]:>8.0f}  goal of {GOAL}: {reached}",
            flush=True,
        )


def drawn(rng: np.random.Generator, columns: int) -> Moments:
    """Return the moments of random inputs, a little off what is meant."""
    x = rng.standard_normal((columns, columns), np.float32)
    off = rng.standard_normal((columns, columns), np.float32)
    each = x * np.float32(1 / columns)
    return Moments(x.T @ each, off.T @ (each * np.float32(0.1)))


def shape(given: argparse.Namespace) -> None:
    """Print seconds of each matrix of a layer, those of all layers, and the peak memory."""
    rng, total = np.random.default_rng(0), 0.0
    grid_type, sweeps = TENSOR_TYPES[given.type], EFFORTS[given.effort].sweeps
    for rows, columns in SHAPE:
        inputs = Inputs((drawn(rng, columns), drawn(rng, columns)))
        grid = grid_of(grid_type, columns)
        assert grid
        weights = rng.standard_normal((rows, columns), np.float32)
        begun = time.perf_counter()
        wanted = Correction(inputs).corrected(weights)
        quantise(wanted, damped(inputs.hessian), grid, sweeps)
        seconds = time.perf_counter() - begun
        total += seconds
        print(f"{rows} x {columns}: {seconds:.1f} s", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{LAYERS} layers: {total * LAYERS / 60:.0f} minutes; peak memory {peak:.2f} GB")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", nargs="?", default="sample")
    parser.add_argument("--quant", default="Q4_0,Q4_K_M,INT4")
    parser.add_argument("--calibration", default="self")
    parser.add_argument("--effort", default="best")
    parser.add_argument("--ram", default="8gb")
    parser.add_argument("--shape", action="store_true")
    parser.add_argument("--type", default="Q4_0")
    given = parser.parse_args()
    shape(given) if given.shape else compare(given)


if __name__ == "__main__":
    main()
