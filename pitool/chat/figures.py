"""The figures of a chat as text. No colours, no widgets."""

from __future__ import annotations

from pitool.catalog.manifest import Speed
from pitool.chat.status import Status
from pitool.engine.base import Timings
from pitool.report.numbers import NONE, format_bytes, format_count, format_rate, format_seconds


def size(count: int | None) -> str:
    """Return bytes as ``812 MB``, or a dash where they are unknown."""
    return NONE if count is None else format_bytes(count)


def span(speeds: tuple[Speed, ...]) -> str:
    """Return the predicted decode speed over the boards: ``8.1`` or ``8.1–12.4``."""
    if not speeds:
        return NONE
    low, high = min(s.decode for s in speeds), max(s.decode for s in speeds)
    return f"{low:.1f}" if f"{low:.1f}" == f"{high:.1f}" else f"{low:.1f}–{high:.1f}"


def memory(status: Status) -> str:
    """Return what the worker holds of what was planned: ``1.24 of 1.36 GB``."""
    held = size(status.memory)
    if status.planned is None or status.memory is None:
        return held
    planned = size(status.planned)
    number, _, unit = held.partition(" ")
    return f"{number if planned.endswith(' ' + unit) else held} of {planned}"


def table(status: Status) -> list[tuple[str, str]]:
    """Return all figures of the last answer and of the worker, with their names."""
    timings, info = status.timings or Timings(0), status.info
    read = timings.prefilled_tokens - timings.reused_tokens
    decoding = format_seconds(timings.decode_seconds)
    rows = [
        ("prompt", format_count(timings.prompt_tokens, "token")),
        ("reused", f"{format_count(timings.reused_tokens, 'token')} of the KV cache"),
        ("prefill", f"{format_count(read, 'token')} in {format_seconds(timings.prefill_seconds)}"),
        ("", format_rate(timings.prefill_rate)),
        ("TTFT", format_seconds(timings.ttft_seconds) if timings.decoded_tokens else NONE),
        ("decode", f"{format_count(timings.decoded_tokens, 'token')} in {decoding}"),
        ("", f"{format_rate(timings.decode_rate)} in the mean"),
        ("memory", f"{memory(status)} planned" if status.planned else memory(status)),
    ]
    if info is not None:
        settings = info.settings
        rows += [
            ("context", f"{timings.context_used} of {settings.context} tokens"),
            ("when full", WHEN_FULL[status.when_full]),
            ("KV cache", settings.kv_type),
            ("threads", f"{settings.decode_threads} decode, {settings.prefill_threads} prefill"),
            ("engine", f"{info.engine}, {info.backend}"),
            ("loaded in", format_seconds(info.load_seconds)),
        ]
    return rows


WHEN_FULL = {"drop": "the oldest turns are left out", "stop": "the answer ends"}
