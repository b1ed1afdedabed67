"""What a test is and how it is measured: llama-bench's semantics, on any engine.

A warm-up for each test, then repetitions on an empty KV cache with random tokens, timed by the
engine itself; no tokenization, no sampling. Never prints and never opens a model.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from pitool.engine.base import Engine, ModelInfo

REPETITIONS = 5
SEED = 1


@dataclass(frozen=True, slots=True)
class Workload:
    """What one test processes: ``prompt`` tokens at once, or ``generate`` tokens one by one."""

    prompt: int = 0
    generate: int = 0

    @property
    def name(self) -> str:
        """``pp512`` or ``tg128``."""
        parts = (f"pp{self.prompt}" * bool(self.prompt), f"tg{self.generate}" * bool(self.generate))
        return "+".join(filter(None, parts))

    @property
    def tokens(self) -> int:
        """Tokens of one repetition, which is the context that it needs."""
        return self.prompt + self.generate


@dataclass(frozen=True, slots=True)
class Result:
    """A test so far: nanoseconds of each finished repetition.

    ``test_time``: when it began, ISO 8601 in UTC. Averages are arithmetic means and deviations
    those of a sample (n - 1), 0 for fewer than two.
    """

    workload: Workload
    info: ModelInfo
    test_time: str
    samples_ns: tuple[int, ...] = ()

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


def workloads(prompts: Iterable[int], generates: Iterable[int]) -> list[Workload]:
    """Return a test for each number of tokens, prompts first; 0 is no test."""
    return [Workload(prompt=n) for n in prompts if n] + [
        Workload(generate=n) for n in generates if n
    ]


def context_for(tests: Iterable[Workload]) -> int:
    """Return the tokens that the KV cache must hold for the largest test."""
    return max(test.tokens for test in tests)


def measure(
    engine: Engine, tests: Iterable[Workload], repetitions: int = REPETITIONS
) -> Iterator[Result]:
    """Yield each test as it begins, without samples, and again after each repetition.

    Whoever stops in between has in the last of each test what was measured so far. The tokens
    are the same in every run, because the speed of a model with experts depends on them.
    """
    first = engine.tokenize("")[:1]
    choice = random.Random(SEED)

    def ids(count: int) -> list[int]:
        drawn = choice.choices(range(engine.info.vocabulary), k=count)
        return [*first, *drawn][:count]

    for test in tests:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        result = Result(test, engine.info, now)
        yield result
        engine.clear()
        _seconds(engine, ids(test.prompt), ids(min(test.generate, 1)))
        for _ in range(repetitions):
            engine.clear()
            seconds = _seconds(engine, ids(test.prompt), ids(test.generate))
            # A clock may not have moved during a tiny test.
            took = max(1, round(seconds * 1e9))
            result = replace(result, samples_ns=(*result.samples_ns, took))
            yield result


def _seconds(engine: Engine, prompt: Sequence[int], generate: Sequence[int]) -> float:
    """Return the seconds that the engine takes for a prompt, then a generation."""
    seconds = engine.time_forward(prompt, one_by_one=False) if prompt else 0.0
    return seconds + (engine.time_forward(generate, one_by_one=True) if generate else 0.0)


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else 0.0


def _deviation(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0
