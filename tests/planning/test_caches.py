"""What is advised for the KV cache: worked out by hand from what types cost."""

from __future__ import annotations

import itertools

import pytest

from pitool.catalog.kv_types import CacheTypes
from pitool.catalog.manifest import CacheQuality, Certificate
from pitool.catalog.profiles import find_profile
from pitool.planning import caches
from pitool.planning.formats.base import PlannedModel
from pitool.planning.memory import Load
from pitool.planning.planner import Planner
from pitool.planning.shapes import typical_shape

# Keys bear less than values here, as they do in most models.
KEYS = {"q8_0": 0.0004, "q5_1": 0.004, "q5_0": 0.006, "q4_1": 0.02, "iq4_nl": 0.03, "q4_0": 0.04}
VALUES = {"q8_0": 0.0001, "q5_1": 0.0008, "q5_0": 0.001, "q4_1": 0.003, "iq4_nl": 0.004,
          "q4_0": 0.005}  # fmt: skip
FOUND = tuple(
    [CacheQuality(k, "f16", 1536, loss, 0.99) for k, loss in KEYS.items()]
    + [CacheQuality("f16", v, 1536, loss, 0.99) for v, loss in VALUES.items()]
)


def certificate(kl: float) -> Certificate:
    return Certificate("m", "t", 100, kl, 1.0, 0.9, 9.0, 8.9)


def test_keys_and_values_that_were_measured_apart_add_up() -> None:
    costs = {(c.types.keys, c.types.values): c for c in caches.choices(FOUND)}
    assert len(costs) == 49
    assert costs["q8_0", "q5_0"].mean_kl == 0.0014
    assert not costs["q8_0", "q5_0"].measured
    pair = CacheQuality("q8_0", "q5_0", 1536, 0.0012, 0.99)
    known = {(c.types.keys, c.types.values): c for c in caches.choices((*FOUND, pair))}
    assert (known["q8_0", "q5_0"].mean_kl, known["q8_0", "q5_0"].measured) == (0.0012, True)


def test_nothing_on_the_front_is_beaten_in_size_and_loss() -> None:
    every, best = caches.choices(FOUND), caches.front(FOUND)
    for choice in best:
        assert not any(
            o.types.bits <= choice.types.bits and o.mean_kl < choice.mean_kl for o in every
        )
    assert best[0].types == CacheTypes("f16", "f16")
    for left, right in itertools.pairwise(best):
        assert left.types.bits > right.types.bits
        assert left.mean_kl < right.mean_kl


def test_a_tenth_of_what_the_weights_lose_is_worth_a_smaller_cache() -> None:
    # 0.1 x 0.015 = 0.0015: q8_0 keys at 0.0004 leave 0.0011, which values in q5_0 keep.
    assert caches.advised(FOUND, certificate(0.015)) == CacheTypes("q8_0", "q5_0")
    # Nothing but f16 keeps a tenth of 0.0005.
    assert caches.advised(FOUND, certificate(0.0005)) is None
    # Without a certificate 0.002: the same, since q4_1 values alone cost 0.003.
    assert caches.advised(FOUND, None) == CacheTypes("q8_0", "q5_0")


def test_costs_count_from_that_of_f16() -> None:
    """Rounding of activations moves tokens under any cache: of f16 by 0.003 here."""
    floor = CacheQuality("f16", "f16", 1536, 0.003, 0.99)
    moved = [CacheQuality(c.keys, c.values, 1536, c.mean_kl + 0.003, 0.99) for c in FOUND]
    plain, found = caches.choices(FOUND), caches.choices([floor, *moved])
    assert [c.types for c in found] == [c.types for c in plain]
    assert [c.mean_kl for c in found] == pytest.approx([c.mean_kl for c in plain])


def test_a_plan_of_an_unmeasured_model_has_bytes_and_no_advice() -> None:
    planner = Planner(PlannedModel("m", typical_shape(1e9)), find_profile("balanced"), Load(4096))
    advice = caches.advise(planner)
    assert (advice.artifact, advice.best) == (None, None)
    assert str(advice.planned[0].types) == "f16"
    largest = advice.planned[0].bytes
    for each in advice.planned:
        assert each.choice is None
        assert each.bytes / largest == each.types.bits / 16


def test_a_plan_of_a_measured_model_goes_by_its_own_figures() -> None:
    model = PlannedModel(
        "m", typical_shape(1e9), certificates={"Q4_K_M": certificate(0.015)},
        caches={"Q4_K_M": FOUND},
    )  # fmt: skip
    advice = caches.advise(Planner(model, find_profile("balanced"), Load(4096)))
    assert advice.artifact == "Q4_K_M"
    assert advice.best == CacheTypes("q8_0", "q5_0")
