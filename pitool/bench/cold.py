"""From nothing to the first token: loading with a cold and a warm page cache, TTFT, memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from pitool.bench.page_cache import cached_share, evict
from pitool.bench.run import random_tokens
from pitool.device import memory
from pitool.engine.base import Engine, Sampling

TTFT_PROMPTS = (128, 512, 2048)


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
