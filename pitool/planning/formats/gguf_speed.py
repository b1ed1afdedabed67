"""How fast a board decodes and reads a GGUF: bytes and products over the board's rates.

The constants are the board's own (``recipes/boards.toml``); ``benchmarks/predict.py`` fits them and
compares with what was published.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from pitool.catalog.boards import Board
from pitool.catalog.model_shape import ModelShape
from pitool.planning.decode import DecodeSeconds, decode_seconds
from pitool.planning.prefill import count_alike, prefill_seconds
from pitool.planning.speed import NONE, Correction, Estimate
from pitool.planning.type_mixture import TypedTensor

Threads = Literal["best", "all"]


def estimate(
    board_id: str,
    board: Board,
    model: ModelShape,
    tensors: Iterable[TypedTensor],
    *,
    kv_bytes: int = 0,
    threads: Threads = "best",
    interleaved: frozenset[str] | None = None,
) -> Estimate:
    """Return the speeds of a model on one board; see ``estimates``."""
    boards = {board_id: board}
    (found,) = estimates(
        boards, model, tensors, kv_bytes=kv_bytes, threads=threads, interleaved=interleaved
    )
    return found


def estimates(
    boards: Mapping[str, Board],
    model: ModelShape,
    tensors: Iterable[TypedTensor],
    *,
    kv_bytes: int = 0,
    threads: Threads = "best",
    correction: Correction = NONE,
    interleaved: frozenset[str] | None = None,
) -> tuple[Estimate, ...]:
    """Return the speeds of a model with these stored tensors on each board.

    An encoder decodes nothing: all of its tokens are read. ``kv_bytes``: of the full KV cache;
    ``threads``: ``best`` of a sweep, or ``all`` cores; ``interleaved``: types that ggml interleaves
    at load, by default all that it can on the board.
    """
    alike = count_alike(model, tensors)

    def on(board_id: str, board: Board) -> Estimate:
        fast = board.repacked if interleaved is None else interleaved
        bandwidth = 1e9 * (board.bandwidth_gbs if threads == "best" else board.bandwidth_all_gbs)
        decode = decode_seconds(board, model, alike, fast, bandwidth)
        full = decode + DecodeSeconds(kv_bytes / bandwidth, 0.0)
        prefill = prefill_seconds(board, model, alike, fast)
        if model.encoder:
            decode = full = DecodeSeconds(0.0, prefill)
        return Estimate(
            board_id,
            correction.prefill / max(prefill, 1e-9),
            correction.decode / max(decode.total, 1e-9),
            correction.decode / max(full.total, 1e-9),
            "products" if decode.products > decode.reading else "memory",
            board.prefill_error,
            board.prefill_error if model.encoder else board.decode_error,
        )

    return tuple(on(*each) for each in boards.items())
