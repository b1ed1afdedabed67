"""Results as rows: a table or JSON values, in llama-bench's names and order, then ours."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from types import NoneType
from typing import Any

from pitool.bench.artifact import MeasuredArtifact, title
from pitool.bench.conditions import conditions, to_json
from pitool.bench.plausibility import assess
from pitool.bench.run import Result
from pitool.report.numbers import compare_bytes, format_seconds

# Of llama-bench: load modes by llama.cpp's names, flash attention by llama.cpp's numbers.
LOAD_MODES = {"mmap": "mmap", "read": "none", "mlock": "mmap+mlock"}
_FLASH_ATTENTION = {"auto": -1, "off": 0, "on": 1}
_BACKEND = "CPU"
# llama-bench's columns and widths; a negative width is aligned to the left.
_ALWAYS = {"model": -30, "size": 10, "params": 10, "backend": -10, "threads": 7}
_LAST = {"test": 15, "t/s": 20}
# Columns that stand there only where a test has another value than llama-bench's default: by
# field, llama-bench's heading, width and default. The host is ours.
_EXTRA: dict[str, tuple[str, int, object]] = {
    "n_batch": ("n_batch", 7, 2048),
    "n_ubatch": ("n_ubatch", 8, 512),
    "type_k": ("type_k", 6, "f16"),
    "type_v": ("type_v", 6, "f16"),
    "flash_attn": ("fa", 3, -1),
    "load_mode": ("lm", 10, None),
    "repack": ("rpk", 3, True),
    "host": ("host", -10, None),
}
# The SQL types of our fields that are not text; llama-bench's own follow from their values.
OUR_TYPES = {
    "load_seconds": float,
    "peak_memory_bytes": int,
    "planned_memory_bytes": int,
    "predicted_ts": float,
}

# What is compared, shown or printed of a row; the rest is only passed on.
_TEXTS = (
    "build_commit", "model_type", "model_filename", "quantisation", "test_time", "backends",
    "engine", "load_mode", "type_k", "type_v",
)  # fmt: skip
_COUNTS = (
    "n_prompt", "n_gen", "n_depth", "n_threads", "n_batch", "n_ubatch", "model_size",
    "model_n_params", "flash_attn", "repack",
)  # fmt: skip
_MAYBE = ("bundle", "host", "cpu_info", "board", "kernel", "firmware", "artifact_sha256")
_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(_TEXTS, (str,)),
    **dict.fromkeys(_COUNTS, (int,)),
    **dict.fromkeys(_MAYBE, (str, NoneType)),
    **dict.fromkeys(("avg_ts", "stddev_ts"), (int, float)),
    "predicted_ts": (int, float, NoneType),
    **dict.fromkeys(("samples_ts", "samples_ns", "conditions"), (list,)),
}
# What a comparison needs; llama-bench writes these as well.
COMPARED = ("n_prompt", "n_gen", "n_depth", "model_type", "samples_ts")
SHOWN = tuple(name for name in _TYPES if name not in ("host", "predicted_ts"))
_FASTEST = 1e9

BenchRow = dict[str, Any]


def row(result: Result, about: MeasuredArtifact) -> BenchRow:
    """Return a result as JSON values: llama-bench's fields in its order, then ours.

    Fields of llama-bench that mean nothing on a CPU have the values that it gives them there.
    """
    info, settings = result.info, result.info.settings
    return {
        "build_commit": build(about),
        "build_number": 0,
        "cpu_info": about.cpu,
        "gpu_info": "",
        "backends": _BACKEND,
        "model_filename": str(about.file),
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
        "n_gpu_layers": -1,
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
        **_ours(result, about),
    }


def _ours(result: Result, about: MeasuredArtifact) -> dict[str, Any]:
    info = result.info
    judged = assess(result, about)
    return {
        "engine": info.engine,
        "cpu_features": info.backend,
        "board": about.board,
        "kernel": about.kernel,
        "firmware": about.firmware,
        "bundle": about.bundle,
        "quantisation": about.quantisation,
        "artifact_sha256": about.sha256,
        "load_seconds": info.load_seconds,
        "peak_memory_bytes": about.peak_memory,
        "planned_memory_bytes": about.planned_memory,
        "predicted_ts": about.predicted(result.workload),
        "plausibility": asdict(judged) if judged else None,
        "conditions": [to_json(condition) for condition in conditions(result.looks)],
        "pitool_version": about.versions.get("pitool"),
        "runtime_version": runtime(about),
    }


def build(about: MeasuredArtifact) -> str:
    """Return what llama-bench's build_commit is for: which program measured."""
    return " ".join(f"{name} {version}" for name, version in about.versions.items())


