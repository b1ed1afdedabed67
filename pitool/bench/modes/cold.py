"""From start to first token: loading with a cold and a warm page cache, TTFT, memory."""

from __future__ import annotations

import ctypes
import mmap
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pitool.bench.artifact import planned_memory, title_of
from pitool.bench.events import Figures
from pitool.bench.history import Document
from pitool.bench.modes.base import Measure, Mode, OpenEngine
from pitool.bench.run import random_tokens
from pitool.catalog.bundles import Runnable
from pitool.device import memory
from pitool.engine.base import Engine, Sampling, Settings
from pitool.report.numbers import compare_bytes, format_seconds, format_share

TTFT_PROMPTS = (128, 512, 2048)
# Above this share of the files in the page cache a start is not a cold one.
CACHED = 0.05
# Pages that a processor holds in a batch of its own, or that are being written, stay at first.
EVICTIONS = 20
PAUSE_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Start:
    """One start: the share of the files in the page cache before (None: unknown), and seconds.

    ``load_seconds``: until the model is ready, process and imports included; ``ttft_seconds``: by
    prompt length, from the request to the first token.
    """

    cached_before: float | None
    load_seconds: float
    ttft_seconds: dict[int, float]
    peak_memory: int | None


def starts(
    files: Sequence[Path],
    open_engine: Callable[[], AbstractContextManager[Engine]],
    prompts: Iterable[int] = TTFT_PROMPTS,
) -> Iterator[tuple[str, Start]]:
    """Yield the ``cold`` start, the files being out of the page cache, and the ``warm`` one."""
    prompts = tuple(prompts)
    for path in files:
        evict(path)
    for name in ("cold", "warm"):
        yield name, _start(files, open_engine, prompts)


def _start(
    files: Sequence[Path],
    open_engine: Callable[[], AbstractContextManager[Engine]],
    prompts: Sequence[int],
) -> Start:
    cached = cached_share(files)
    began = time.perf_counter()
    with open_engine() as engine:
        loaded = time.perf_counter() - began
        ttft = {count: _ttft(engine, count) for count in prompts}
        return Start(cached, loaded, ttft, memory.peak_rss(engine.pid))


def _ttft(engine: Engine, count: int) -> float:
    engine.clear()
    ids = random_tokens(engine)(count)
    *_, last = engine.stream(ids, Sampling(temperature=0.0, max_tokens=1))
    # An answer that ends at once has no first token of text, only the end of the prefill.
    return last.timings.ttft_seconds or last.timings.prefill_seconds


# -- the page cache ------------------------------------------------------------------------


def evict(path: Path) -> None:
    """Ask the kernel to forget a file's pages, again while some are left.

    It may refuse where the file is in use; ``cached_share`` says what became of it.
    """
    if not hasattr(os, "posix_fadvise"):
        return  # macOS
    with path.open("rb") as file:
        for attempt in range(EVICTIONS):
            if attempt:
                time.sleep(PAUSE_SECONDS)
            os.fsync(file.fileno())  # a page that is not written yet cannot go
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            if not cached_share([path]):
                return


def cached_share(paths: Sequence[Path]) -> float | None:
    """Return the share of files' pages in the page cache; None where the kernel does not tell.

    By ``mincore(2)``, which reads nothing: a read that must not wait (RWF_NOWAIT) starts the
    kernel's reading ahead and so fills what it asks about.
    """
    counts = [_pages(path) for path in paths if path.stat().st_size]
    known = [count for count in counts if count is not None]
    pages = sum(pages for _, pages in known)
    return sum(here for here, _ in known) / pages if pages and len(known) == len(counts) else None


def _pages(path: Path) -> tuple[int, int] | None:
    """Return how many of a file's pages are in the page cache, and how many it has."""
    if not (os.access(path, os.W_OK) or path.stat().st_uid == os.geteuid()):
        return None  # of other users' files the kernel says that everything is there
    try:
        mincore = ctypes.CDLL(None, use_errno=True).mincore
    except AttributeError:
        return None
    # The C function wants an address, which Python gives of writable maps only: a private one.
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as mapped:
        states = (ctypes.c_ubyte * -(-len(mapped) // mmap.PAGESIZE))()
        first = ctypes.c_char.from_buffer(mapped)
        address = ctypes.c_void_p(ctypes.addressof(first))
        failed = mincore(address, ctypes.c_size_t(len(mapped)), states)
        del first  # a map in use cannot be closed
        return None if failed else (sum(state & 1 for state in states), len(states))


# -- the mode ------------------------------------------------------------------------------


def _prepare(_options: Mapping[str, Any]) -> Measure:
    return _measure


def _measure(
    runnable: Runnable, settings: Settings, open_engine: OpenEngine, document: Document
) -> Iterator[Figures]:
    """Start twice, from a cold and a warm page cache."""
    settings = replace(settings, context=max(TTFT_PROMPTS) + 1)
    files = [runnable.entry] if runnable.entry.is_file() else sorted(runnable.entry.glob("*"))
    planned = planned_memory(runnable, settings)
    for name, start in starts(files, lambda: open_engine(runnable, settings)):
        document |= {"planned_memory": planned, name: asdict(start)}
        head = [title_of(runnable)] if name == "cold" else []
        warnings = _warnings(start) if name == "cold" else ()
        yield Figures((*head, *_lines(name, start, planned)), tuple(warnings))


def _lines(name: str, start: Start, planned: int | None) -> Iterator[str]:
    share = "an unknown share" if start.cached_before is None else format_share(start.cached_before)
    ready = format_seconds(start.load_seconds)
    yield f"{name}: {share} of the model in the page cache, ready in {ready}"
    ttft = ", ".join(f"{n}: {format_seconds(seconds)}" for n, seconds in start.ttft_seconds.items())
    yield f"  TTFT by prompt tokens  {ttft}"
    if start.peak_memory is not None:
        peak, *rest = compare_bytes(start.peak_memory, *([planned] if planned else []))
        yield f"  peak memory  {peak}{''.join(f', planned {size}' for size in rest)}"


def _warnings(cold: Start) -> Iterator[str]:
    if cold.cached_before is None:
        yield "this system cannot tell whether the page cache was emptied"
    elif cold.cached_before > CACHED:
        yield "the page cache could not be emptied, so the cold start was in fact warm"


def _words(document: Document) -> str:
    found = []
    for name in ("cold", "warm"):
        if name in document:
            ttft = document[name]["ttft_seconds"]
            first = min(ttft, key=int)
            ready = f"{name} ready in {format_seconds(document[name]['load_seconds'])}"
            found.append(f"{ready}, TTFT {first}: {format_seconds(ttft[first])}")
    return "; ".join(found)


MODE = Mode(
    prepare=_prepare,
    words=_words,
)
