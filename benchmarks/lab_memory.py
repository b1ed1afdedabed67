"""Whether a technique needs the memory of a layer or of the model: on a model of the 1B shape.

    python -m benchmarks.lab_memory [--shape 1b] [--techniques block-int8-64,kmeans-4bit]

Each technique makes its artifact in a process of its own, as in ``pitool compare``; printed is that
process' peak resident memory beside the bytes of the largest matrix and of the checkpoint.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

from benchmarks import models, peer
from pitool.checkpoint.source import find_source, open_checkpoint
from pitool.lab import making
from pitool.report.progress import Silent

WEIGHT_ONLY = "block-int8-64,percentile-int8,hqq-int4,nf4,kmeans-4bit,rtn-int4"


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--shape", default="1b", choices=models.SHAPES)
    parser.add_argument("--techniques", default=WEIGHT_ONLY)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=peer.cache()) as scratch:
        folder = Path(scratch) / arguments.shape
        models.write_checkpoint(folder, models.SHAPES[arguments.shape])
        source = find_source(str(folder), "1gb")
        tensors = open_checkpoint(source).tensors
        total = sum(tensor.bytes for tensor in tensors.values())
        matrices = [t.bytes for name, t in tensors.items() if "proj" in name]
        print(
            f"{arguments.shape}: checkpoint {total / 1e6:,.0f} MB in half precision, its largest"
            f" matrix in the layers {2 * max(matrices) / 1e6:,.0f} MB in float32"
        )
        calibration = Path(scratch) / "calibration.json"
        calibration.write_text(json.dumps([list(range(256))]))
        for name in arguments.techniques.split(","):
            with tempfile.TemporaryDirectory(dir=scratch) as own:
                order = making.Order(
                    source, name, Path(own), Path(scratch), calibration, os.cpu_count() or 1
                )
                made = making.make(order, Silent())
            memory = f"{made.memory / 1e6:,.0f} MB" if made.memory else "unknown"
            print(f"{name:<18} peak {memory:>9}, {made.seconds:6.1f} s", flush=True)


if __name__ == "__main__":
    main()
