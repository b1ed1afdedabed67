"""Measures an artifact on its engine: logits, answers, and how it runs on this machine."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from pitool.bench import run as bench
from pitool.bench.run import Workload
from pitool.convert.engines import Loading, OpenEngine, OpenWith
from pitool.convert.reference import Reference
from pitool.convert.techniques.base import ArtifactFiles
from pitool.device import memory
from pitool.engine import worker
from pitool.engine.base import Engine, Sampling, Settings
from pitool.lab.result import EngineFigures
from pitool.quality.calibration import ask
from pitool.quality.comparison import Difference, compare

CONTEXT = 1024
ANSWER_TOKENS = 64
PREFILL, DECODE = Workload(prompt=256), Workload(generate=64)
REPETITIONS = 5
LOGITS_ROWS = 128


def open_engine(
    made: ArtifactFiles, context: int, threads: int, outputs: int
) -> worker.WorkerEngine:
    """Load an artifact in a worker; ``outputs``: most rows of logits at once."""
    settings = Settings(
        context, threads, threads, micro_batch=max(outputs, LOGITS_ROWS), outputs=outputs
    )
    return worker.start(made.format, made.entry, settings)


def logits_engine(made: ArtifactFiles, tokens: int, threads: int) -> AbstractContextManager[Engine]:
    """Load an artifact with room for a window and its logits."""
    return open_engine(made, -(-tokens // 256) * 256, threads, min(tokens, LOGITS_ROWS))


def open_with(threads: int) -> OpenWith:
    """Return what loads an artifact for a look at its tokens, tokenized as is said."""

    def with_(loading: Loading) -> OpenEngine:
        def open_(path: Path, tokens: int) -> AbstractContextManager[Engine]:
            settings = Settings(-(-tokens // 256) * 256, threads, threads, **loading.settings)
            return worker.start("onnx" if path.is_dir() else "gguf", path, settings)

        return open_

    return with_


def difference(made: ArtifactFiles, reference: Reference, threads: int) -> Difference:
    """Return how an artifact differs from the reference."""
    longest = max(map(len, reference.windows))
    with logits_engine(made, longest, threads) as engine:
        return compare(engine, reference, "the artifact")


def run(
    made: ArtifactFiles, prompts: Sequence[str], context: int, threads: int, *, timed: bool
) -> tuple[tuple[str, ...], EngineFigures | None]:
    """Return the greedy answers, and how the artifact runs where it is ``timed``.

    Peak memory is that of speeds and answers; logits of whole windows are measured elsewhere.
    """
    with open_engine(made, min(CONTEXT, context), threads, 1) as engine:
        speeds = _speeds(engine) if timed else None
        answers, seconds = zip(*(answer(engine, prompt) for prompt in prompts), strict=True)
        if speeds is None:
            return answers, None
        peak = memory.peak_rss(engine.pid)
        latency = statistics.fmean(seconds)
        return answers, EngineFigures(engine.info.load_seconds, peak, *speeds, latency)


def _speeds(engine: Engine) -> tuple[float, float]:
    """Return the median tokens/s of prefill and of decode."""
    last = {}
    for result in bench.measure(engine, (PREFILL, DECODE), REPETITIONS):
        last[result.workload] = statistics.median(result.samples_ts or (0.0,))
    return last[PREFILL], last[DECODE]


def answer(engine: Engine, prompt: str) -> tuple[str, float]:
    """Return the likeliest answer from an empty cache, and the seconds until its end."""
    engine.clear()
    text, seconds = [], 0.0
    for token in engine.stream(
        ask(engine, prompt), Sampling(temperature=0.0, max_tokens=ANSWER_TOKENS)
    ):
        text.append(token.text)
        seconds = token.timings.ttft_seconds + token.timings.decode_seconds
    return "".join(text).strip(), seconds
