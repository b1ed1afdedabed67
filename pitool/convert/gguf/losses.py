"""What a type costs a tensor: the importance-weighted squared error of rounding its weights.

Measured with ggml's own quantiser on evenly spaced rows, so that memory is bounded by the sample,
not by the tensor or the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pitool.catalog.model_shape import TensorShape
from pitool.catalog.tensor_types import TensorType
from pitool.convert.gguf.allocation import candidates
from pitool.convert.gguf.importance import ImportanceMatrix
from pitool.convert.gguf.quantise import quantise_rows, to_float32

SAMPLE_ROWS = 512
Losses = dict[str, dict[str, float]]


def measure_losses(
    path: Path, importance: ImportanceMatrix | None, on_tensor: Callable[[int], None]
) -> Losses:
    """Return the relative error of each tensor of a float GGUF at each type it may have.

    Relative: sum of importance x (w - rounded w)^2 over sum of importance x w^2.
    """
    from gguf import GGUFReader

    losses: Losses = {}
    for tensor in GGUFReader(path).tensors:
        shape = tuple(int(n) for n in tensor.shape[::-1])
        kinds = candidates(TensorShape(tensor.name, shape))
        if kinds:
            weights = importance.weights(tensor.name) if importance else None
            rows = _sample(tensor, shape)
            experts = len(weights) if weights is not None else 1
            losses[tensor.name] = _errors(rows.reshape(experts, -1, shape[-1]), weights, kinds)
        on_tensor(1)
    return losses


def _sample(tensor: Any, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return evenly spaced rows as float32, as many of every expert."""
    from gguf import dequantize

    stored = tensor.data.reshape(-1, tensor.data.shape[-1])
    step = max(len(stored) // SAMPLE_ROWS, 1)
    experts = shape[0] if len(shape) > 2 else 1
    if experts > 1:
        each = len(stored) // experts
        step = max(each // max(SAMPLE_ROWS // experts, 8), 1)
        picked = np.concatenate([np.arange(e * each, (e + 1) * each, step) for e in range(experts)])
    else:
        picked = np.arange(0, len(stored), step)
    rows: NDArray[np.float32] = dequantize(np.ascontiguousarray(stored[picked]), tensor.tensor_type)
    return rows


def _errors(
    rows: NDArray[np.float32],
    weights: NDArray[np.float32] | None,
    kinds: tuple[TensorType, ...],
) -> dict[str, float]:
    """Return the relative error at each type; rows (experts, rows, columns)."""
    if weights is None:
        weights = np.ones((len(rows), rows.shape[-1]), np.float32)
    power = np.einsum("erc,ec->", rows.astype(np.float64) ** 2, weights.astype(np.float64))
    found = {}
    for kind in kinds:
        error = 0.0
        for part, importance in zip(rows, weights, strict=True):
            rounded = round_rows(part, kind, importance)
            difference = (part - rounded).astype(np.float64)
            error += float((difference**2 @ importance.astype(np.float64)).sum())
        found[kind.name] = error / float(power) if power else 0.0
    return found


def round_rows(
    rows: NDArray[np.float32], kind: TensorType, importance: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return rows as they are after quantising by ggml and back; (rows, columns)."""
    return to_float32(quantise_rows(rows, kind, importance), kind)


def weigh(losses: Losses, weights: Mapping[str, float]) -> Losses:
    """Return the losses times each tensor's sensitivity."""
    return {
        name: {kind: loss * weights[name] for kind, loss in row.items()}
        for name, row in losses.items()
    }
