"""From a checkpoint to an INT4 ONNX folder: pitool's writer against onnxruntime-genai's builder.

    python -m benchmarks.onnx_convert [--shape 1b] [--pairs 2]

Interleaved, each in a process of its own, with the same settings. A 3B shape of zeros, which takes
no room on the disk, shows whether our memory grows with the model: ``anonymous`` leaves out pages
of mapped files. Targets: half of the builder's time, a quarter of its memory, less than 2 GB at 3B.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from benchmarks import models, peer
from benchmarks.onnx import builder, peers
from benchmarks.peer import say
from benchmarks.process import Step, compared, run

SPARSE = "3b"
OURS = (
    "import sys; from pathlib import Path; from benchmarks.onnx import write;"
    "write(Path(sys.argv[1]), Path(sys.argv[2]), 'INT4')"
)


def convert(side: str, checkpoint: Path) -> Step:
    """Write the folder on one side, and remove it."""
    with tempfile.TemporaryDirectory(dir=checkpoint.parent) as scratch:
        out = Path(scratch) / "out"
        if side == "ours":
            return run([sys.executable, "-c", OURS, checkpoint, out])
        return run(builder(peers() / "bin" / "python", checkpoint, out))


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--shape", default="1b", choices=models.SHAPES)
    parser.add_argument("--pairs", type=int, default=2)
    order = parser.parse_args()
    peers()
    with tempfile.TemporaryDirectory(dir=peer.cache()) as scratch:
        checkpoint = Path(scratch) / order.shape
        say(f"writing a checkpoint of the {order.shape} shape")
        models.write_checkpoint(checkpoint, models.SHAPES[order.shape])
        runs: dict[str, list[Step]] = {"ours": [], "theirs": []}
        for pair in range(order.pairs):
            for side in ("ours", "theirs") if pair % 2 else ("theirs", "ours"):
                runs[side].append(convert(side, checkpoint))
            say(f"pair {pair + 1} of {order.pairs}")
        print(f"{os.cpu_count()} CPUs; {order.shape} to INT4, {order.pairs} pairs, medians")
        print(f"{'':<32} {'ours':>10} {'theirs':>14}    ratio (spread)")
        for what, scale in (("seconds", 1.0), ("resident", 1e-6), ("anonymous", 1e-6)):
            values = {side: [getattr(s, what) for s in steps] for side, steps in runs.items()}
            compared(what if scale == 1 else f"{what} MB", values, scale)
        large = Path(scratch) / SPARSE
        models.write_checkpoint(large, models.SHAPES[SPARSE], sparse=True)
        step = convert("ours", large)
        print(
            f"{SPARSE} of zeros: {step.seconds:.1f} s, resident {step.resident / 1e6:.0f} MB,"
            f" anonymous {step.anonymous / 1e6:.0f} MB"
        )


if __name__ == "__main__":
    main()
