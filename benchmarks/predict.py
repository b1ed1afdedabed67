"""The predicted speeds against every published one, with the error of each row.

    python -m benchmarks.predict

Fitted are, by the rows of published.toml that are not held out: the effective bandwidth of each SoC
(best and all threads; recipes/boards.toml) and the cost of each tensor type (recipes/kernels.toml).
What the fit gives is printed beside what the tables hold. Targets on the rows held out: prefill
within a factor of 1.25 in the median and 1.6 at most; decode within 8 % in the median, and each row
in the range that a plan prints. The last line on stdout is JSON.
"""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pitool.catalog import tables
from pitool.catalog.boards import find_board
from pitool.catalog.kernels import kernels
from pitool.catalog.model_shape import ModelShape, TensorShape
from pitool.catalog.tensor_types import find_quantisation
from pitool.planning.formats.gguf_memory import kv_cache_bytes
from pitool.planning.formats.gguf_speed import Threads, estimate
from pitool.planning.prefill import (
    ENDS,
    attention_seconds,
    count_alike,
    is_interleaved,
    matrices,
    overhead_seconds,
    prefill_seconds,
    product_seconds,
)
from pitool.planning.shapes import dense_tensors
from pitool.planning.speed import Estimate
from pitool.planning.type_mixture import TypedTensor, assign_types

DATA = Path(__file__).parent / "published.toml"
# A row tells the cost of a tensor type that has so much of its time.
TELLING = 0.5
# Attention can be told from products only where one CPU ran models that differ in it.
MANY_MODELS = "neon"


@dataclass(frozen=True, slots=True)
class Row:
    """One published figure: tokens/s, None where only the other is published."""

    model: str
    quantisation: str
    prefill: float | None = None
    decode: float | None = None
    held_out: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """Where rows are from, and what was measured with.

    ``kernels``: a set of interleaved types; ``setup``: names one board and build that several
    sources share; ``depth``: tokens in the KV cache before those that are timed.
    """

    source: str
    date: str
    board: str
    threads: str
    rows: tuple[Row, ...]
    kernels: str | None = None
    setup: str | None = None
    depth: int = 0


@dataclass(frozen=True, slots=True)
class Part:
    """A matrix that ``layers`` layers have, or one of the whole model; see [shapes]."""

    name: str
    rows: int
    columns: int
    layers: int = 0


@dataclass(frozen=True, slots=True)
class Shape:
    """The numbers of a model's settings that speed depends on; no ``parts``: a plain transformer.

    ``attention``: the layers that have it, all by default.
    """

    layers: int
    hidden: int
    feed_forward: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool
    attention: tuple[int, ...] = ()
    parts: tuple[Part, ...] = ()
    experts: int = 0
    experts_used: int = 0
    state_size: int = 0

    def model(self) -> ModelShape:
        """Return the shape that a plan would read."""
        kv = self.kv_heads * self.head_dim
        rows = tuple(kv if i in self.attention else 0 for i in range(self.layers))
        return ModelShape(
            "llama", self.layers, self.hidden, self.feed_forward, self.heads, self.kv_heads,
            self.head_dim, self.vocabulary, 4096, tuple(self._tensors()),
            kv_rows=rows if self.attention else (),
            experts=self.experts, experts_used=self.experts_used, state_size=self.state_size,
        )  # fmt: skip

    def _tensors(self) -> Iterator[TensorShape]:
        if not self.parts:
            queries, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
            yield from dense_tensors(
                self.layers, self.hidden, self.feed_forward, queries, kv, self.vocabulary,
                tied=self.tied,
            )  # fmt: skip
            return
        yield TensorShape("token_embd.weight", (self.vocabulary, self.hidden))
        if not self.tied:
            yield TensorShape("output.weight", (self.vocabulary, self.hidden))
        seen = Counter[str]()
        for part in self.parts:
            experts = (self.experts,) if "_exps" in part.name else ()
            shape = (*experts, part.rows, part.columns)
            if not part.layers:
                yield TensorShape(f"{part.name}.weight", shape)
            for _ in range(part.layers):
                yield TensorShape(f"blk.{seen[part.name]}.{part.name}.weight", shape)
                seen[part.name] += 1


@dataclass(frozen=True, slots=True)
class Comparison:
    """A row beside its prediction; errors are shares, prefill's is a factor of at least 1."""

    source: Source
    row: Row
    model: ModelShape
    typed: tuple[TypedTensor, ...]
    interleaved: frozenset[str]
    predicted: Estimate

    @property
    def board(self) -> str:
        """The board's id."""
        return self.source.board

    @property
    def setup(self) -> str:
        """The board and build that it was measured with."""
        return self.source.setup or self.source.source

    @property
    def decode_error(self) -> float | None:
        """Predicted over published, less 1."""
        return self.predicted.decode / self.row.decode - 1 if self.row.decode else None

    @property
    def prefill_factor(self) -> float | None:
        """Predicted over published, or the reverse where that is more."""
        if not self.row.prefill:
            return None
        ratio = self.predicted.prefill / self.row.prefill
        return max(ratio, 1 / ratio)

    @property
    def in_decode_range(self) -> bool | None:
        """Whether the published decode lies in the range that a plan prints."""
        low, high = self.predicted.decode_range
        return low <= self.row.decode <= high if self.row.decode else None

    @property
    def in_prefill_range(self) -> bool | None:
        """Whether the published prefill lies in the range that a plan prints."""
        low, high = self.predicted.prefill_range
        return low <= self.row.prefill <= high if self.row.prefill else None


