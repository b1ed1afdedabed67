"""Predicts tokens per second on a board.

A decode reads every streamed weight once: bytes over effective bandwidth, or the products over
the board's rate where that takes longer. A prefill is bound by the products. Constants are the
board's own (``recipes/boards.toml``).
"""

from __future__ import annotations

from collections.abc import Iterable

from pitool.spec.boards import Board
from pitool.spec.manifest import Speed
from pitool.spec.memory import REPACKED
from pitool.spec.model import ModelShape
from pitool.spec.quantisation import TypedTensor

HALF = frozenset({"F16", "BF16", "F32"})


def predict(
    board_id: str, board: Board, model: ModelShape, tensors: Iterable[TypedTensor]
) -> Speed:
    """Return the speeds of a model with these stored tensors at an empty context."""
    streamed = [t for t in tensors if model.streamed(t.tensor.name)]
    seconds_read = sum(t.bytes for t in streamed) / (board.bandwidth_gbs * 1e9)
    seconds_decode = sum(_product_seconds(board, t) for t in streamed)
    # The head runs for the last token of a prompt only.
    body = [t for t in streamed if t.tensor.name not in ("token_embd.weight", "output.weight")]
    seconds_prefill = sum(_product_seconds(board, t) for t in body)
    return Speed(
        board=board_id,
        prefill=round(1 / max(seconds_prefill, 1e-9), 1),
        decode=round(1 / max(seconds_read, seconds_decode, 1e-9), 1),
    )


def _product_seconds(board: Board, tensor: TypedTensor) -> float:
    """Seconds of one token's product with a matrix."""
    name = tensor.type.name
    rates = board.prefill_gflops
    if name in HALF:
        rate = rates.half
    else:
        rate = rates.repacked if name in REPACKED and board.dotprod else rates.plain
    return 2 * tensor.tensor.weights / (rate * 1e9)
