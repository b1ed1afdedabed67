"""What a session is doing, as it is shown: the status, who is notified of changes, the figures.

Knows no colours and no widgets; text is what any front end prints.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Literal

from pitool.catalog.bundles import Runnable
from pitool.catalog.manifest import Speed
from pitool.engine.base import ModelInfo, Timings
from pitool.report.numbers import (
    NONE,
    format_bytes,
    format_count,
    format_part,
    format_range,
    format_rate,
    format_seconds,
)

WhenFull = Literal["drop", "stop"]
"""What happens when the context is full: the oldest turns are left out, or the answer ends."""

WHEN_FULL_WORDS = {"drop": "the oldest turns are dropped", "stop": "the answer ends"}


class Phase(Enum):
    """What the session is doing; the value is how it is called on screen."""

    UNLOADED = "not loaded"
    LOADING = "loading"
    READY = "ready"
    READING = "processing"
    ANSWERING = "answering"
    MEASURING = "measuring"


@dataclass(frozen=True, slots=True)
class Status:
    """Everything that is shown of the engine; replaced as a whole, so always consistent.

    ``runnable``: what is loaded or would be for the next question; ``progress``: fraction of the
    load; ``timings``: of the running or last answer; ``rate_now``: tokens/s of the last second;
    ``memory``: bytes of the worker, ``planned`` of the plan; ``dropped``: oldest turns that the
    model does not see any more.
    """

    phase: Phase = Phase.UNLOADED
    runnable: Runnable | None = None
    info: ModelInfo | None = None
    progress: float = 0.0
    timings: Timings | None = None
    memory: int | None = None
    planned: int | None = None
    rate_now: float = 0.0
    dropped: int = 0
    when_full: WhenFull = "drop"

    @property
    def busy(self) -> bool:
        """Whether there is something that ``stop`` would end."""
        return self.phase not in {Phase.UNLOADED, Phase.READY}


FRAME_SECONDS, SLOWEST_SECONDS = 1 / 15, 1 / 3
"""Least time between two notifications of one answer, on a fast machine and on a slow one."""

SCREEN_SHARE = 0.02
"""Of one core, what drawing an answer may take: the cores belong to the model."""


class LiveStatus:
    """Holds the present status; ``notify`` is called from the thread that changed it.

    ``frame_seconds``: least time between two notifications of one answer.
    """

    def __init__(self, notify: Callable[[], None], frame_seconds: float | None = None) -> None:
        self.status = Status()
        self._notify = notify
        self._lock = threading.Lock()
        self._told = 0.0
        self._frame_seconds = FRAME_SECONDS if frame_seconds is None else frame_seconds

    def set(self, *, often: bool = False, **changes: object) -> None:
        """Change the status and have somebody look; changes that come ``often`` are capped."""
        with self._lock:
            self.status = replace(self.status, **changes)  # type: ignore[arg-type]
        now = time.monotonic()
        if not often or now - self._told >= self._frame_seconds:
            self._told = now
            self._notify()

    def look(self) -> None:
        """Have somebody look at what else changed."""
        self._notify()

    def pace(self, seconds: float) -> None:
        """Be told what CPU time a look took; the next ones come as often as that allows."""
        self._frame_seconds = max(FRAME_SECONDS, min(seconds / SCREEN_SHARE, SLOWEST_SECONDS))


def size_text(count: int | None) -> str:
    """Return bytes as ``812 MB``, or a dash where they are unknown."""
    return NONE if count is None else format_bytes(count)


def speed_span(speeds: tuple[Speed, ...]) -> str:
    """Return the predicted decode speed over the boards: ``8.1`` or ``8.1–12.4``."""
    return format_range(speed.decode for speed in speeds)


def memory_text(status: Status) -> str:
    """Return what the worker holds of what was planned: ``1.24 of 1.36 GB``."""
    if status.planned is None or status.memory is None:
        return size_text(status.memory)
    return format_part(status.memory, status.planned)


def guessed_text(timings: Timings) -> str:
    """Return how many guessed tokens were the answer's: ``31 of 40``; empty where none were."""
    if not timings.guessed_tokens:
        return ""
    return f"{timings.accepted_tokens} of {timings.guessed_tokens}"


def _guesses(timings: Timings, info: ModelInfo) -> str:
    text = guessed_text(timings)
    return f"{text} tokens accepted" if text else info.no_guesses or "no tokens"


def figures_table(status: Status) -> list[tuple[str, str]]:
    """Return all figures of the last answer and of the worker, with their names."""
    timings, info = status.timings or Timings(0), status.info
    read = timings.prefilled_tokens - timings.reused_tokens
    decoding = format_seconds(timings.decode_seconds)
    rows = [
        ("prompt", format_count(timings.prompt_tokens, "token")),
        ("reused", f"{format_count(timings.reused_tokens, 'token')} from the KV cache"),
        ("prefill", f"{format_count(read, 'token')} in {format_seconds(timings.prefill_seconds)}"),
        ("", format_rate(timings.prefill_rate)),
        ("TTFT", format_seconds(timings.ttft_seconds) if timings.decoded_tokens else NONE),
        ("decode", f"{format_count(timings.decoded_tokens, 'token')} in {decoding}"),
        ("", f"{format_rate(timings.decode_rate)} on average"),
        *([("guessed", _guesses(timings, info))] if info and info.settings.guesses else []),
        ("memory", f"{memory_text(status)} planned" if status.planned else memory_text(status)),
    ]
    if info is not None:
        settings = info.settings
        rows += [
            ("context", f"{timings.context_used} of {settings.context} tokens"),
            ("when full", WHEN_FULL_WORDS[status.when_full]),
            ("KV cache", str(settings.cache)),
            ("threads", f"{settings.decode_threads} decode, {settings.prefill_threads} prefill"),
            ("engine", f"{info.engine}, {info.backend}"),
            ("loaded in", format_seconds(info.load_seconds)),
        ]
    return rows
