"""Which types the KV cache may have: what they take, what they cost, and which are advised.

What they cost was measured with the model itself (``quality.kv_cache``), or is what another model
showed (``recipes/kv_cache.toml``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from pitool.catalog import tables
from pitool.catalog.kv_types import USUAL, CacheTypes, bits
from pitool.catalog.manifest import CacheQuality, Certificate
from pitool.planning.formats.gguf import cache_bytes
from pitool.planning.planner import Planner

# Types that take less than the usual one, the best quality first.
SMALLER = ("q8_0", "q5_1", "q5_0", "q4_1", "iq4_nl", "q4_0")
# Of what the weights lose, so much more is worth a smaller cache; in nats where it is not known.
SHARE, LIMIT = 0.1, 2e-3


@dataclass(frozen=True, slots=True)
class TypicalCaches:
    """What was measured with ``model``, on texts of chat, prose and code."""

    model: str
    measured: tuple[CacheQuality, ...]


@cache
def typical() -> TypicalCaches:
    """Return what another model showed."""
    path = tables.recipes_folder() / "kv_cache.toml"
    return tables.build(TypicalCaches, tables.read_toml(path), path.name)


@dataclass(frozen=True, slots=True)
class CacheChoice:
    """Types and the mean KL divergence that they cost; ``measured``: as a pair, not as a sum."""

    types: CacheTypes
    mean_kl: float
    measured: bool


def choices(found: Sequence[CacheQuality]) -> list[CacheChoice]:
    """Return every pair whose cost is known, the smallest cache last.

    Keys and values that were measured apart add up: what both do to a token is small.
    """
    known = {(each.keys, each.values): each.mean_kl for each in found}
    known[USUAL, USUAL] = 0.0
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
    """A choice with the bytes that it takes in a plan."""

    choice: CacheChoice
    bytes: int


@dataclass(frozen=True, slots=True)
class CacheAdvice:
    """What the cache of a plan may be, the largest first; ``best``: what is advised.

    ``model``: the model that the costs were measured with; ``own``: it is the planned one.
    """

    model: str
    own: bool
    planned: tuple[PlannedCache, ...]
    best: CacheTypes


def advise(planner: Planner) -> CacheAdvice:
    """Return what the KV cache of a planned model may be, by what was measured of it or another."""
    model = planner.model
    own = next(((name, found) for name, found in model.caches.items() if found), None)
    found = own[1] if own else typical().measured
    certificate = model.certificates.get(own[0]) if own else None
    best = advised(found, certificate) or CacheTypes(USUAL, USUAL)
    planned = tuple(
        PlannedCache(choice, cache_bytes(model.shape, planner.load.with_cache(choice.types)))
        for choice in front(found)
    )
    name = f"{model.name} {own[0]}" if own else typical().model
    return CacheAdvice(name, own is not None, planned, best)


def caches_json(planner: Planner) -> dict[str, Any]:
    """Return every number of the advice."""
    advice = advise(planner)
    return {
        "measured_with": advice.model,
        "own": advice.own,
        "advised": {"keys": advice.best.keys, "values": advice.best.values},
        "choices": [
            {
                "keys": each.choice.types.keys,
                "values": each.choice.types.values,
                "bytes": each.bytes,
                "mean_kl": each.choice.mean_kl,
                "measured": each.choice.measured,
            }
            for each in advice.planned
        ],
    }
