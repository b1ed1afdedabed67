"""pitool's ONNX folders and engine against onnxruntime-genai, optimum and llama.cpp, interleaved.

    python -m benchmarks.onnx --rounds 3

One model of random weights is made by each side's own converter, then every side reads a prompt
and generates, in a process of its own and in turn, at a short context and at 1,000 tokens. Peers
live in a virtual environment in the user's cache, which is made first (1.3 GB). Targets: decode
and prefill at least those of onnxruntime-genai, peak memory no higher, decode 4 times optimum's.
``--cpu-time`` counts seconds of CPU on one thread, which other processes disturb less. The last
line on stdout is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import models
from benchmarks.onnx_sides import VOCABULARY
from benchmarks.peer import cache, say

SHAPE = "135m"
PACKAGES = (
    "torch==2.13.0",
    "transformers==4.57.6",
    "optimum==2.1.0",
    "optimum-onnx==0.1.0",
    "onnx==1.23.2",
    "onnxruntime==1.31.1",
    "onnx-ir==1.1.0",
    "accelerate==1.15.0",
    "onnxruntime-genai==0.15.2",
)
CONTEXTS = (64, 1000)
METRICS = ("decode", "prefill", "peak")
FEWEST_TIMES_OPTIMUM = 4.0


@dataclass(frozen=True, slots=True)
class Side:
    """One way to run the model: ``kind`` is a side of ``onnx_sides``."""

    name: str
    kind: str
    python: Path
    model: Path

    def run(self, prompt: int, new: int, threads: int, clock: str) -> dict[str, float]:
        """Return its figures for a prompt of so many tokens and so many new ones."""
        program = Path(__file__).with_name("onnx_sides.py")
        # -P: or this file would be what the peers import as onnx.
        order = [self.python, "-P", program, self.kind, self.model, prompt, new]
        order += [threads, clock]
        done = subprocess.run(
            [str(part) for part in order],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "ORT_DISABLE_TELEMETRY": "1"},
        )
        found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return found


def sides() -> list[Side]:
    """Return all sides, what they need made first where the cache has none."""
    folder = cache() / "models"
    python = peers() / "bin" / "python"
    mine = Path(sys.executable)
    with Checkpoint(folder) as checkpoint:
        ours = made(folder / f"{SHAPE}-pitool-int4", lambda out: write(checkpoint(), out, "INT4"))
        eight = made(folder / f"{SHAPE}-pitool-int8", lambda out: write(checkpoint(), out, "INT8"))
        theirs = made(
            folder / f"{SHAPE}-genai-int4", lambda out: build_genai(python, checkpoint(), out)
        )
        plain = made(
            folder / f"{SHAPE}-optimum-int8", lambda out: build_optimum(python, checkpoint(), out)
        )
    return [
        Side("pitool int4", "pitool", mine, ours),
        Side("genai int4", "genai", python, theirs),
        Side("pitool on genai's int4", "pitool", mine, theirs),
        Side("pitool int8", "pitool", mine, eight),
        Side("optimum int8", "optimum", python, plain),
        Side("llama.cpp Q4_0", "pitool", mine, models.gguf(SHAPE, "Q4_0")),
    ]


class Checkpoint:
    """A checkpoint of random weights, written when it is first asked for and then removed."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._scratch = tempfile.TemporaryDirectory(dir=folder)

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self._scratch.cleanup()

    def __call__(self) -> Path:
        """Return its folder."""
        path = Path(self._scratch.name) / SHAPE
        if not path.is_dir():
            models.write_checkpoint(path, models.SHAPES[SHAPE])
        return path


def made(path: Path, make: Callable[[Path], None]) -> Path:
    """Return ``path``, whole: made under another name and renamed, where it was not there."""
    if not path.is_dir():
        say(f"making {path}")
        with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
            make(Path(scratch) / "out")
            (Path(scratch) / "out").rename(path)
    return path


def write(checkpoint: Path, out: Path, name: str) -> None:
    """Write a folder with pitool's own writer."""
    from pitool.checkpoint.source import find_source, open_checkpoint
    from pitool.convert.onnx.writer import write_onnx
    from pitool.planning.onnx_weights import ONNX_QUANTISATIONS

    source = find_source(str(checkpoint), "1gb")
    write_onnx(out, open_checkpoint(source), ONNX_QUANTISATIONS[name])


