"""Streams the matrices of a checkpoint into a graph, quantised on the way.

Memory is bounded by a slab and one matrix's scales; dynamic INT8 holds one matrix in 8 bits,
because onnxruntime wants it transposed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pitool.checkpoint.source import Checkpoint
from pitool.checkpoint.tensors import Tensor, to_float32
from pitool.checkpoint.values import check_half
from pitool.convert.lattice import Floats
from pitool.convert.onnx.blocks import Blocks, quantise_blocks, quantise_rows
from pitool.convert.onnx.graph import Graph
from pitool.planning.onnx_weights import OnnxQuantisation

SLAB_BYTES = 1 << 20
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
Arrange = Callable[[Floats], Floats]
OnBytes = Callable[[int], None]
Head = Callable[[str, str], str]
"""Multiplies a value with the head; takes the names of the value and of the result."""


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of a matrix: a tensor of the checkpoint by its module's name.

    ``arrange`` is applied to runs of rows whose count is a multiple of ``rows``, and to the bias,
    which it has where it is ``biased``; one that is stored beside another matrix is not used.
    """

    module: str
    shape: tuple[int, int]
    arrange: Arrange | None = None
    rows: int = 1
    biased: bool = False


class Weights:
    """Writes matrices and vectors of a checkpoint and adds the operators that use them."""

    def __init__(
        self, graph: Graph, checkpoint: Checkpoint, kind: OnnxQuantisation, on_bytes: OnBytes
    ) -> None:
        self._graph, self._checkpoint, self.kind = graph, checkpoint, kind
        self._on_bytes = on_bytes
        self.float = np.dtype(np.float16 if kind.bits == 16 else np.float32)

    # -- reading ---------------------------------------------------------------------------

    def _find(self, name: str, shape: tuple[int, ...]) -> Tensor:
        # An embedding that is also the head may be stored as that.
        names = [EMBEDDING, HEAD] if name == EMBEDDING else [name]
        return self._checkpoint.weight(names, shape)

    def _slabs(self, parts: Sequence[Part]) -> Iterator[Floats]:
        """Yield the rows of all parts in float32, in order."""
        for part in parts:
            tensor = self._find(f"{part.module}.weight", part.shape)
            for slab in tensor.slabs(SLAB_BYTES, part.rows):
                values = to_float32(slab, tensor.kind)
                self._check(values, tensor)
                yield part.arrange(values) if part.arrange else values

    def vector(self, name: str, size: int) -> Floats:
        """Return a vector of the checkpoint."""
        tensor = self._find(name, (size,))
        values = tensor.float32()
        self._check(values, tensor)
        return values

    def _check(self, values: Floats, tensor: Tensor) -> None:
        """Raise BadInput for values that the graph's float type cannot hold."""
        if self.float.itemsize == 2:
            check_half(values, tensor)

    def stored_vector(self, name: str, values: Floats) -> str:
        """Write a vector in the graph's float type."""
        self._on_bytes(values.size * self.float.itemsize)
        return self._graph.stored(name, values.astype(self.float))

    # -- multiplying -----------------------------------------------------------------------

    def matmul(self, value: str, name: str, parts: Sequence[Part], *, head: bool = False) -> str:
        """Write a matrix and multiply ``value`` with it, bias included; return the result."""
        bias = self._bias(name, parts)
        if not self.kind.quantised:
            return self._float_matmul(value, name, self._floats(f"{name}.weight", parts), bias)
        if self.kind.dynamic:
            return self._dynamic(value, name, parts, bias)
        bits = self.kind.head_bits if head else self.kind.bits
        names, shape = self._blocks(name, parts, bits)
        return self._block_matmul(value, name, names, shape, bits, bias)

    def _bias(self, name: str, parts: Sequence[Part]) -> str:
        """Write the biases of all parts as one; return its name, empty when there is none."""
        if not parts[0].biased:
            return ""
        vectors = []
        for part in parts:
            vector = self.vector(f"{part.module}.bias", part.shape[0])
            vectors.append(part.arrange(vector) if part.arrange and part.rows > 1 else vector)
        return self.stored_vector(f"{name}.bias", np.concatenate(vectors))

    def _float_matmul(self, value: str, name: str, weight: str, bias: str) -> str:
        if not bias:
            return self._graph.node("FusedMatMul", [value, weight], name, transB=1)
        product = self._graph.node("FusedMatMul", [value, weight], f"{name}.product", transB=1)
        return self._graph.node("Add", [product, bias], name)

    def _floats(self, name: str, parts: Sequence[Part]) -> str:
        """Write a matrix as it is, in the graph's float type."""
        self._graph.begin()
        rows = columns = 0
        for slab in self._slabs(parts):
            self._append(slab.astype(self.float, copy=False))
            rows, columns = rows + len(slab), slab.shape[1]
        return self._graph.end(name, self.float, (rows, columns))

    def _append(self, array: NDArray[Any]) -> None:
        self._graph.append(array)
        self._on_bytes(array.nbytes)

    def _dynamic(self, value: str, name: str, parts: Sequence[Part], bias: str) -> str:
        inputs = [value, *self._rows(name, parts)]
        return self._graph.node("DynamicQuantizeMatMul", with_optional(inputs, 4, bias), name)

    def _rows(self, name: str, parts: Sequence[Part]) -> tuple[str, str]:
        """Write a matrix in 8 bits, inputs first; return its name and that of its rows' scales."""
        quantised = [quantise_rows(slab) for slab in self._slabs(parts)]
        weights = np.concatenate([rows for rows, _ in quantised])
        scales = np.concatenate([scale for _, scale in quantised])
        del quantised
        stored = self._transposed(f"{name}.weight", weights)
        return stored, self.stored_vector(f"{name}.scales", scales)

    def _transposed(self, name: str, weights: NDArray[Any]) -> str:
        """Write a matrix with inputs first; return its name."""
        self._graph.begin()
        step = max(1, SLAB_BYTES // len(weights))
        for first in range(0, weights.shape[1], step):
            self._append(weights[:, first : first + step].T)
        return self._graph.end(name, weights.dtype, weights.shape[::-1])

    def _blocks(
        self, name: str, parts: Sequence[Part], bits: int
    ) -> tuple[list[str], tuple[int, int]]:
        """Write a matrix in blocks; return the names of its tensors and its shape."""
        scales, zeros, rows, columns = [], [], 0, 0
        self._graph.begin()
        for slab in self._slabs(parts):
            made = self._quantised(slab, bits)
            self._append(made.weights)
            scales.append(made.scales)
            if made.zero_points is not None:
                zeros.append(made.zero_points)
            rows, columns = rows + len(slab), slab.shape[1]
        shape = (rows, made.weights.shape[1], made.weights.shape[2])
        names = [self._graph.end(f"{name}.weight", np.uint8, shape)]
        names.append(self._whole(f"{name}.scales", np.concatenate(scales)))
        if zeros:
            names.append(self._whole(f"{name}.zero_points", np.concatenate(zeros)))
        return names, (rows, columns)

    def _quantised(self, slab: Floats, bits: int) -> Blocks:
        return quantise_blocks(slab, bits, self.kind.block, asymmetric=self.kind.asymmetric)

    def _whole(self, name: str, array: NDArray[Any]) -> str:
        self._on_bytes(array.nbytes)
        return self._graph.stored(name, array)

    def _block_matmul(
        self,
        value: str,
        name: str,
        names: Sequence[str],
        shape: tuple[int, int],
        bits: int,
        bias: str,
    ) -> str:
        return self._graph.node(
            "MatMulNBits",
            with_optional([value, *names], 5, bias),
            name,
            N=shape[0],
            K=shape[1],
            bits=bits,
            block_size=self.kind.block,
            accuracy_level=4,
        )

    # -- experts ---------------------------------------------------------------------------

    def float_matmul(self, value: str, name: str, part: Part) -> str:
        """Write a matrix in floats, whatever others are in, and multiply with it."""
        return self._float_matmul(value, name, self._floats(f"{name}.weight", [part]), "")

    def experts(
        self,
        value: str,
        scores: str,
        name: str,
        both: Sequence[Sequence[Part]],
        down: Sequence[Sequence[Part]],
        used: int,
    ) -> str:
        """Write all experts and add the operator that runs those with the best ``scores``.

        ``both``: gate and up of each, whose rows alternate; ``down``: what comes after their
        product. The operator weights results by the softmax of the scores that were best.
        """
        attributes = {
            "k": used,
            "activation_type": "swiglu",  # gate * sigmoid(gate) * up, by the numbers below
            "swiglu_fusion": 1,
            "activation_alpha": 1.0,
            "activation_beta": 0.0,
            "normalize_routing_weights": 1,
        }
        parts = [(f"{name}.gate_up", both), (f"{name}.down", down)]
        if not self.kind.quantised:
            first, second = (self._stacked_floats(each, matrices) for each, matrices in parts)
            return self._graph.node("MoE", [value, scores, first, "", second], name, **attributes)
        first_names, second_names = (self._stacked(each, matrices) for each, matrices in parts)
        inputs = [value, scores, *first_names[:2], "", *second_names[:2]]
        if self.kind.asymmetric:
            inputs += ["", "", "", "", first_names[2], second_names[2]]
        return self._graph.node(
            "QMoE", inputs, name, expert_weight_bits=self.kind.bits, block_size=self.kind.block,
            accuracy_level=4, **attributes,
        )  # fmt: skip

    def _alternating(self, parts: Sequence[Part]) -> Floats:
        """Return the rows of an expert's matrices, one of each in turn."""
        matrices = [np.concatenate(list(self._slabs([part]))) for part in parts]
        return np.stack(matrices, axis=1).reshape(-1, matrices[0].shape[1])

    def _stacked_floats(self, name: str, experts: Sequence[Sequence[Part]]) -> str:
        """Write the matrices of all experts as they are."""
        self._graph.begin()
        for parts in experts:
            rows = self._alternating(parts)
            self._append(rows.astype(self.float, copy=False))
        return self._graph.end(f"{name}.weight", self.float, (len(experts), *rows.shape))

    def _stacked(self, name: str, experts: Sequence[Sequence[Part]]) -> list[str]:
        """Write the matrices of all experts in blocks; return the names of their tensors."""
        scales, zeros = [], []
        self._graph.begin()
        for parts in experts:
            made = self._quantised(self._alternating(parts), self.kind.bits)
            flat = made.weights.reshape(len(made.weights), -1)
            self._append(flat)
            scales.append(made.scales)
            if made.zero_points is not None:
                zeros.append(made.zero_points)
        shape = (len(experts), *flat.shape)
        names = [self._graph.end(f"{name}.weight", np.uint8, shape)]
        names.append(self._whole(f"{name}.scales", np.stack(scales)))
        if zeros:
            names.append(self._whole(f"{name}.zero_points", np.stack(zeros)))
        return names

    # -- embedding and head ----------------------------------------------------------------

    def embedding(self, ids: str, part: Part) -> tuple[str, Head | None]:
        """Write the embedding; return the rows of ``ids``, and how to use it as the head.

        None for the second where the head cannot read the same bytes.
        """
        name = part.module
        if not self.kind.quantised:
            weight = self._floats(f"{name}.weight", [part])
            hidden = self._graph.node("Gather", [weight, ids], name)
            return hidden, lambda value, to: self._float_matmul(value, to, weight, "")
        bits, block = self.kind.head_bits, self.kind.block
        tensors, shape = self._blocks(name, [part], bits)
        hidden = self._graph.node(
            "GatherBlockQuantized",
            [self._graph.flat(tensors[0]), ids, *tensors[1:]],
            name,
            bits=bits,
            block_size=block,
            gather_axis=0,
            quantize_axis=1,
        )
        if self.kind.dynamic:
            return hidden, None
        return hidden, lambda value, to: self._block_matmul(value, to, tensors, shape, bits, "")


def with_optional(inputs: Sequence[str], place: int, last: str) -> list[str]:
    """Put an optional input at its place, empty ones before it."""
    return [*inputs, *[""] * (place - len(inputs)), last] if last else list(inputs)
