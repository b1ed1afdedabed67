"""Results as a table or as JSON values, in llama-bench's names and order, then ours."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from pitool.bench.conditions import conditions, to_json
from pitool.bench.plausibility import assess
from pitool.bench.run import Result
from pitool.bench.subject import Subject

# Of llama-bench: load modes by llama.cpp's names, flash attention by llama.cpp's numbers.
LOAD_MODES = {"mmap": "mmap", "read": "none", "mlock": "mmap+mlock"}
_FLASH_ATTENTION = {"auto": -1, "off": 0, "on": 1}
_BACKEND = "CPU"
# llama-bench's columns and widths; a negative width is aligned to the left.
_COLUMNS = {
    "model": -30,
    "size": 10,
    "params": 10,
    "backend": -10,
    "threads": 7,
    "test": 15,
    "t/s": 20,
}


def row(result: Result, subject: Subject) -> dict[str, Any]:
    """Return a result as JSON values: llama-bench's fields in its order, then ours.

    Fields of llama-bench that mean nothing on a CPU have the values that it gives them there.
    """
    info, settings = result.info, result.info.settings
    return {
        "build_commit": build(subject),
        "build_number": 0,
        "cpu_info": subject.cpu,
        "gpu_info": "",
        "backends": _BACKEND,
        "model_filename": str(subject.file),
        "model_type": model_type(result),
        "model_size": info.bytes,
        "model_n_params": info.parameters,
        "n_batch": settings.batch,
        "n_ubatch": settings.micro_batch,
        "n_threads": result.threads,
        "cpu_mask": "0x0",
        "cpu_strict": False,
        "poll": 50,
        "type_k": settings.kv_type,
        "type_v": settings.value_type or settings.kv_type,
        "n_gpu_layers": 0,
        "n_cpu_moe": 0,
        "split_mode": "layer",
        "main_gpu": 0,
        "no_kv_offload": False,
        "flash_attn": _FLASH_ATTENTION[settings.flash_attention],
        "devices": "auto",
        "tensor_split": "0.00",
        "tensor_buft_overrides": "none",
        "load_mode": LOAD_MODES[settings.load_mode],
        "lazy_mode": "auto",
        "embeddings": False,
        "no_op_offload": 0,
        "no_host": False,
        "repack": settings.repack,
        "fit_target": 0,
        "fit_min_ctx": 0,
        "n_prompt": result.workload.prompt,
        "n_gen": result.workload.generate,
        "n_depth": result.workload.depth,
        "test_time": result.test_time,
        "avg_ns": result.avg_ns,
        "stddev_ns": result.stddev_ns,
        "avg_ts": result.avg_ts,
        "stddev_ts": result.stddev_ts,
        "samples_ns": list(result.samples_ns),
        "samples_ts": list(result.samples_ts),
        **_ours(result, subject),
    }


def _ours(result: Result, subject: Subject) -> dict[str, Any]:
    info = result.info
    verdict = assess(result, subject)
    return {
        "engine": info.engine,
        "cpu_features": info.backend,
        "board": subject.board,
        "kernel": subject.kernel,
        "firmware": subject.firmware,
        "bundle": subject.bundle,
        "quantisation": subject.quantisation,
        "artifact_sha256": subject.sha256,
        "load_seconds": info.load_seconds,
        "peak_memory_bytes": subject.peak_memory,
        "planned_memory_bytes": subject.planned_memory,
        "predicted_ts": subject.predicted(result.workload),
        "plausibility": asdict(verdict) if verdict else None,
        "conditions": [to_json(condition) for condition in conditions(result.looks)],
        **{f"{name.replace('-', '_')}_version": v for name, v in subject.versions.items()},
    }


def build(subject: Subject) -> str:
    """Return what llama-bench's build_commit is for: which program measured."""
    return " ".join(f"{name} {version}" for name, version in subject.versions.items())


def model_type(result: Result) -> str:
    """Return architecture, size and quantisation, such as ``llama 135M Q4_0``."""
    info = result.info
    return f"{info.architecture} {_rounded(info.parameters)} {info.quantisation}"


def head() -> str:
    """Return the first two lines of the table."""
    rule = (f"{'-' * (abs(w) - 1)}{'-' if w < 0 else ':'}" for w in _COLUMNS.values())
    return f"{_line(_COLUMNS)}\n{_line(rule)}"


def line(result: Result) -> str:
    """Return a result as a line of the table."""
    info = result.info
    return _line(
        (
            model_type(result),
            _bytes(info.bytes),
            _parameters(info.parameters),
            _BACKEND,
            str(result.threads),
            result.workload.name,
            f"{result.avg_ts:.2f} ± {result.stddev_ts:.2f}",
        )
    )


def footer(subject: Subject, load_seconds: float) -> str:
    """Return a line on loading and memory, the peak beside the plan."""
    parts = [f"loaded in {load_seconds:.2f} s"]
    if subject.peak_memory is not None:
        parts.append(f"peak memory {_bytes(subject.peak_memory)}")
    if subject.planned_memory is not None:
        parts.append(f"planned {_bytes(subject.planned_memory)}")
    versions = (f"{name} {version}" for name, version in subject.versions.items())
    return f"{', '.join(parts)}\n{', '.join(versions)}"


def _line(cells: Iterable[str]) -> str:
    widths = _COLUMNS.values()
    padded = (
        f"{cell:{'<' if width < 0 else '>'}{abs(width)}}"
        for cell, width in zip(cells, widths, strict=True)
    )
    return f"| {' | '.join(padded)} |"


def _bytes(count: int) -> str:
    """Return bytes as llama-bench writes them."""
    return f"{count / 2**20:.2f} MiB" if count < 2**30 else f"{count / 2**30:.2f} GiB"


def _parameters(count: int) -> str:
    """Return a number of weights as llama-bench writes it."""
    return f"{count / 1e6:.2f} M" if count < 1e9 else f"{count / 1e9:.2f} B"


def _rounded(count: int) -> str:
    """Return a number of weights to three digits: ``135M``, ``1.24B``."""
    for unit, size in (("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if count >= size:
            value = count / size
            return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}{unit}"
    return str(count)
