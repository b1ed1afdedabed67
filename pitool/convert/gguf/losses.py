"""The loss of a tensor at a type: its rounding error, and how sensitive the model is to it.

The error is the importance-weighted squared error of ggml's own quantiser on evenly spaced rows,
so memory is bounded by the sample, not by the tensor. The sensitivity is measured by quantising a
group of tensors coarsely while all others stay exact: the divergence of the predictions per unit
of relative error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pitool.catalog.model_shape import TensorShape
from pitool.catalog.tensor_types import QUANTISATIONS, TENSOR_TYPES, Quantisation, TensorType
from pitool.checkpoint.mxfp4 import MXFP4
from pitool.convert.engines import OpenEngine
from pitool.convert.gguf.ggml import dequantise_rows, quantise_rows
from pitool.convert.gguf.importance import ImportanceMatrix
from pitool.convert.gguf.quantise import quantise
from pitool.convert.massive import capped
from pitool.planning.type_mixture import is_carried, quantisable
from pitool.quality.divergence import score, summarise, unscored

# Types that need no importance matrix and have fast kernels on a board's CPU; those with blocks of
# 32 are for rows that are not a multiple of 256.
CANDIDATES = ("Q2_K", "Q3_K", "IQ4_XS", "Q4_K", "IQ4_NL", "Q4_0", "Q5_K", "Q6_K", "Q8_0")
SMALL_BLOCKS = ("Q4_0", "IQ4_NL", "Q4_1", "Q5_0", "Q5_1", "Q8_0")

SAMPLE_ROWS = 512
# Models with more tensors than this are measured by role, all layers together.
MOST_ALONE = 48
PROBES = ("Q3_K", "Q4_0")
FLOOR = 1e-9
# Calibration windows that are evaluated for each group.
WINDOWS = 4

Losses = dict[str, dict[str, float]]
"""By tensor and type: the relative rounding error, times the sensitivity once it is known."""


def candidates(tensor: TensorShape) -> tuple[TensorType, ...]:
    """Return the types whose blocks divide a tensor's rows, none for one that stays a float."""
    if not quantisable(tensor) or is_carried(tensor.name):
        return ()
    for names in (CANDIDATES, SMALL_BLOCKS):
        types = tuple(TENSOR_TYPES[name] for name in names)
        if all(tensor.shape[-1] % kind.block == 0 for kind in types):
            return types
    return ()


def measure_losses(
    path: Path, importance: ImportanceMatrix | None, on_tensor: Callable[[int], None]
) -> Losses:
    """Return the relative error of each tensor of a float GGUF at each type it may have.

    That is the sum of importance x (w - rounded w)^2 over the sum of importance x w^2, of which
    massive activations are left out: else a matrix that reads them seems to lose nothing.
    """
    from gguf import GGUFReader

    losses: Losses = {}
    for tensor in GGUFReader(path).tensors:
        shape = tuple(int(n) for n in tensor.shape[::-1])
        kinds = candidates(TensorShape(tensor.name, shape))
        if kinds and tensor.tensor_type.name != MXFP4:
            weights = importance.weights(tensor.name) if importance else None
            rows = _sample(tensor, shape)
            experts = len(weights) if weights is not None else 1
            losses[tensor.name] = relative_errors(
                rows.reshape(experts, -1, shape[-1]), weights, kinds
            )
        on_tensor(1)
    return losses


def _sample(tensor: Any, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return evenly spaced rows as float32, equally many of each expert."""
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


def relative_errors(
    rows: NDArray[np.float32],
    weights: NDArray[np.float32] | None,
    kinds: tuple[TensorType, ...],
) -> dict[str, float]:
    """Return the relative error at each type; rows (experts, rows, columns)."""
    if weights is None:
        weights = np.ones((len(rows), rows.shape[-1]), np.float32)
    counted = capped(weights.astype(np.float64))
    power = np.einsum("erc,ec->", rows.astype(np.float64) ** 2, counted)
    found = {}
    for kind in kinds:
        error = 0.0
        for part, importance, counts in zip(rows, weights, counted, strict=True):
            rounded = round_rows(part, kind, importance)
            difference = (part - rounded).astype(np.float64)
            error += float((difference**2 @ counts).sum())
        found[kind.name] = error / float(power) if power else 0.0
    return found


def round_rows(
    rows: NDArray[np.float32], kind: TensorType, importance: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return rows as they are after quantising by ggml and back; (rows, columns)."""
    return dequantise_rows(quantise_rows(rows, kind, importance), kind)


def groups(names: Sequence[str], bands: int = 1) -> list[list[str]]:
    """Return the groups of tensors whose sensitivity is measured together.

    Of a model with many tensors those of one role, in ``bands`` of neighbouring layers.
    """
    if len(names) <= MOST_ALONE:
        return [[name] for name in names]
    shapes = [TensorShape(name, ()) for name in names]
    layers = max(shape.layer for shape in shapes) + 1
    found: dict[tuple[str, int], list[str]] = {}
    for shape in shapes:
        role = shape.part or shape.name
        band = max(shape.layer, 0) * bands // max(layers, 1)
        found.setdefault((role, band), []).append(shape.name)
    return list(found.values())


def measure_sensitivity(
    exact: Path,
    kind: Quantisation,
    losses: Losses,
    windows: Sequence[Sequence[int]],
    open_engine: OpenEngine,
    folder: Path,
    threads: int,
    on_group: Callable[[int], None],
    bands: int = 1,
) -> dict[str, float]:
    """Return the sensitivity of each tensor: KL divergence per unit of relative error.

    ``exact``: the GGUF in the float type ``kind``; ``folder``: where the degraded copies are
    written, one at a time; ``bands``: see ``groups``.
    """
    base = _logits(open_engine, exact, windows)
    found: dict[str, float] = {}
    scratch = folder / "degraded.gguf"
    for group in groups(list(losses), bands):
        probes = {name: next(p for p in PROBES if p in losses[name]) for name in group}
        types = {name: TENSOR_TYPES[probes.get(name, kind.name)] for name in losses}
        try:
            quantise(exact, scratch, QUANTISATIONS["Q4_0"], threads, types=types)
            other = _logits(open_engine, scratch, windows)
        finally:
            scratch.unlink(missing_ok=True)
        kl = summarise(
            [
                score(b, o, ids, unscored(ids))
                for b, o, ids in zip(base, other, windows, strict=True)
            ]
        ).mean_kl
        error = sum(losses[name][probes[name]] for name in group)
        found |= dict.fromkeys(group, max(kl, FLOOR) / max(error, FLOOR))
        on_group(1)
    return found


def _logits(
    open_engine: OpenEngine, path: Path, windows: Sequence[Sequence[int]]
) -> list[NDArray[np.float32]]:
    with open_engine(path, max(map(len, windows))) as engine:
        return [engine.logits(window) for window in windows]


def weigh(losses: Losses, weights: Mapping[str, float]) -> Losses:
    """Return the losses multiplied by each tensor's sensitivity."""
    return {
        name: {kind: loss * weights[name] for kind, loss in row.items()}
        for name, row in losses.items()
    }
