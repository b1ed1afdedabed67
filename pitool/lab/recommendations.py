"""What follows from the measurements: Pareto fronts, and which technique suits which use.

Owns the rules, which are said beside each recommendation; nothing is rated by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from pitool.lab.result import Comparison, TechniqueResult
from pitool.report.numbers import (
    compare_fixed,
    format_bytes,
    format_fixed,
    format_seconds,
    format_share,
    format_speed,
)

# The share of likeliest tokens that a recommended artifact has in common with the baseline.
LEAST_TOP1 = 0.95
FOUR_BITS = (4.0, 5.5)


@dataclass(frozen=True, slots=True)
class Recommendation:
    """``use``: for what; ``rule``: how it was chosen; ``technique`` None where nothing qualifies.

    ``reason``: the figures, or why there is none.
    """

    use: str
    rule: str
    technique: str | None
    reason: str


def front(
    rows: Iterable[TechniqueResult],
    cost: Callable[[TechniqueResult], float],
    loss: Callable[[TechniqueResult], float],
) -> list[TechniqueResult]:
    """Return the rows that no other beats in cost and in loss, the cheapest first.

    Of equal ones the first of the table is kept.
    """
    best: list[TechniqueResult] = []
    for row in sorted(rows, key=lambda r: (cost(r), loss(r))):
        if not best or loss(row) < loss(best[-1]):
            best.append(row)
    return best


def mean_kl(row: TechniqueResult) -> float:
    """Return the divergence of a row that is done."""
    assert row.quality
    return row.quality.mean_kl


def size_front(comparison: Comparison) -> list[TechniqueResult]:
    """Return the front of size and divergence, among what really runs and what does not alike."""
    return front(comparison.done, lambda r: r.bytes, mean_kl)


def speed_front(comparison: Comparison) -> list[TechniqueResult]:
    """Return the front of decode speed and divergence, among what really runs."""
    return front(running(comparison), lambda r: -decode(r), mean_kl)


def running(comparison: Comparison) -> list[TechniqueResult]:
    """Return the rows that a kernel runs, and that fit the tier where there is one."""
    return [r for r in comparison.done if r.running and comparison.fits(r) is not False]


def decode(row: TechniqueResult) -> float:
    """Return the tokens/s of a row that runs."""
    assert row.running
    return row.running.decode


def recommend(comparison: Comparison) -> tuple[Recommendation, ...]:
    """Return a recommendation for each use."""
    return tuple(use(comparison) for use in (_quick, _edge, _tuning, _four_bits))


def _close(rows: Sequence[TechniqueResult]) -> list[TechniqueResult]:
    return [r for r in rows if r.quality and r.quality.top1 >= LEAST_TOP1]


def _quick(comparison: Comparison) -> Recommendation:
    use = "quick deployment"
    rule = (
        "smaller than FP16, needs only the checkpoint, top-1 of"
        f" {format_share(LEAST_TOP1)} or more; the shortest time to convert, load and answer"
    )
    base = comparison.parameters * 2
    rows = [r for r in _close(running(comparison)) if not r.needs and r.bytes < base]
    if not rows:
        return Recommendation(use, rule, None, "no row qualifies")
    best = min(rows, key=_until_answer)
    return Recommendation(
        use,
        rule,
        best.technique,
        f"{format_seconds(_until_answer(best))} to the first answer, {_what(best)}",
    )


def _until_answer(row: TechniqueResult) -> float:
    assert row.running
    return row.convert_seconds + row.running.load_seconds + row.running.latency


def _edge(comparison: Comparison) -> Recommendation:
    use = "edge device"
    fitting = f" that fit {comparison.tier}" if comparison.tier else ""
    rule = (
        f"of the rows{fitting} with a top-1 of {format_share(LEAST_TOP1)} or more,"
        " the smallest that runs"
    )
    rows = _close(running(comparison))
    if not rows:
        return Recommendation(use, rule, None, "no row qualifies")
    best = min(rows, key=lambda r: (r.bytes, mean_kl(r)))
    assert best.running
    return Recommendation(
        use,
        rule,
        best.technique,
        f"{_what(best)}, {format_speed(best.running.decode)} tokens/s on this machine",
    )


def _tuning(comparison: Comparison) -> Recommendation:
    use = "efficient fine-tuning"
    rule = "of the rows that train adapters on a quantised base, the lowest perplexity"
    rows = [r for r in comparison.done if r.technique.startswith("qlora")]
    if not rows:
        return Recommendation(use, rule, None, "QLoRA was not measured")
    best = min(rows, key=lambda r: r.quality.perplexity if r.quality else 0.0)
    assert best.quality
    own, base = compare_fixed(best.quality.perplexity, best.quality.base_perplexity, digits=3)
    reason = f"perplexity {own} against {base} of the checkpoint, {format_bytes(best.bytes)}"
    return Recommendation(use, rule, best.technique, reason)


def _four_bits(comparison: Comparison) -> Recommendation:
    use = "best 4-bit quality"
    low, high = FOUR_BITS
    rule = f"of the rows with {low:g} to {high:g} bits per weight in the layers, the lowest mean KL"
    rows = [r for r in comparison.done if low <= r.bits <= high]
    if not rows:
        return Recommendation(use, rule, None, "no row qualifies")
    best = min(rows, key=mean_kl)
    reason = _what(best)
    runs = [r for r in rows if r.running]
    if not best.running and runs:
        second = min(runs, key=mean_kl)
        reason += f"; of those that run, {second.technique} with {format_fixed(mean_kl(second), 4)}"
    return Recommendation(use, rule, best.technique, reason)


def _what(row: TechniqueResult) -> str:
    assert row.quality
    return (
        f"{format_bytes(row.bytes)}, mean KL {format_fixed(row.quality.mean_kl, 4)},"
        f" top-1 {format_share(row.quality.top1, 1)}"
    )
