"""Which types the KV cache may have: what they take, what they cost, and which are advised.

What they cost is measured with the model itself (``quality.kv_cache``): models differ too much for
anything else. A figure counts from that of f16, so that what any rounding does cancels out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pitool.catalog.kv_types import USUAL, CacheTypes, bits
from pitool.catalog.manifest import CacheQuality, Certificate
from pitool.planning.formats.gguf_memory import cache_bytes
from pitool.planning.planner import Planner

# Types that take less than the usual one, the best quality first.
SMALLER = ("q8_0", "q5_1", "q5_0", "q4_1", "iq4_nl", "q4_0")
# Of what the weights lose, so much more is worth a smaller cache; in nats where it is not known.
SHARE, LIMIT = 0.1, 2e-3


@dataclass(frozen=True, slots=True)
class CacheChoice:
    """Types and the mean KL divergence that they cost beside f16.

    ``measured``: as a pair, not as a sum.
    """

    types: CacheTypes
    mean_kl: float
    measured: bool


def choices(found: Sequence[CacheQuality]) -> list[CacheChoice]:
    """Return every pair whose cost is known, the smallest cache last.

    Keys and values that were measured apart add up: what both do to a token is small.
    """
    every = {(each.keys, each.values): each.mean_kl for each in found}
    usual = every.get((USUAL, USUAL), 0.0)
    known = {pair: max(loss - usual, 0.0) for pair, loss in every.items()} | {(USUAL, USUAL): 0.0}
    made = []
    for keys in (USUAL, *SMALLER):
        for values in (USUAL, *SMALLER):
            pair = known.get((keys, values))
            apart = [known.get((keys, USUAL)), known.get((USUAL, values))]
            if pair is not None:
                made.append(CacheChoice(CacheTypes(keys, values), pair, measured=True))
            elif None not in apart:
                total = sum(each for each in apart if each is not None)
                made.append(CacheChoice(CacheTypes(keys, values), total, measured=False))
    return sorted(made, key=lambda choice: (-choice.types.bits, choice.mean_kl))


def front(found: Sequence[CacheQuality]) -> list[CacheChoice]:
    """Return the choices of which no smaller cache costs less, the smallest last."""
    best: list[CacheChoice] = []
    for choice in sorted(choices(found), key=lambda choice: (choice.types.bits, choice.mean_kl)):
        if not best or choice.mean_kl < best[-1].mean_kl:
            best.append(choice)
    return best[::-1]


def limit(certificate: Certificate | None) -> float:
    """Return the mean KL divergence up to which a smaller cache is worth it."""
    return SHARE * certificate.mean_kl if certificate else LIMIT


def advised(found: Sequence[CacheQuality], certificate: Certificate | None) -> CacheTypes | None:
    """Return the smallest cache that costs little beside the weights; None for the usual one."""
    most = limit(certificate)
    worth = [choice for choice in front(found) if choice.mean_kl <= most]
    best = worth[-1].types if worth else None
    return best if best and best.bits < bits(USUAL) else None


@dataclass(frozen=True, slots=True)
class PlannedCache:
    """Types with the bytes that they take in a plan; ``choice``: what they cost, if known."""

    types: CacheTypes
    bytes: int
    choice: CacheChoice | None = None


@dataclass(frozen=True, slots=True)
class CacheAdvice:
    """What the cache of a plan may be, the largest first; ``best``: what is advised.

    ``artifact``: the name of what was measured. Both are None where nothing was.
    """

    planned: tuple[PlannedCache, ...]
    artifact: str | None = None
    best: CacheTypes | None = None


# Shown of a model that was not measured.
EXAMPLES = (CacheTypes(USUAL, USUAL), *(CacheTypes("q8_0", v) for v in ("q8_0", "q5_1", "q4_0")))


def advise(planner: Planner) -> CacheAdvice:
    """Return what the KV cache of a planned model may be, by what was measured of it."""
    model = planner.model

    def bytes_of(types: CacheTypes) -> int:
        return cache_bytes(model.shape, planner.load.with_cache(types))

    own = next(((name, found) for name, found in model.caches.items() if found), None)
    if own is None:
        return CacheAdvice(tuple(PlannedCache(types, bytes_of(types)) for types in EXAMPLES))
    name, found = own
    planned = tuple(PlannedCache(c.types, bytes_of(c.types), c) for c in front(found))
    best = advised(found, model.certificates.get(name)) or CacheTypes(USUAL, USUAL)
    return CacheAdvice(planned, name, best)


def caches_json(planner: Planner) -> dict[str, Any]:
    """Return every number of the advice."""
    advice = advise(planner)
    best = advice.best
    return {
        "measured_with": advice.artifact,
        "advised": {"keys": best.keys, "values": best.values} if best else None,
        "choices": [
            {
                "keys": each.types.keys,
                "values": each.types.values,
                "bytes": each.bytes,
                "mean_kl": each.choice.mean_kl if each.choice else None,
                "measured": each.choice.measured if each.choice else False,
            }
            for each in advice.planned
        ],
    }
