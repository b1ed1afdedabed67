"""AWQ: columns with large inputs are scaled up before rounding, and their inputs down.

The scale of a column is its mean input magnitude raised to a power, which is searched for so that
the layer's outputs change least. The inverse scales are folded into what produces the input: a
norm, or the rows of a matrix. Lin et al. 2023 (arXiv:2306.00978).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pitool.convert.techniques.base import Need, Technique
from pitool.convert.techniques.gptq import BITS, BLOCK, scales_of
from pitool.convert.techniques.rounding import (
    Floats,
    FloatTensor,
    IntegerMatrix,
    QuantisedTensor,
    spread,
)
from pitool.convert.techniques.workbench import Layer, Workbench, per_matrix

POWERS = np.linspace(0, 1, 21)
SMALLEST = 1e-4


@dataclass(frozen=True, slots=True)
class Group:
    """Matrices that share an input, and the tensor whose rows (or values) produce that input."""

    before: str
    matrices: tuple[str, ...]


GROUPS = (
    Group("input_layernorm", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")),
    Group("self_attn.v_proj", ("self_attn.o_proj",)),
    Group("post_attention_layernorm", ("mlp.gate_proj", "mlp.up_proj")),
    Group("mlp.up_proj", ("mlp.down_proj",)),
)


def round_to_nearest(name: str, rows: Floats, importance: Floats) -> IntegerMatrix:
    """Return a matrix with each weight rounded to its nearest level, at the scales GPTQ uses."""
    half = 1 << (BITS - 1)
    scales = scales_of(rows, importance)
    levels = np.rint(rows / spread(scales, BLOCK, rows.shape[1]))
    stored = (np.clip(levels, -half, half - 1) + half).astype(np.uint8)
    return IntegerMatrix(name, stored, scales, None, BITS, BLOCK)


def quantise_evenly(name: str, rows: Floats) -> IntegerMatrix:
    """Return a matrix rounded to nearest, every column equally important."""
    return round_to_nearest(name, rows, np.ones(rows.shape[1], np.float32))


def error(rows: Floats, back: Floats, hessian: Floats) -> float:
    """Return the mean squared change of the outputs for inputs with this Hessian."""
    difference = back - rows
    return float(np.einsum("ij,ij->", difference @ hessian, difference))


def search(weights: Sequence[Floats], magnitudes: Floats, hessian: Floats) -> Floats:
    """Return the scale of each column, (columns,), with the least change of all outputs."""
    best, least = np.ones_like(magnitudes), np.inf
    for power in POWERS:
        scales = np.maximum(magnitudes, SMALLEST) ** np.float32(power)
        scales = (scales / np.sqrt(scales.max() * scales.min())).astype(np.float32)
        loss = 0.0
        for rows in weights:
            grid = round_to_nearest("", rows * scales, np.diag(hessian) / scales**2)
            loss += error(rows, grid.values / scales, hessian)
        if loss < least:
            best, least = scales, loss
    return best


def make(bench: Workbench) -> Iterator[QuantisedTensor]:
    """Yield matrices and norms layer by layer; later layers see the quantised earlier ones."""
    for layer in bench.walk():
        yield from _layer(layer)


def _layer(layer: Layer) -> Iterator[QuantisedTensor]:
    hessians, magnitudes = layer.hessians(), layer.magnitudes()
    scales: dict[str, Floats] = {}
    for group in GROUPS:
        names = [f"{name}.weight" for name in group.matrices]
        before = layer.weights.get(f"{group.before}.weight")
        columns = layer.weights[names[0]].shape[1]
        if before is None or len(before) != columns:
            continue  # no such norm, or grouped heads: one row would need several scales
        if before.ndim == 1 and not layer.norms_give_inputs:
            continue
        first = group.matrices[0]
        found = search([layer.weights[n] for n in names], magnitudes[first], hessians[first])
        for name in names:
            layer.replace(name, layer.weights[name] * found)
        turned = before / found if before.ndim == 1 else before / found[:, None]
        layer.replace(f"{group.before}.weight", turned)
        bias = f"{group.before}.bias"
        if bias in layer.weights:
            layer.replace(bias, layer.weights[bias] / found)
        scales |= dict.fromkeys(group.matrices, found)
    for name in ("input_layernorm.weight", "post_attention_layernorm.weight"):
        if name in layer.weights:
            values = layer.weights[name]
            yield FloatTensor(layer.full(name), values, 4 * values.size)
    for short in layer.matrices:
        module = short.removesuffix(".weight")
        column = scales.get(module, np.float32(1))
        importance = np.diag(hessians[module]) / column**2
        grid = round_to_nearest(layer.full(short), layer.weights[short], importance)
        layer.replace(short, grid.values)
        yield grid


TECHNIQUE = Technique(
    name="awq-int4",
    title="AWQ 4 bits, blocks of 32",
    effect="Scales columns with large inputs up before rounding, and their inputs down to match.",
    source="Lin et al. 2023 (arXiv:2306.00978)",
    make=make,
    bits=BITS + 32 / BLOCK,
    kernel="onnxruntime",
    needs=frozenset({Need.CALIBRATION}),
)
RTN = Technique(
    name="rtn-int4",
    title="Round to nearest 4 bits",
    effect="Rounds to the nearest level, at the scales that GPTQ and AWQ start from.",
    source="baseline of arXiv:2210.17323 and arXiv:2306.00978",
    make=per_matrix(quantise_evenly),
    bits=BITS + 32 / BLOCK,
    kernel="onnxruntime",
)
