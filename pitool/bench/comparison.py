"""Two sets of rows side by side: which tests became faster or slower beyond the noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pitool.bench import statistics
from pitool.bench.formats import Row, test_name
from pitool.bench.statistics import Ratio

Verdict = Literal["slower", "faster", "same", "unclear"]
THRESHOLD = 0.03

# What must be equal for two rows to be the same test.
_TESTS = ("n_prompt", "n_gen", "n_depth")
# What tells tests apart where a side has several values of it. Where each side has one, the
# comparison is of these: two quantisations, flash attention on and off, three threads and four.
_SETTINGS = (
    "host",
    "bundle",
    "model_type",
    "engine",
    "n_threads",
    "n_batch",
    "n_ubatch",
    "type_k",
    "type_v",
    "flash_attn",
    "load_mode",
    "repack",
)
# What makes a comparison one of two machines or models rather than of two versions.
_SURROUNDINGS = ("cpu_info", "board", "kernel", "firmware", "artifact_sha256")


@dataclass(frozen=True, slots=True)
class Line:
    """One test on both sides, means in tokens/s.

    ``slower`` and ``faster``: the interval of the ratio leaves 1 out and the ratio differs by
    the threshold or more; ``same``: the whole interval is within it; else ``unclear``.
    """

    model: str
    test: str
    old: float
    new: float
    ratio: Ratio
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Comparison:
    """All tests that both sides have, what only one has, and what else differs."""

    lines: tuple[Line, ...]
    only_old: tuple[str, ...]
    only_new: tuple[str, ...]
    differs: tuple[str, ...]

    @property
    def regressed(self) -> bool:
        """Tell whether any test became slower."""
        return any(line.verdict == "slower" for line in self.lines)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {**asdict(self), "regressed": self.regressed}


def compare(old: Sequence[Row], new: Sequence[Row], threshold: float = THRESHOLD) -> Comparison:
    """Return what changed; samples of rows of the same test are taken together."""
    several = [k for k in _SETTINGS if max(len(_values(old, k)), len(_values(new, k))) > 1]
    before, after = _grouped(old, several), _grouped(new, several)
    shared = [key for key in before if key in after]
    return Comparison(
        tuple(_line(before[key], after[key], threshold) for key in shared),
        tuple(_name(rows[0]) for key, rows in before.items() if key not in after),
        tuple(_name(rows[0]) for key, rows in after.items() if key not in before),
        tuple(k for k in (*_SETTINGS, *_SURROUNDINGS) if _values(old, k) != _values(new, k)),
    )


def verdict(ratio: Ratio, threshold: float) -> Verdict:
    """Return what a ratio says beyond the noise."""
    if ratio.high < 1 and ratio.value <= 1 - threshold:
        return "slower"
    if ratio.low > 1 and ratio.value >= 1 + threshold:
        return "faster"
    return "same" if 1 - threshold < ratio.low and ratio.high < 1 + threshold else "unclear"


def _line(old: list[Row], new: list[Row], threshold: float) -> Line:
    before, after = _samples(old), _samples(new)
    ratio = statistics.compare(before, after)
    return Line(
        model=str(old[0]["model_type"]),
        test=test_name(old[0]),
        old=sum(before) / len(before),
        new=sum(after) / len(after),
        ratio=ratio,
        verdict=verdict(ratio, threshold),
    )


def _grouped(rows: Sequence[Row], several: list[str]) -> dict[tuple[Any, ...], list[Row]]:
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        if row["samples_ts"]:
            groups.setdefault(tuple(row.get(k) for k in (*_TESTS, *several)), []).append(row)
    return groups


def _samples(rows: Sequence[Row]) -> list[float]:
    return [float(sample) for row in rows for sample in row["samples_ts"]]


def _values(rows: Sequence[Row], key: str) -> set[Any]:
    return {row.get(key) for row in rows}


def _name(row: Row) -> str:
    return f"{row['model_type']} {test_name(row)}"
