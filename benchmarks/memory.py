"""Planned against measured peak resident memory of the worker, for each way of loading.

    python -m benchmarks.memory --shape 135m 1b --onnx

Every run is a worker of its own that reads 512 tokens at once and writes 8; the plan is made for
this machine's CPU from the header of the file alone, and without the line of the chat's process.
Target: each within 5 % or 30 MB. The last line on stdout is JSON.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import models
from pitool.catalog.gguf import read_header
from pitool.catalog.tensor_types import repacked_types
from pitool.device.detect import detect
from pitool.device.memory import peak_rss
from pitool.engine import worker
from pitool.engine.base import LoadMode, Settings
from pitool.planning.formats.gguf_memory import loading_peak, plan_memory
from pitool.planning.formats.onnx import plan_onnx
from pitool.planning.memory import CHAT_BYTES, Load
from pitool.planning.onnx_weights import OnnxQuantisation, find_onnx_quantisation
from pitool.planning.shapes import header_shape, header_tensors

MB = 1e6
NEAR_SHARE, NEAR_BYTES = 0.05, 30e6
PROMPT, GENERATE = 512, 8
QUANTISATIONS = ("Q4_0", "Q8_0", "Q4_K_M", "F16")
ONNX = ("INT8", "INT4", "INT8_DYNAMIC")
BASE = Settings(context=2048, decode_threads=2, prefill_threads=2, load_mode="read")


@dataclass(frozen=True, slots=True)
class Row:
    """One run; ``planned`` and ``measured`` in bytes."""

    shape: str
    quantisation: str
    settings: Settings
    planned: int
    measured: int

    @property
    def near(self) -> bool:
        """Whether the target is met."""
        return abs(self.planned - self.measured) <= max(NEAR_SHARE * self.measured, NEAR_BYTES)


def cases() -> Iterator[tuple[str, Settings]]:
    """Yield quantisation and settings: all ways to load, then contexts and KV types."""
    modes: tuple[LoadMode, ...] = ("read", "mmap")
    for quantisation in QUANTISATIONS:
        for mode in modes:
            for repack in (True, False):
                yield quantisation, replace(BASE, load_mode=mode, repack=repack)
    for context in (512, 8192):
        for kv_type in ("f16", "q8_0"):
            yield "Q4_K_M", replace(BASE, context=context, kv_type=kv_type)


def measure(path: Path, settings: Settings, kind: str = "gguf", tokens: int = PROMPT) -> int:
    """Return the peak resident memory of a worker that has worked."""
    source = random.Random(1)
    with worker.start(kind, path, settings) as engine:
        prompt = [source.randrange(engine.info.vocabulary) for _ in range(tokens - GENERATE)]
        engine.time_forward(prompt, one_by_one=False)
        engine.time_forward(prompt[:GENERATE], one_by_one=True)
        peak = peak_rss(engine.pid)
    assert peak
    return peak


def plan(path: Path, settings: Settings) -> int:
    """Return what the worker is planned to hold at most, on this machine."""
    header = read_header(path)
    shape, tensors = header_shape(header), header_tensors(header)
    load = Load(
        settings.context,
        micro_batch=settings.micro_batch,
        kv_type=settings.kv_type,
        mapped=settings.load_mode != "read",
        repack=settings.repack,
    )
    repacked = repacked_types(detect().features)
    memory = plan_memory(shape, tensors, load, repacked=repacked)
    peak = loading_peak(memory, shape, tensors, load, repacked=repacked)
    return max(memory.total, peak) - CHAT_BYTES


def plan_folder(shape: str, kind: OnnxQuantisation, settings: Settings) -> int:
    """Return what a worker with the ONNX model of a shape is planned to hold at most."""
    header = read_header(models.gguf(shape, "Q4_0"))
    load = Load(settings.context, micro_batch=settings.micro_batch)
    return plan_onnx(header_shape(header), kind, load).total - CHAT_BYTES


def onnx_rows(shape: str) -> Iterator[Row]:
    """Yield the runs under onnxruntime; its KV cache is only as large as it is filled."""
    for name in ONNX:
        kind = find_onnx_quantisation(name)
        for context in (512, 2048):
            settings = replace(BASE, context=context, kv_type="f32")
            folder = models.onnx(shape, name)
            measured = measure(folder, settings, "onnx", context)
            yield Row(shape, name, settings, plan_folder(shape, kind, settings), measured)


def main() -> None:
    """Print a line for each run, then JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--shape", nargs="+", choices=sorted(models.SHAPES), default=["135m"])
    parser.add_argument("--quant", nargs="*", default=list(QUANTISATIONS))
    parser.add_argument("--onnx", action="store_true", help="ONNX as well")
    order = parser.parse_args()
    rows = []
    for shape in order.shape:
        for quantisation, settings in cases():
            if quantisation not in order.quant:
                continue
            path = models.gguf(shape, quantisation)
            row = Row(shape, quantisation, settings, plan(path, settings), measure(path, settings))
            rows.append(row)
            print(line(row), flush=True)
        for row in onnx_rows(shape) if order.onnx else ():
            rows.append(row)
            print(line(row), flush=True)
    print(json.dumps({"rows": len(rows), "near": sum(row.near for row in rows)}))


def line(row: Row) -> str:
    """Return a run as one line of the table, in MB."""
    s = row.settings
    off = row.planned - row.measured
    return (
        f"{row.shape:5} {row.quantisation:7} {s.load_mode:5} repack {int(s.repack)}"
        f" ctx {s.context:5} kv {s.kv_type:5} planned {row.planned / MB:7.1f}"
        f" measured {row.measured / MB:7.1f} off {off / MB:+7.1f} {off / row.measured:+6.1%}"
        f" {'ok' if row.near else 'OFF'}"
    )


if __name__ == "__main__":
    main()
