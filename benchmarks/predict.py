"""The predicted speeds against every published one, with the error of each row.

    python -m benchmarks.predict

The constants of recipes/boards.toml that are fitted: the effective bandwidth of BCM2712 (best and
all threads) and of BCM2711, and the rates of products. Every third row of published.toml is kept
out of the fit; what the fit would give from the others is printed beside what the table holds.
Targets: decode, median absolute error 12 % or less and none above 30 %; prefill within a factor
of 1.5. The last line on stdout is JSON.
"""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path

from pitool.catalog import tables
from pitool.catalog.boards import find_board
from pitool.catalog.tensor_types import find_quantisation
from pitool.planning.formats.gguf import Threads, estimate
from pitool.planning.shapes import dense_shape
from pitool.planning.speed import Estimate
from pitool.planning.type_mixture import assign_types

DATA = Path(__file__).parent / "published.toml"
HELD_OUT = 3


@dataclass(frozen=True, slots=True)
class Row:
    """One published figure; ``prefill`` and ``decode`` in tokens/s."""

    board: str
    model: str
    quantisation: str
    threads: str
    decode: float
    source: str
    prefill: float | None = None


@dataclass(frozen=True, slots=True)
class Shape:
    """The numbers of a model's settings that speed depends on."""

    layers: int
    hidden: int
    feed_forward: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """A row beside its prediction; errors are shares, prefill's is a factor of at least 1."""

    row: Row
    predicted: Estimate
    streamed: int
    held_out: bool

    @property
    def decode_error(self) -> float:
        """Predicted over published, less 1."""
        return self.predicted.decode / self.row.decode - 1

    @property
    def prefill_factor(self) -> float | None:
        """How many times too fast or too slow."""
        if self.row.prefill is None:
            return None
        ratio = self.predicted.prefill / self.row.prefill
        return max(ratio, 1 / ratio)


def compare() -> list[Comparison]:
    """Return every published row with its prediction, in the order of the file."""
    data = tables.read_toml(DATA)
    shapes = {k: tables.build(Shape, v, k) for k, v in data["shapes"].items()}
    rows = [tables.build(Row, row, f"row {i}") for i, row in enumerate(data["row"])]
    return [_compare(row, shapes[row.model], i) for i, row in enumerate(rows)]


def _compare(row: Row, shape: Shape, position: int) -> Comparison:
    model = dense_shape(**asdict(shape), context=4096)
    typed = assign_types(model, find_quantisation(row.quantisation))
    threads: Threads = "all" if row.threads == "all" else "best"
    predicted = estimate(row.board, find_board(row.board), model, typed, threads=threads)
    streamed = sum(t.bytes for t in typed if model.streamed(t.tensor.name))
    return Comparison(row, predicted, streamed, position % HELD_OUT == HELD_OUT - 1)


def fitted(rows: list[Comparison]) -> dict[str, float]:
    """Return the bandwidths in GB/s that the rows of the fit give: medians by SoC and threads."""
    found = defaultdict(list)
    for c in rows:
        if not c.held_out and c.predicted.bound == "memory":
            threads = c.row.threads
            soc = find_board(c.row.board).soc
            found[f"{soc} {threads}"].append(c.streamed * c.row.decode / 1e9)
    return {key: round(statistics.median(values), 2) for key, values in found.items()}


def main() -> None:
    """Print a line for each row, then the summary as JSON."""
    rows = compare()
    print(
        f"{'board':9} {'model':12} {'quant':7} {'thr':4} {'prefill':>13} {'decode':>13}"
        f" {'error':>6} {'bound':8} fit"
    )
    for c in rows:
        prefill = f"{c.predicted.prefill:.0f}/{c.row.prefill:.0f}" if c.row.prefill else "-"
        print(
            f"{c.row.board:9} {c.row.model:12} {c.row.quantisation:7} {c.row.threads:4}"
            f" {prefill:>13} {c.predicted.decode:>6.1f}/{c.row.decode:<6.1f}"
            f" {c.decode_error:>+6.0%} {c.predicted.bound:8} {'out' if c.held_out else 'in'}"
        )
    print(json.dumps(summary(rows)))


def summary(rows: list[Comparison]) -> dict[str, object]:
    """Return the figures that have targets."""
    errors = [abs(c.decode_error) for c in rows]
    unseen = [abs(c.decode_error) for c in rows if c.held_out]
    factors = [c.prefill_factor for c in rows if c.prefill_factor is not None]
    return {
        "rows": len(rows),
        "decode_median_error": round(statistics.median(errors), 4),
        "decode_largest_error": round(max(errors), 4),
        "held_out_rows": len(unseen),
        "held_out_median_error": round(statistics.median(unseen), 4),
        "held_out_largest_error": round(max(unseen), 4),
        "prefill_rows": len(factors),
        "prefill_largest_factor": round(max(factors), 3),
        "fitted_bandwidth_gbs": fitted(rows),
    }


if __name__ == "__main__":
    main()
