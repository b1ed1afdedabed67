"""What a test is and how it is measured: llama-bench's semantics, on any engine.

A warm-up for each test, then repetitions on an empty KV cache with random tokens, timed by the
engine itself; no tokenization, no sampling. Never prints and never opens a model.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from pitool.device.activity import Look
from pitool.engine.base import Engine, ModelInfo

REPETITIONS = 5
SEED = 1


@dataclass(frozen=True, slots=True)
class Workload:
    """What one test processes: ``prompt`` tokens at once, then ``generate`` tokens one by one.

    ``depth`` tokens are in the KV cache before; they are not timed.
    """

    prompt: int = 0
    generate: int = 0
    depth: int = 0

    @property
    def name(self) -> str:
        """``pp512``, ``tg128``, ``pp512+tg128`` or ``tg128 @ d1024``."""
        parts = (f"pp{self.prompt}" * bool(self.prompt), f"tg{self.generate}" * bool(self.generate))
        return "+".join(filter(None, parts)) + f" @ d{self.depth}" * bool(self.depth)

    @property
    def tokens(self) -> int:
        """Tokens of one repetition that are timed."""
        return self.prompt + self.generate

    @property
    def context(self) -> int:
        """Tokens of context that the test needs."""
        return self.depth + self.tokens


@dataclass(frozen=True, slots=True)
class Result:
    """A test so far: nanoseconds of each finished repetition, and the board around each.

    ``looks``: before the first repetition and after each, empty when nobody looked.
    ``test_time``: when it began, ISO 8601 in UTC. Averages are arithmetic means and deviations
    those of a sample (n - 1), 0 for fewer than two.
    """

    workload: Workload
    info: ModelInfo
    test_time: str
    samples_ns: tuple[int, ...] = ()
    looks: tuple[Look, ...] = ()

    @property
    def samples_ts(self) -> tuple[float, ...]:
        """Tokens per second of each repetition."""
        return tuple(self.workload.tokens * 1e9 / ns for ns in self.samples_ns)

    @property
    def avg_ns(self) -> int:
        """Mean nanoseconds of a repetition."""
        return round(_mean(self.samples_ns))

    @property
    def stddev_ns(self) -> int:
        """Deviation of the nanoseconds."""
        return round(_deviation(self.samples_ns))

    @property
    def avg_ts(self) -> float:
        """Mean of the repetitions' tokens per second, which is not tokens over mean seconds."""
        return _mean(self.samples_ts)

    @property
    def stddev_ts(self) -> float:
        """Deviation of the tokens per second."""
        return _deviation(self.samples_ts)

    @property
    def threads(self) -> int:
        """Threads that this test ran on."""
        settings = self.info.settings
        return settings.decode_threads if self.workload.generate else settings.prefill_threads


def measure(
    engine: Engine,
    tests: Iterable[Workload],
    repetitions: int = REPETITIONS,
    look: Callable[[], Look] | None = None,
    *,
    warm_up: bool = True,
) -> Iterator[Result]:
    """Yield each test as it begins, without samples, and again after each repetition.

    Whoever stops in between has in the last of each test what was measured so far. The tokens
    are the same in every run, because the speed of a model with experts depends on them.
    ``look`` is called between repetitions, never while one is timed.
    """
    ids = random_tokens(engine)
    for test in tests:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        result = Result(test, engine.info, now)
        yield result
        engine.clear()
        if warm_up:
            _seconds(engine, ids(test.prompt), ids(min(test.generate, 1)))
        if look:
            result = replace(result, looks=(look(),))
        for repetition in range(repetitions):
            # As llama-bench, which restores what is in the KV cache before.
            if repetition == 0 or engine.rewind(test.depth) < test.depth:
                engine.clear()
                _seconds(engine, ids(test.depth), ())
            seconds = _seconds(engine, ids(test.prompt), ids(test.generate))
            # A clock may not have moved during a tiny test.
            took = max(1, round(seconds * 1e9))
            looks = (*result.looks, look()) if look else ()
            result = replace(result, samples_ns=(*result.samples_ns, took), looks=looks)
            yield result


def random_tokens(engine: Engine) -> Callable[[int], list[int]]:
    """Return a function that draws so many ids, the beginning-of-sequence token first if any."""
    first = engine.tokenize("")[:1]
    choice = random.Random(SEED)

    def draw(count: int) -> list[int]:
        drawn = choice.choices(range(engine.info.vocabulary), k=count)
        return [*first, *drawn][:count]

    return draw


def _seconds(engine: Engine, prompt: Sequence[int], generate: Sequence[int]) -> float:
    """Return the seconds that the engine takes for a prompt, then a generation."""
    seconds = engine.time_forward(prompt, one_by_one=False) if prompt else 0.0
    return seconds + (engine.time_forward(generate, one_by_one=True) if generate else 0.0)


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else 0.0


def _deviation(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0