def compare() -> list[Comparison]:
    """Return every published row with its prediction, in the order of the file."""
    data = tables.read_toml(DATA)
    shapes = {k: tables.build(Shape, v, k).model() for k, v in data["shapes"].items()}
    sources = [tables.build(Source, s, f"source {i}") for i, s in enumerate(data["source"])]
    return [_compare(s, row, shapes, data["kernels"]) for s in sources for row in s.rows]


def _compare(
    source: Source,
    row: Row,
    shapes: Mapping[str, ModelShape],
    sets: Mapping[str, Iterable[str]],
) -> Comparison:
    model, board = shapes[row.model], find_board(source.board)
    typed = assign_types(model, find_quantisation(row.quantisation))
    can = board.repacked
    interleaved = can & frozenset(sets[source.kernels]) if source.kernels else can
    threads: Threads = "all" if source.threads == "all" else "best"
    predicted = estimate(
        source.board,
        board,
        model,
        typed,
        kv_bytes=kv_cache_bytes(model, source.depth, "f16"),
        threads=threads,
        interleaved=interleaved,
    )
    predicted = replace(predicted, decode=predicted.decode_full)
    return Comparison(source, row, model, typed, interleaved, predicted)


def fitted(rows: list[Comparison]) -> dict[str, float]:
    """Return the bandwidths in GB/s that the rows of the fit give: by SoC and threads."""
    found = Medians()
    for c in rows:
        if c.row.decode and not c.row.held_out and c.predicted.bound == "memory":
            streamed = sum(t.bytes * c.model.read_share(t.tensor.name) for t in c.typed)
            soc = find_board(c.board).soc
            found.add(f"{soc} {c.source.threads}", c.setup, streamed * c.row.decode / 1e9)
    return found.by_key()


class Medians:
    """Medians by key in which each setup counts once, however many rows it has."""

    def __init__(self) -> None:
        self._values: dict[str, dict[str, list[float]]] = {}

    def add(self, key: str, setup: str, value: float) -> None:
        """Take a value of one row."""
        self._values.setdefault(key, {}).setdefault(setup, []).append(value)

    def by_key(self) -> dict[str, float]:
        """Return the median of the setups' medians."""
        return {
            key: round(statistics.median(map(statistics.median, setups.values())), 2)
            for key, setups in sorted(self._values.items())
        }


@dataclass(frozen=True, slots=True)
class Told:
    """What a row tells of the type that has most of its time; ``kernel``: how it is multiplied.

    In seconds a token: ``unit``: of that type at cost 1; ``attention``: at cost 1; ``rest``: of
    all else, at the table's costs; ``published``: of the whole.
    """

    feature: str
    kernel: str
    name: str
    setup: str
    unit: float
    attention: float
    rest: float
    published: float

    @property
    def key(self) -> str:
        """Where in kernels.toml the cost stands."""
        return f"{self.feature}.{self.kernel}.{self.name}"

    @property
    def held(self) -> float:
        """The cost in the table."""
        return kernels()[self.feature].cost(self.name, interleaved=self.kernel == "interleaved")

    def cost(self, attention: float) -> float:
        """Return the type's cost where attention has this one."""
        return (self.published - self.rest - attention * self.attention) / self.unit


def told(rows: list[Comparison]) -> list[Told]:
    """Return what the rows of the fit tell; nothing of a type that waits for memory."""
    fit = (c for c in rows if c.row.prefill and not c.row.held_out)
    return [found for c in fit if (found := _told(c))]


def _told(c: Comparison) -> Told | None:
    assert c.row.prefill
    board = find_board(c.board)
    times = defaultdict[tuple[str, bool], float](float)
    for t in c.typed:
        if t.tensor.name not in ENDS:
            share = c.model.read_share(t.tensor.name)
            kernel = t.type.name, is_interleaved(t, c.interleaved)
            times[kernel] += share * product_seconds(board, t, c.interleaved)
    alike = count_alike(c.model, c.typed)
    total, body = prefill_seconds(board, c.model, alike, c.interleaved), matrices(alike)
    waits = total - overhead_seconds(board, c.model, body) > 1.02 * sum(times.values())
    (name, fast), longest = max(times.items(), key=lambda item: item[1])
    if longest < TELLING * total or waits:
        return None
    attention = attention_seconds(board, c.model, body)
    return Told(
        "dotprod" if board.dotprod else "neon", "interleaved" if fast else "plain", name, c.setup,
        longest / board.costs.cost(name, interleaved=fast),
        attention / board.costs.attention,
        total - longest - attention,
        1 / c.row.prefill,
    )  # fmt: skip


