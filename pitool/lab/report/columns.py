"""The columns of the comparison: the one table that every form shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pitool.lab.row import Comparison, Row

MB = 1e6
Value = float | int | str | bool | None


@dataclass(frozen=True, slots=True)
class Column:
    """``key`` and ``value`` for programs, in the key's unit; ``heading`` and ``show`` for eyes.

    ``narrow``: shown in a terminal of 80 columns too.
    """

    key: str
    heading: str
    value: Callable[[Comparison, Row], Value]
    show: Callable[[Value], str]
    explained: str
    narrow: bool = False


def _fixed(digits: int) -> Callable[[Value], str]:
    return lambda value: f"{value:,.{digits}f}"


def _share(value: Value) -> str:
    return f"{value:.1%}"


def _significant(value: Value) -> str:
    """Three significant digits without an exponent."""
    number = float(value or 0)
    digits = 3 if number < 1 else 2 if number < 10 else 1 if number < 100 else 0
    return f"{number:,.{digits}f}"


def _tick(value: Value) -> str:
    return "yes" if value else "no"


def _running(name: str) -> Callable[[Comparison, Row], Value]:
    return lambda _, row: getattr(row.running, name) if row.running else None


def _quality(name: str) -> Callable[[Comparison, Row], Value]:
    return lambda _, row: getattr(row.quality, name) if row.quality else None


def _peak(_: Comparison, row: Row) -> Value:
    if row.running is None or row.running.peak_memory is None:
        return None
    return row.running.peak_memory / MB


COLUMNS = (
    Column("technique", "technique", lambda _, r: r.technique, str,
           "the name that `--techniques` takes", narrow=True),
    Column("size_mb", "MB", lambda _, r: r.bytes / MB, _significant,
           "10^6 bytes of what the runtime opens; without a kernel, of the technique's own format",
           narrow=True),
    Column("compression", "times smaller", lambda c, r: c.compression(r), _fixed(2),
           "FP32's bytes over the row's"),
    Column("bits_per_weight", "bits", lambda _, r: r.bits_per_weight, _fixed(2),
           "bits of all tensors, scales included, over the number of weights", narrow=True),
    Column("convert_seconds", "convert s", lambda _, r: r.convert_seconds, _significant,
           "seconds to make it, in a process of its own"),
    Column("convert_memory_mb", "convert MB",
           lambda _, r: r.convert_memory / MB if r.convert_memory else None, _fixed(0),
           "peak resident memory of that process"),
    Column("load_seconds", "load s", _running("load_seconds"), _significant,
           "seconds until the engine is ready"),
    Column("peak_memory_mb", "peak MB", _peak, _fixed(0),
           "peak resident memory of the engine's process while it answers"),
    Column("prefill", "prefill", _running("prefill"), _significant,
           "tokens/s of a prompt of 256 tokens, median of 5"),
    Column("decode", "decode", _running("decode"), _significant,
           "tokens/s of 64 tokens, median of 5", narrow=True),
    Column("latency_seconds", "latency s", _running("latency"), _significant,
           "mean seconds from a prompt to the end of its answer of at most 64 tokens"),
    Column("perplexity", "perplexity", _quality("perplexity"), _fixed(3),
           "on the held-out text"),
    Column("mean_kl", "KL", _quality("mean_kl"), _fixed(4),
           "mean KL divergence from the float32 checkpoint, nats a token", narrow=True),
    Column("top1", "top-1", _quality("top1"), _share,
           "share of tokens where the likeliest is the checkpoint's", narrow=True),
    Column("similarity", "alike", lambda _, r: r.similarity, _fixed(2),
           "bigram similarity of the answers to the baseline's", narrow=True),
    Column("fits", "fits", lambda c, r: c.fits(r), _tick,
           "whether the planned memory fits the tier of --ram"),
    Column("kernel", "runs on", lambda _, r: r.kernel if r.done else None, str,
           "the runtime with a kernel for it; none: evaluated with dequantized weights, no speed",
           narrow=True),
)  # fmt: skip


def columns(comparison: Comparison, *, narrow: bool = False) -> tuple[Column, ...]:
    """Return the columns to show; ``fits`` only where there is a tier."""
    return tuple(
        column
        for column in COLUMNS
        if (column.narrow or not narrow) and (column.key != "fits" or comparison.tier)
    )


def shown(column: Column, comparison: Comparison, row: Row) -> str:
    """Return a cell for eyes: a dash where nothing was measured."""
    value = column.value(comparison, row)
    if value is None:
        return "none" if column.key == "kernel" else "-"
    return column.show(value)
