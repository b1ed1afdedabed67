"""Predicts tokens per second under onnxruntime, by an assumption and with a wide range.

No figure of onnxruntime on these boards is published. It is taken to stream weights at llama.cpp's
bandwidth and to multiply at its rates (``recipes/onnxruntime.toml``); a bench corrects that.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pitool.catalog import tables
from pitool.catalog.boards import Board
from pitool.catalog.model_shape import ModelShape
from pitool.planning.onnx_weights import EMBEDDING, OnnxQuantisation, OnnxTensor
from pitool.planning.speed import NONE, Correction, Estimate

HEAD = "output.weight"
ASSUMED = "onnxruntime's speeds are an assumption: none is published for these boards"


@dataclass(frozen=True, slots=True)
class Assumed:
    """The shares by which predictions may be wrong, and where they are from."""

    decode_error: float
    prefill_error: float
    sources: dict[str, str]


@cache
def assumed(path: Path | None = None) -> Assumed:
    """Return what is assumed."""
    path = path or tables.recipes_folder() / "onnxruntime.toml"
    return tables.build(Assumed, tables.read_toml(path)["assumed"], path.name)


def streamed_bytes(tensors: Iterable[OnnxTensor]) -> int:
    """Return the bytes that a decode reads: all but rotations, and an embedding beside a head."""
    tensors = tuple(tensors)
    separate = any(t.name == HEAD for t in tensors)
    return sum(
        t.bytes
        for t in tensors
        if not t.name.startswith("rope.") and not (separate and t.name == EMBEDDING)
    )


def estimate_onnx(
    board_id: str,
    board: Board,
    model: ModelShape,
    kind: OnnxQuantisation,
    tensors: Iterable[OnnxTensor],
    *,
    kv_bytes: int = 0,
    correction: Correction = NONE,
) -> Estimate:
    """Return the speeds of a model with these stored tensors; ``kv_bytes``: of the full cache."""
    rates, errors = board.prefill_gflops, assumed()
    quantised = rates.repacked if board.dotprod else rates.plain
    rate = 1e9 * (quantised if kind.quantised else rates.half)
    matrices = [t for t in model.tensors if len(t.shape) > 1]
    body = 2 * sum(t.weights for t in matrices if t.name not in (EMBEDDING, HEAD)) / rate
    products = 2 * sum(t.weights for t in matrices if model.streamed(t.name)) / rate
    streaming = streamed_bytes(tensors) / (1e9 * board.bandwidth_gbs)
    filled = streaming + kv_bytes / (1e9 * board.bandwidth_gbs)
    return Estimate(
        board_id,
        correction.prefill / max(body, 1e-9),
        correction.decode / max(streaming, products, 1e-9),
        correction.decode / max(filled, products, 1e-9),
        "products" if products > streaming else "memory",
        max(errors.prefill_error, board.prefill_error),
        max(errors.decode_error, board.decode_error),
    )
