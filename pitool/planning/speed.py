"""Predicts tokens per second on a board.

A decode reads every streamed weight once, and the KV cache as far as it is filled: bytes over
effective bandwidth, or the products over the board's rate where that takes longer. A prefill is
bound by the products. Constants are the board's own (``recipes/boards.toml``);
``benchmarks/predict.py`` fits them and compares with what was published.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from pitool.catalog.boards import Board
from pitool.catalog.manifest import Speed
from pitool.catalog.model_shape import ModelShape
from pitool.planning.type_mixture import TypedTensor

HALF = frozenset({"F16", "BF16", "F32"})
Bound = Literal["memory", "products"]
Threads = Literal["best", "all"]


@dataclass(frozen=True, slots=True)
class Correction:
    """Factors on predicted speeds, learnt on one machine; 1 where nothing was measured."""

    prefill: float = 1.0
    decode: float = 1.0


NONE = Correction()


@dataclass(frozen=True, slots=True)
class Estimate:
    """Predicted tokens/s; ``error`` is the share by which published figures were missed at most.

    ``decode_full``: with the KV cache full; ``bound``: what a decode waits for.
    """

    board: str
    prefill: float
    decode: float
    decode_full: float
    bound: Bound
    prefill_error: float
    decode_error: float

    @property
    def speed(self) -> Speed:
        """It as a manifest keeps it."""
        return Speed(self.board, round(self.prefill, 1), round(self.decode, 1))

    @property
    def decode_range(self) -> tuple[float, float]:
        """The slowest and fastest decode to expect."""
        return self.decode * (1 - self.decode_error), self.decode * (1 + self.decode_error)

    @property
    def prefill_range(self) -> tuple[float, float]:
        """The slowest and fastest prefill to expect."""
        return self.prefill * (1 - self.prefill_error), self.prefill * (1 + self.prefill_error)

    def to_json(self) -> dict[str, Any]:
        """Return every number as a JSON value."""
        return {
            "prefill": self.prefill,
            "prefill_range": list(self.prefill_range),
            "decode": self.decode,
            "decode_range": list(self.decode_range),
            "decode_full_context": self.decode_full,
            "bound": self.bound,
        }


def estimate(
    board_id: str,
    board: Board,
    model: ModelShape,
    tensors: Iterable[TypedTensor],
    *,
    kv_bytes: int = 0,
    threads: Threads = "best",
    correction: Correction = NONE,
) -> Estimate:
    """Return the speeds of a model with these stored tensors.

    ``kv_bytes``: of the full KV cache; ``threads``: ``best`` of a sweep, or ``all`` cores.
    """
    streamed = [t for t in tensors if model.streamed(t.tensor.name)]
    bandwidth = 1e9 * (board.bandwidth_gbs if threads == "best" else board.bandwidth_all_gbs)
    share = model.read_share
    weights = sum(t.bytes * share(t.tensor.name) for t in streamed)
    products = sum(_product_seconds(board, t) * share(t.tensor.name) for t in streamed)
    # The head runs for the last token of a prompt only.
    body = [t for t in streamed if t.tensor.name not in ("token_embd.weight", "output.weight")]
    prefill = sum(_product_seconds(board, t) * share(t.tensor.name) for t in body)
    return Estimate(
        board_id,
        correction.prefill / max(prefill, 1e-9),
        correction.decode / max(weights / bandwidth, products, 1e-9),
        correction.decode / max((weights + kv_bytes) / bandwidth, products, 1e-9),
        "products" if products > weights / bandwidth else "memory",
        board.prefill_error,
        board.decode_error,
    )


def predict(
    board_id: str, board: Board, model: ModelShape, tensors: Iterable[TypedTensor]
) -> Speed:
    """Return the speeds at an empty context, as a manifest keeps them."""
    return estimate(board_id, board, model, tensors).speed


def _product_seconds(board: Board, tensor: TypedTensor) -> float:
    """Seconds of one token's product with a matrix."""
    name = tensor.type.name
    rates = board.prefill_gflops
    quantised = rates.repacked if name in board.repacked else rates.plain
    rate = rates.half if name in HALF else quantised
    return 2 * tensor.tensor.weights / (rate * 1e9)