def build_genai(python: Path, checkpoint: Path, out: Path) -> None:
    """Write a folder with onnxruntime-genai's model builder."""
    call(*builder(python, checkpoint, out))


def builder(python: Path, checkpoint: Path, out: Path) -> list[str | Path]:
    """Return the command of onnxruntime-genai's model builder, with the settings of our int4."""
    order: list[str | Path] = [
        python,
        "-m",
        "onnxruntime_genai.models.builder",
        "-i",
        checkpoint,
        "-o",
        out,
    ]
    order += ["-p", "int4", "-e", "cpu", "-c", out.parent / "cache", "--extra_options"]
    return [*order, "int4_accuracy_level=4", "int4_block_size=32"]


def build_optimum(python: Path, checkpoint: Path, out: Path) -> None:
    """Export with optimum and quantise dynamically to INT8, with its preset for this CPU."""
    program, plain = python.with_name("optimum-cli"), out.parent / "plain"
    task = ["--task", "text-generation-with-past", "--no-post-process"]
    call(program, "export", "onnx", "--model", checkpoint, *task, plain)
    preset = "--arm64" if platform.machine() == "aarch64" else "--avx512_vnni"
    call(program, "onnxruntime", "quantize", "--onnx_model", plain, preset, "-o", out)


def peers() -> Path:
    """Return the virtual environment of the peers, made first where the cache has none."""
    folder = cache() / "peers" / "onnx"
    done = folder / "done"
    if not done.is_file():
        say(f"installing {', '.join(PACKAGES)} into {folder}")
        venv.create(folder, with_pip=True)
        # torch comes first: its CPU build must not be replaced by what others ask for.
        for packages in (PACKAGES[:1], PACKAGES):
            call(folder / "bin" / "python", "-m", "pip", "install", "--quiet", *packages)
        done.touch()
    return folder


def call(*order: object) -> None:
    """Run a program; what it says goes to stderr."""
    subprocess.run([str(part) for part in order], check=True, stdout=sys.stderr)


def measure(
    found: list[Side], rounds: int, new: int, threads: int, clock: str
) -> dict[str, dict[str, list[float]]]:
    """Return samples by ``metric@context``, then by side; every round begins with another side."""
    samples: dict[str, dict[str, list[float]]] = {}
    for turn in range(rounds):
        for context in CONTEXTS:
            for i in range(len(found)):
                side = found[(i + turn) % len(found)]
                figures = side.run(context, new, threads, clock)
                for metric in METRICS:
                    table = samples.setdefault(f"{metric}@{context}", {})
                    table.setdefault(side.name, []).append(figures[metric])
        say(f"round {turn + 1} of {rounds}")
    return samples


def report(samples: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    """Print a line a side and test; return ratios of the medians, and whether they suffice."""
    ratios: dict[str, float] = {}
    for test, table in samples.items():
        middle = {name: statistics.median(values) for name, values in table.items()}
        ours = middle["pitool int4"]
        for name, value in middle.items():
            unit = f"{value / 2**20:8.1f} MiB" if test.startswith("peak") else f"{value:8.1f} t/s"
            print(f"{test:>14}  {name:<22} {unit}  pitool int4 over it {ours / value:.3f}")
        for peer in ("genai int4", "optimum int8", "llama.cpp Q4_0"):
            ratios[f"{test} over {peer}"] = round(ours / middle[peer], 3)
    return {"ratios": ratios, "met": all(map(reaches, ratios, ratios.values()))}


def reaches(name: str, ratio: float) -> bool:
    """Tell whether a ratio is what is aimed at; True where nothing is."""
    test, _, peer = name.partition(" over ")
    if peer == "genai int4":
        return ratio <= 1 if test.startswith("peak") else ratio >= 1
    if peer == "optimum int8" and test.startswith("decode"):
        return ratio >= FEWEST_TIMES_OPTIMUM
    return True


def main() -> None:
    """Measure, print a line for each side and test, then JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--generate", type=int, default=64)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--cpu-time", action="store_true", help="For a busy machine: one thread.")
    order = parser.parse_args()
    assert models.SHAPES[SHAPE]["vocab_size"] == VOCABULARY
    threads, clock = (1, "cpu") if order.cpu_time else (order.threads, "wall")
    samples = measure(sides(), order.rounds, order.generate, threads, clock)
    said = {"benchmark": "onnx", "threads": threads, "clock": clock}
    print(json.dumps({**said, **report(samples)}))


if __name__ == "__main__":
    main()