def fitted_costs(found: list[Told]) -> dict[str, float]:
    """Return the cost of each type that the rows of the fit tell of."""
    medians = Medians()
    for each in found:
        medians.add(each.key, each.setup, each.cost(kernels()[each.feature].attention))
    return medians.by_key()


def fitted_attention(found: list[Told], feature: str) -> float:
    """Return the cost of attention with which models agree most on what each type costs."""
    found = [each for each in found if each.feature == feature]
    return min((i / 10 for i in range(1, 151)), key=lambda cost: _disagreement(found, cost))


def _disagreement(found: list[Told], attention: float) -> float:
    """Return how far the costs of each type lie from their median, on average, as a logarithm."""
    costs = defaultdict[str, list[float]](list)
    for each in found:
        costs[each.key].append(each.cost(attention))
    if min(min(values) for values in costs.values()) <= 0:
        return math.inf
    middle = {key: statistics.median(values) for key, values in costs.items()}
    return statistics.mean(
        abs(math.log(cost / middle[key])) for key, values in costs.items() for cost in values
    )


def main() -> None:
    """Print a line for each row, then the summary as JSON."""
    rows = compare()
    print(
        f"{'board':9} {'model':14} {'quant':6} {'thr':4} {'prefill':>13} {'':>5}"
        f" {'decode':>11} {'error':>6}  in range  bound"
    )
    for c in rows:
        print(_line(c))
    found = told(rows)
    held = {each.key: each.held for each in found}
    for key, cost in fitted_costs(found).items():
        print(f"{key:28} the fit gives {cost:.2f}, the table holds {held[key]:.2f}")
    cost, table = fitted_attention(found, MANY_MODELS), kernels()[MANY_MODELS].attention
    print(f"{MANY_MODELS + '.attention':28} the fit gives {cost:.2f}, the table holds {table:.2f}")
    print(json.dumps(summary(rows)))


def _line(c: Comparison) -> str:
    """Return a row as a line of the table: predicted over published."""
    prefill = decode = error = factor = ""
    if c.row.prefill:
        prefill = f"{c.predicted.prefill:.1f}/{c.row.prefill:.1f}"
        factor = f"{c.prefill_factor:.2f}"
    if c.row.decode:
        decode = f"{c.predicted.decode:.1f}/{c.row.decode:.1f}"
        error = f"{c.decode_error:+.0%}"
    inside = {None: "-", True: "yes", False: "no"}
    return (
        f"{c.board:9} {c.row.model:14} {c.row.quantisation:6} {c.source.threads:4}"
        f" {prefill:>13} {factor:>5} {decode:>11} {error:>6}"
        f"  {inside[c.in_prefill_range]:>3} {inside[c.in_decode_range]:>3}"
        f"   {c.predicted.bound:8} {'held out' if c.row.held_out else ''}"
    )


def summary(rows: list[Comparison]) -> dict[str, object]:
    """Return the figures that have targets: of all rows, of those held out, and of 2026's models.

    The last are those held out of which a prefill is published under a source of its own.
    """
    unseen = [c for c in rows if c.row.held_out]
    return {
        "all": figures(rows),
        "held_out": figures(unseen),
        "newest": figures(newest(rows)),
        "fitted_bandwidth_gbs": fitted(rows),
    }


def newest(rows: list[Comparison]) -> list[Comparison]:
    """Return the rows of sources that are held out as a whole and have a prefill figure."""
    return [
        c for c in rows if all(row.held_out for row in c.source.rows) and c.row.prefill is not None
    ]


def figures(rows: list[Comparison]) -> dict[str, float | int]:
    """Return counts, errors, and the printed ranges as shares on either side."""
    errors = [abs(c.decode_error) for c in rows if c.decode_error is not None]
    factors = [c.prefill_factor for c in rows if c.prefill_factor is not None]
    return {
        "decode_rows": len(errors),
        "decode_median_error": round(statistics.median(errors), 4),
        "decode_largest_error": round(max(errors), 4),
        "decode_median_range": statistics.median(c.predicted.decode_error for c in rows),
        "decode_out_of_range": sum(c.in_decode_range is False for c in rows),
        "prefill_rows": len(factors),
        "prefill_median_factor": round(statistics.median(factors), 3),
        "prefill_largest_factor": round(max(factors), 3),
        "prefill_median_range": statistics.median(c.predicted.prefill_error for c in rows),
        "prefill_out_of_range": sum(c.in_prefill_range is False for c in rows),
    }


if __name__ == "__main__":
    main()
