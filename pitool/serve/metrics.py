"""Figures for Prometheus, in its text format (version 0.0.4): what was done, and what is now."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator

from pitool.device.monitor import Sample
from pitool.device.sensors import FLAGS
from pitool.engine.base import Timings

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# Upper bounds of the time to the first token, in seconds.
TTFT_BOUNDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250)

Labels = tuple[tuple[str, str], ...]

# Counters by model: name, what it is, and its value of an answer.
_COUNTERS: tuple[tuple[str, str, Callable[[Timings], float]], ...] = (
    ("prompt_tokens", "Tokens of prompts.", lambda t: t.prompt_tokens),
    ("reused_tokens", "Tokens of prompts that were in the KV cache.", lambda t: t.reused_tokens),
    ("prefill_seconds", "Seconds of reading prompts.", lambda t: t.prefill_seconds),
    ("answer_tokens", "Tokens of answers.", lambda t: t.decoded_tokens),
    ("decode_seconds", "Seconds of writing answers.", lambda t: t.decode_seconds),
    ("guessed_tokens", "Tokens that were guessed.", lambda t: t.guessed_tokens),
    ("accepted_tokens", "Guessed tokens that were the answer's.", lambda t: t.accepted_tokens),
)


class Metrics:
    """Counts since the start; used in the event loop only."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, int]] = Counter()
        self._sums: defaultdict[tuple[str, str], float] = defaultdict(float)
        self._ttft: defaultdict[str, Counter[float]] = defaultdict(Counter)
        self._speeds: dict[str, Timings] = {}

    def requested(self, endpoint: str, status: int) -> None:
        """Count a request."""
        self._requests[endpoint, status] += 1

    def answered(self, model: str, timings: Timings) -> None:
        """Count an answer."""
        for name, _, value in _COUNTERS:
            self._sums[name, model] += value(timings)
        self._sums["answers", model] += 1
        self._sums["ttft_seconds", model] += timings.ttft_seconds
        bound = next((b for b in TTFT_BOUNDS if timings.ttft_seconds <= b), float("inf"))
        self._ttft[model][bound] += 1
        self._speeds[model] = timings

    def lines(self, now: Iterable[str]) -> str:
        """Return all figures; ``now``: the lines of what is not counted here."""
        return "\n".join([*self._counted(), *now, ""])

    def _counted(self) -> Iterator[str]:
        requests = [
            ((("endpoint", endpoint), ("status", str(status))), count)
            for (endpoint, status), count in sorted(self._requests.items())
        ]
        yield from family("requests_total", "counter", "Requests.", requests)
        answers = self._by_model("answers")
        yield from family("answers_total", "counter", "Answers that were completed.", answers)
        for name, meaning, _ in _COUNTERS:
            yield from family(f"{name}_total", "counter", meaning, self._by_model(name))
        speeds = {model: (("model", model),) for model in self._speeds}
        yield from family(
            "prefill_tokens_per_second", "gauge", "Speed of reading, of the last answer.",
            [(speeds[model], t.prefill_rate) for model, t in self._speeds.items()],
        )  # fmt: skip
        yield from family(
            "decode_tokens_per_second", "gauge", "Speed of writing, of the last answer.",
            [(speeds[model], t.decode_rate) for model, t in self._speeds.items()],
        )  # fmt: skip
        yield from self._histogram()

    def _by_model(self, name: str) -> list[tuple[Labels, float]]:
        return [
            ((("model", model),), value)
            for (known, model), value in sorted(self._sums.items())
            if known == name
        ]

    def _histogram(self) -> Iterator[str]:
        name = "pitool_ttft_seconds"
        yield f"# HELP {name} Time to the first token."
        yield f"# TYPE {name} histogram"
        for model, counts in sorted(self._ttft.items()):
            total = 0
            for bound in (*TTFT_BOUNDS, float("inf")):
                total += counts[bound]
                le = "+Inf" if bound == float("inf") else f"{bound:g}"
                yield f"{name}_bucket{labelled((('model', model), ('le', le)))} {total}"
            labels = labelled((("model", model),))
            yield f"{name}_sum{labels} {self._sums['ttft_seconds', model]:.6g}"
            yield f"{name}_count{labels} {total}"


def family(
    name: str, kind: str, meaning: str, values: Iterable[tuple[Labels, float | None]]
) -> Iterator[str]:
    """Yield the lines of one metric; what is unknown has none."""
    yield f"# HELP pitool_{name} {meaning}"
    yield f"# TYPE pitool_{name} {kind}"
    for labels, value in values:
        if value is not None:
            number = repr(round(value, 6)) if isinstance(value, float) else str(value)
            yield f"pitool_{name}{labelled(labels)} {number}"


def labelled(labels: Labels) -> str:
    """Return labels in braces, their values escaped."""
    pairs = (f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels)
    return "{" + ",".join(pairs) + "}" if labels else ""


_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def board_lines(sample: Sample) -> Iterator[str]:
    """Yield what a board's sensors say."""
    single = (
        ("available_bytes", "Memory that a program may take.", sample.available_bytes),
        ("swap_used_bytes", "Swap in use.", sample.swap_used_bytes),
        ("worker_bytes", "Resident memory of pitool's workers.", sample.worker_bytes),
        ("cpu_busy_ratio", "Busy share of all cores.", sample.cpu),
        ("temperature_celsius", "Temperature of the processor.", sample.temperature_c),
        ("clock_mhz", "Clock of the processor.", sample.clock_mhz),
    )
    for name, meaning, value in single:
        yield from family(name, "gauge", meaning, [((), value)])
    for name, meaning, flags in (
        ("throttled", "What slows the board down now.", sample.throttled_now),
        ("throttled_since_boot", "What slowed it down.", sample.throttled_since_boot),
    ):
        found = [] if flags is None else [((("flag", f),), int(f in flags)) for f in FLAGS]
        yield from family(name, "gauge", meaning, found)
