"""Measures what each tensor loses at each type, solves for the types, and says why these.

The losses are end to end: the divergence of the model's predictions. Owns the words and the front,
what other sizes and speeds would have cost; the budgets are ``fitting``'s.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pitool.catalog.manifest import Fit, FitPoint
from pitool.catalog.model_shape import TensorShape
from pitool.catalog.tensor_types import Quantisation, TensorType
from pitool.convert.conversion import Conversion
from pitool.convert.gguf import losses
from pitool.convert.gguf.calibrate import Calibration
from pitool.convert.gguf.fitting import Fitting, Solution
from pitool.convert.gguf.losses import Losses
from pitool.errors import DoesNotFit
from pitool.planning.formats.gguf import GgufPlan
from pitool.report.numbers import (
    format_bytes,
    format_fixed,
    format_share,
    format_significant,
    format_speed,
)

# Sizes on the front, evenly spaced in their logarithm.
POINTS = 10
# So many times as fast is a point of its own, and what is no faster than this is at its limit.
FASTER = 1.02
MORE = 1.1
# A share of the loss that is printed as 0 %.
SMALL = 0.005


@dataclass(frozen=True, slots=True)
class Chosen:
    """The types that lose least, the plan with them, and what there is to say."""

    types: dict[str, TensorType]
    plan: GgufPlan
    fit: Fit


def solve_types(
    work: Conversion, kind: Quantisation, exact: Path, calibrated: Calibration | None
) -> Chosen:
    """Return the types that lose least within the plan's size and speed.

    ``exact``: the GGUF in the float type ``kind``.
    """
    fitting, progress = work.plan.fitting, work.progress
    assert fitting
    progress.stage("measuring rounding errors", len(work.plan.model.tensors))
    matrix = calibrated.matrix if calibrated else None
    found = losses.measure_losses(exact, matrix, progress.advance)
    known = bool(calibrated and calibrated.windows)
    if calibrated and calibrated.windows:
        bands = work.job.effort.bands
        progress.stage("measuring sensitivity", len(losses.groups(list(found), bands)))
        weights = losses.measure_sensitivity(
            exact, kind, found, calibrated.windows[: losses.WINDOWS],
            work.engines.open, work.folder, work.job.threads, progress.advance,
            bands,
        )  # fmt: skip
        found = losses.weigh(found, weights)
    made = fitting.solve(exact, found)
    assert isinstance(made.row.artifact, GgufPlan)
    progress.stage("choosing types", POINTS)
    points = front(fitting, exact, found, progress.advance) if known else ()
    fit = Fit(
        made_line(fitting, made, known=known),
        why_line(fitting, made, exact, found),
        made.loss if known else None,
        points,
    )
    return Chosen(dict(made.types), made.row.artifact, fit)


def front(
    fitting: Fitting, exact: Path, found: Losses, on_point: Callable[[int], None]
) -> tuple[FitPoint, ...]:
    """Return what else there could be, the smallest first; none is beaten in all three respects.

    That is the least loss at each of a few sizes, and where a board waits for products there, the
    least loss at the same size without that.
    """
    tried = [_point(made) for made in _solutions(fitting, exact, found, on_point)]
    best = [p for p in tried if not any(_beats(other, p) for other in tried)]
    return tuple(sorted(best, key=lambda point: (point.bytes, point.mean_kl)))


def _beats(one: FitPoint, other: FitPoint) -> bool:
    """Tell whether a point is as good in every respect, and better in one."""
    merits = [
        (-p.bytes, -p.mean_kl, min((speed.decode for speed in p.speed), default=0.0))
        for p in (one, other)
    ]
    pairs = list(zip(*merits, strict=True))
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def _solutions(
    fitting: Fitting, exact: Path, found: Losses, on_point: Callable[[int], None]
) -> Iterator[Solution]:
    free = replace(fitting, target=None)
    least, most = free.range(exact, found)
    for size in np.geomspace(least, most, POINTS):
        made = replace(free, bytes=int(np.ceil(size))).solve(exact, found, required=False)
        yield made
        slow = min(made.row.artifact.estimates, key=lambda each: each.decode, default=None)
        if slow is not None and slow.bound == "products":
            reached = _without_products(free, int(np.ceil(size)), slow.decode, exact, found)
            if reached is not None:
                yield reached
        on_point(1)


def _without_products(
    free: Fitting, size: int, decode: float, exact: Path, found: Losses
) -> Solution | None:
    """Return the solution that is clearly faster at a size, None for none."""
    try:
        faster = replace(free, bytes=size, target=decode * FASTER)
        return faster.solve(exact, found, required=False)
    except DoesNotFit:
        return None


def _point(made: Solution) -> FitPoint:
    artifact = made.row.artifact
    return FitPoint(artifact.bytes, made.loss, artifact.speeds)


def made_line(fitting: Fitting, made: Solution, *, known: bool) -> str:
    """Return what was made: size, speed, predicted loss, and the types."""
    artifact = made.row.artifact
    most = f" of {format_bytes(fitting.bytes)}" if fitting.bytes is not None else ""
    slow = min(artifact.estimates, key=lambda each: each.decode, default=None)
    speed = ""
    if slow is not None:
        asked = f" of {format_speed(fitting.target)} asked" if fitting.target else ""
        speed = f", {format_speed(slow.decode)} tokens/s{asked} on {slow.board}"
    loss = f", predicted KL {format_significant(made.loss)}" if known else ""
    return f"made: {format_bytes(artifact.bytes)}{most}{speed}{loss}: {_shares(made)}"


def _shares(made: Solution) -> str:
    """Return which part of the weights has which type, the largest first."""
    assert isinstance(made.row.artifact, GgufPlan)
    weights: Counter[str] = Counter()
    for stored in made.row.artifact.tensors:
        if stored.tensor.name in made.types:
            weights[stored.type.name] += stored.tensor.weights
    total = max(weights.total(), 1)
    parts = [(name, count / total) for name, count in weights.most_common()]
    return ", ".join(f"{format_share(share)} {name}" for name, share in parts)


def why_line(fitting: Fitting, made: Solution, exact: Path, found: Losses) -> str:
    """Return why: which budget decides, what more of it would give, where the bits went."""
    bits = _bits_by_part(made)
    rich, poor = max(bits, key=lambda p: bits[p]), min(bits, key=lambda p: bits[p])
    where = ""
    if bits[rich] > bits[poor]:
        where = (
            f"; most bits to {rich} ({format_fixed(bits[rich], 1)}), fewest to {poor}"
            f" ({format_fixed(bits[poor], 1)})"
        )
    return f"why: {_decides(fitting, made, exact, found)}{where}"


def _decides(fitting: Fitting, made: Solution, exact: Path, found: Losses) -> str:
    """Say which budget is used up, and what a tenth more of it would give."""
    if all(kind.name == losses.CANDIDATES[-1] for kind in made.types.values()):
        return "every tensor has the most bits that a type gives"

    def gain(wider: Fitting) -> float:
        other = wider.solve(exact, found, required=False)
        return max(1 - other.loss / made.loss, 0.0) if made.loss else 0.0

    budget = "size" if fitting.bytes is not None else "memory"
    size = round((fitting.bytes or made.row.artifact.bytes) * MORE)
    gains = {f"the {budget} decides, and a tenth more": gain(replace(fitting, bytes=size))}
    target = fitting.target
    if target is not None and made.row.slowest <= target * FASTER:
        slower = replace(fitting, target=target / MORE)
        gains["the speed decides, and a tenth less"] = gain(slower)
    what, share = max(gains.items(), key=lambda item: item[1])
    if len(gains) > 1 and share < SMALL:
        return f"{budget} and speed decide together, and more of one alone gives nothing"
    return f"{what} of it would take away {format_share(share)} of the loss"


def _bits_by_part(made: Solution) -> dict[str, float]:
    """Return the bits a weight of each part of the model, over all layers."""
    assert isinstance(made.row.artifact, GgufPlan)
    stored: Counter[str] = Counter()
    weights: Counter[str] = Counter()
    for each in made.row.artifact.tensors:
        if each.tensor.name in made.types:
            part = _part(each.tensor)
            stored[part] += 8 * each.bytes
            weights[part] += each.tensor.weights
    return {part: stored[part] / weights[part] for part in weights}


def _part(tensor: TensorShape) -> str:
    return tensor.part or tensor.name.removesuffix(".weight")
