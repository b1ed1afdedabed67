"""From a checkpoint to a quantised GGUF: pitool against llama.cpp's converter and llama-quantize.

    python -m benchmarks.convert [--shapes 135m,1b] [--quants Q8_0,Q4_K_M] [--pairs 3]

Interleaved, each step in a process of its own, to a float GGUF and from there to each quantisation.
pitool quantises by the same ``llama_model_quantize`` as llama-quantize does. Peak memory is that
of the largest process; ``anonymous`` leaves out pages of mapped files, which the kernel may take
back at any time. A 3B shape of zeros, which takes no room on the disk, shows whether memory grows
with the model. Weights are random: how long quantising takes hardly depends on them.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import models, peer
from benchmarks.peer import say
from benchmarks.process import Step, compared, run

SPARSE = "3b"


def convert(side: str, checkpoint: Path, target: Path, llama: Path) -> Step:
    """Write the float GGUF on one side."""
    rest = [llama] if side == "theirs" else []
    return run([sys.executable, "-m", "benchmarks.convert_sides", side, checkpoint, target, *rest])


def quantise(side: str, source: Path, target: Path, kind: str) -> Step:
    """Quantise on one side."""
    if side == "theirs":
        return run([peer.program(peer.QUANTIZE), source, target, kind])
    program = (
        "import os, sys; from pathlib import Path;"
        "from pitool.convert.gguf.quantise import quantise;"
        "from pitool.catalog.tensor_types import find_quantisation;"
        "quantise(Path(sys.argv[1]), Path(sys.argv[2]), find_quantisation(sys.argv[3]),"
        " os.cpu_count())"
    )
    return run([sys.executable, "-c", program, source, target, kind])


def one(side: str, checkpoint: Path, kinds: Sequence[str], llama: Path) -> dict[str, Step]:
    """Return the steps of one side, from the checkpoint to every quantisation."""
    with tempfile.TemporaryDirectory(dir=checkpoint.parent) as scratch:
        half = Path(scratch) / "half.gguf"
        steps = {"F16": convert(side, checkpoint, half, llama)}
        for kind in kinds:
            made = Path(scratch) / "made.gguf"
            steps[kind] = quantise(side, half, made, kind)
            made.unlink()
    return steps


def compare(shape: str, kinds: Sequence[str], pairs: int, folder: Path, llama: Path) -> None:
    """Measure both sides in turn and print what each step takes."""
    checkpoint = folder / shape
    say(f"writing a checkpoint of the {shape} shape")
    models.write_checkpoint(checkpoint, models.SHAPES[shape])
    runs: dict[str, list[dict[str, Step]]] = {"ours": [], "theirs": []}
    for pair in range(pairs + 1):
        for side in ("ours", "theirs") if pair % 2 else ("theirs", "ours"):
            steps = one(side, checkpoint, kinds, llama)
            if pair:  # the first fills the page cache
                runs[side].append(steps)
        say(f"{shape}: pair {pair} of {pairs}")
    print(f"\n{shape}, {pairs} pairs, medians          ours           theirs    ratio (spread)")
    for step in ("F16", *kinds):
        seconds = {side: [r[step].seconds for r in found] for side, found in runs.items()}
        compared(f"{step}: seconds", seconds, 1)
    for kind in kinds:
        total = {
            side: [r["F16"].seconds + r[kind].seconds for r in found]
            for side, found in runs.items()
        }
        compared(f"checkpoint to {kind}: seconds", total, 1)
    for step in ("F16", *kinds):
        for what in ("resident", "anonymous"):
            peak = {side: [getattr(r[step], what) for r in found] for side, found in runs.items()}
            compared(f"{step}: {what} MB", peak, 1e-6)
    for side, found in runs.items():
        stages = {
            name: statistics.median(r["F16"].stages[name] for r in found)
            for name in found[0]["F16"].stages
        }
        told = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in stages.items())
        print(f"{side}, to F16: {told}")


def sparse(kind: str, folder: Path, llama: Path) -> None:
    """Print what a larger model takes on our side."""
    checkpoint = folder / SPARSE
    models.write_checkpoint(checkpoint, models.SHAPES[SPARSE], sparse=True)
    steps = one("ours", checkpoint, [kind], llama)
    for step, found in steps.items():
        print(
            f"{SPARSE} of zeros, {step}: {found.seconds:.1f} s,"
            f" resident {found.resident / 1e6:.0f} MB, anonymous {found.anonymous / 1e6:.0f} MB"
        )


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--shapes", default="135m,1b")
    parser.add_argument("--quants", default="Q8_0,Q4_K_M")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--sparse", default="Q8_0", help="quantisation of the 3B shape")
    arguments = parser.parse_args()
    peer.program(peer.QUANTIZE)
    kinds = arguments.quants.split(",")
    with tempfile.TemporaryDirectory(dir=peer.cache()) as scratch:
        llama = peer.source(Path(scratch))
        print(f"{os.cpu_count()} CPUs; {peer.PACKAGE} {peer.version()}")
        for shape in arguments.shapes.split(","):
            compare(shape, kinds, arguments.pairs, Path(scratch), llama)
        sparse(arguments.sparse, Path(scratch), llama)


if __name__ == "__main__":
    main()
