"""Mixed precision: 8 bits for the matrices that need them most, 4 for the others.

The need of a matrix is how much rounding to 4 bits changes its outputs on a calibration text, per
byte that 8 bits would add. Matrices are promoted in descending order of need, up to 6 bits on
average.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pitool.convert.techniques.base import Need, Technique
from pitool.convert.techniques.blockwise import quantise
from pitool.convert.techniques.rounding import Floats, IntegerMatrix
from pitool.convert.techniques.workbench import Workbench

BLOCK, LOW, HIGH, MEAN = 32, 4, 8, 6.0


@dataclass(frozen=True, slots=True)
class Cost:
    """Relative change of a matrix's outputs at 4 and at 8 bits; its number of weights."""

    low: float
    high: float
    weights: int


def cost(rows: Floats, squares: Floats) -> Cost:
    """Return the cost of rounding a matrix; ``squares`` (columns,): mean squared inputs."""
    power = float((rows**2 @ squares).sum()) or 1.0

    def loss(bits: int) -> float:
        difference = quantise("", rows, BLOCK, bits).values - rows
        return float((difference**2 @ squares).sum()) / power

    return Cost(loss(LOW), loss(HIGH), rows.size)


def choose(costs: Mapping[str, Cost], mean: float = MEAN) -> dict[str, int]:
    """Return the bits of each matrix; the average over all weights is at most ``mean``."""
    total = sum(c.weights for c in costs.values())
    room = (mean - LOW) * total
    bits = dict.fromkeys(costs, LOW)
    by_gain = sorted(costs, key=lambda n: (costs[n].low - costs[n].high) / costs[n].weights)
    for name in reversed(by_gain):
        needed = (HIGH - LOW) * costs[name].weights
        if needed <= room:
            bits[name], room = HIGH, room - needed
    return bits


def make(bench: Workbench) -> Iterator[IntegerMatrix]:
    """Measure all matrices, then yield each with its bits."""
    costs = {}
    for layer in bench.walk():
        squares = layer.gather(lambda x: (x**2).mean(0))
        for short in layer.matrices:
            found = cost(layer.weights[short], squares[short.removesuffix(".weight")])
            costs[layer.full(short)] = found
    bits = choose(costs)
    return (quantise(name, rows, BLOCK, bits[name]) for name, rows in bench.weights())


TECHNIQUE = Technique(
    name="mixed-int8-int4",
    title="Mixed precision, 8 and 4 bits",
    effect="Gives 8 bits to the matrices whose rounding changes outputs most, 4 bits to the rest.",
    source="Dong et al. 2019, HAWQ (arXiv:1905.03696), with sensitivity measured on a text",
    make=make,
    bits=MEAN + 32 / BLOCK,
    kernel="onnxruntime",
    needs=frozenset({Need.CALIBRATION}),
    note="query, key and value are one product, stored at the widest of their three types",
)