def runtime(about: MeasuredArtifact) -> str | None:
    """Return what ran the model and its version, such as ``onnxruntime 1.32.0``."""
    found = [f"{name} {v}" for name, v in about.versions.items() if name != "pitool"]
    return found[0] if found else None


def model_type(result: Result) -> str:
    """Return architecture, size and quantisation, such as ``llama 135M Q4_0``."""
    info = result.info
    return f"{info.architecture} {_rounded(info.parameters)} {info.quantisation}"


def check(row: Any, needed: Iterable[str] = SHOWN) -> BenchRow:
    """Return a row that was read from a file; ValueError where it lacks a field, or has another.

    ``needed``: fields that it must have.
    """
    if not isinstance(row, dict):
        raise ValueError("it is not an object")  # noqa: TRY004 - of a file, not of a caller
    if missing := [name for name in needed if name not in row]:
        raise ValueError(f"it has no {missing[0]}")
    for name, value in row.items():
        if name in _TYPES and not (isinstance(value, _TYPES[name]) and _sized(value)):
            raise ValueError(f"its {name} is {value!r:.40}")
    if not all(_is_speed(sample) for sample in row["samples_ts"]):
        raise ValueError("a speed is not above zero")
    if not all(_names_problems(each) for each in row.get("conditions", [])):
        raise ValueError("its conditions are not known")
    return row


def _sized(value: object) -> bool:
    """Tell whether a number is one that a machine counts with; what is no number never is less."""
    return not isinstance(value, int | float) or abs(value) < 1 << 63


def _is_speed(value: object) -> bool:
    return isinstance(value, int | float) and 1 / _FASTEST < value < _FASTEST


def _names_problems(condition: object) -> bool:
    found = condition.get("problems") if isinstance(condition, Mapping) else None
    return isinstance(found, list) and all(isinstance(each, str) for each in found)


def test_name(row: BenchRow) -> str:
    """Return the name of a row's test, as ``Workload.name`` writes it."""
    parts = [f"{kind}{row[key]}" for kind, key in (("pp", "n_prompt"), ("tg", "n_gen")) if row[key]]
    return "+".join(parts) + (f" @ d{row['n_depth']}" if row["n_depth"] else "")


def artifact_name(row: BenchRow) -> str:
    """Return what people call a row's artifact: bundle or file, and quantisation."""
    return title(row["bundle"], row["model_filename"], row["quantisation"])


def rate(row: BenchRow) -> str:
    """Return mean and deviation of the tokens/s, such as ``9.41 ± 0.02``."""
    return f"{row['avg_ts']:.2f} ± {row['stddev_ts']:.2f}"


def extra_columns(row: BenchRow, varied: Collection[str]) -> tuple[str, ...]:
    """Return the fields that llama-bench would show: those that vary or are not its default."""
    return tuple(
        field
        for field, (_, _, default) in _EXTRA.items()
        if field in row
        and (field in varied or (default is not None and row[field] != default) or field == "host")
    )


def head(extra: Sequence[str] = ()) -> str:
    """Return the first two lines of the table."""
    widths = _widths(extra)
    rule = (f"{'-' * (abs(w) - 1)}{'-' if w < 0 else ':'}" for w in widths.values())
    return f"{_line(widths, widths)}\n{_line(widths, rule)}"


def line(row: BenchRow, extra: Sequence[str] = ()) -> str:
    """Return a row as a line of the table."""
    cells = [
        row["model_type"],
        _bytes(row["model_size"]),
        _parameters(row["model_n_params"]),
        row["backends"],
        str(row["n_threads"]),
        *(str(int(v) if isinstance(v := row[field], bool) else v) for field in extra),
        test_name(row),
        rate(row),
    ]
    return _line(_widths(extra), cells)


def _widths(extra: Sequence[str]) -> dict[str, int]:
    return {**_ALWAYS, **{_EXTRA[f][0]: _EXTRA[f][1] for f in extra}, **_LAST}


def footer(about: MeasuredArtifact, load_seconds: float) -> str:
    """Return a line on loading and memory, the peak beside the plan."""
    name = title(about.bundle, str(about.file), about.quantisation)
    parts = [f"{name}: loaded in {format_seconds(load_seconds)}"]
    known = [
        (words, size)
        for words, size in (
            ("peak memory", about.peak_memory),
            ("planned", about.planned_memory),
        )
        if size is not None
    ]
    sizes = compare_bytes(*(size for _, size in known))
    parts += [f"{words} {size}" for (words, _), size in zip(known, sizes, strict=True)]
    return ", ".join(parts)


def _line(widths: dict[str, int], cells: Iterable[str]) -> str:
    padded = (
        f"{cell:{'<' if width < 0 else '>'}{abs(width)}}"
        for cell, width in zip(cells, widths.values(), strict=True)
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
