"""How an ONNX folder stores weights: the quantisations and the exact bytes of each tensor.

The layouts are those of onnxruntime's MatMulNBits and GatherBlockQuantized (blocks of a row share
a float32 scale) and of its dynamic INT8 (a row shares one). The writer is ``convert.onnx``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod
from typing import ClassVar

from pitool.catalog import tables
from pitool.catalog.model_shape import EMBEDDING, HEAD, ModelShape, TensorShape
from pitool.errors import UsageError

ALIGNMENT = 4096
# GroupQueryAttention rotates heads of whole multiples of this.
HEAD_MULTIPLE = 16
# The matrix that scores experts, which stays in floats.
ROUTER = "ffn_gate_inp"
ROW_PARTS = ("attn_q", "attn_k", "attn_v", "attn_qkv")


@dataclass(frozen=True, slots=True)
class OnnxQuantisation:
    """How matrices are stored; ``head_bits`` are those of the embedding and of the head.

    ``block`` weights of a row share a scale and, when ``asymmetric``, a zero point. ``dynamic``:
    one scale a row, and activations are quantised to 8 bits as they come.
    """

    name: str
    bits: int
    head_bits: int
    block: int = 32
    asymmetric: bool = False
    dynamic: bool = False
    format: ClassVar[str] = "onnx"

    @property
    def quantised(self) -> bool:
        """Whether it has fewer bits than a half-precision float."""
        return self.bits < 16

    @property
    def folder(self) -> str:
        """Name of the artifact's folder in a bundle."""
        return f"onnx-{self.name.lower().replace('_', '-')}"

    @property
    def float_bytes(self) -> int:
        """Bytes of a number that is not quantised: norms, biases, KV cache."""
        return 2 if self.bits == 16 else 4

    def matrix_bytes(self, rows: int, columns: int, *, head: bool = False) -> int:
        """Return the bytes of a matrix that something is multiplied with, scales included."""
        if not self.quantised:
            return rows * columns * self.float_bytes
        if self.dynamic:
            return rows * (columns + 4)
        return self._block_bytes(rows, columns, self.head_bits if head else self.bits)

    def embedding_bytes(self, rows: int, columns: int) -> int:
        """Return the bytes of the embedding: always in blocks, because rows are taken from it."""
        if not self.quantised:
            return rows * columns * self.float_bytes
        return self._block_bytes(rows, columns, self.head_bits)

    def scale_bytes(self, stored: OnnxTensor) -> int:
        """Return the bytes of the scales of a stored matrix that is in blocks, else 0."""
        if not self.quantised or (self.dynamic and stored.name != EMBEDDING):
            return 0
        head = stored.name in (EMBEDDING, HEAD)
        if stored.router:
            return 0
        block = self.block * (self.head_bits if head else self.bits) // 8 + 4
        return stored.bytes // block * 4

    def _block_bytes(self, rows: int, columns: int, bits: int) -> int:
        blocks = -(-columns // self.block)
        zero_points = -(-blocks * bits // 8) if self.asymmetric else 0
        return rows * (blocks * (self.block * bits // 8 + 4) + zero_points)


ONNX_QUANTISATIONS = {
    q.name: q
    for q in (
        OnnxQuantisation("FP32", 32, 32),
        OnnxQuantisation("FP16", 16, 16),
        OnnxQuantisation("INT8", 8, 8),
        OnnxQuantisation("INT8_DYNAMIC", 8, 8, dynamic=True),
        OnnxQuantisation("INT4_HEAD8", 4, 8),
        OnnxQuantisation("INT4_ASYMMETRIC", 4, 4, asymmetric=True),
        OnnxQuantisation("INT4", 4, 4),
    )
}


def _parse(name: str) -> tuple[str, int | None]:
    """Return a name as the table has it, and the block size that ends it, if any does."""
    wanted = name.upper().replace("-", "_")
    suffix = re.fullmatch(r"(.+)_B(\d{1,4})", wanted)
    return (suffix[1], int(suffix[2])) if suffix else (wanted, None)


def is_onnx_quantisation(name: str) -> bool:
    """Tell whether a user's word is one of ONNX; its block size may still be none."""
    return _parse(name)[0] in ONNX_QUANTISATIONS


def find_onnx_quantisation(name: str, block: int | None = None) -> OnnxQuantisation:
    """Return the quantisation that a user typed, in any case; UsageError names the nearest.

    ``INT4_B128`` is INT4 in blocks of 128, as is ``INT4`` with ``block``.
    """
    wanted, named = _parse(name)
    block = block if named is None else named
    found = tables.lookup(ONNX_QUANTISATIONS, wanted, "ONNX quantisation", UsageError)
    if block in (None, found.block):
        return found
    assert block is not None
    if block < 16 or block & (block - 1) or not found.quantised or found.dynamic:
        raise UsageError(
            f"{found.name} cannot have blocks of {block}", "choose 16, 32, 64, 128 or 256 with INT4"
        )
    return replace(found, name=f"{found.name}_B{block}", block=block)


def padded_head(head_dim: int) -> int:
    """Return the head size that is stored: zeros are added up to a multiple of 16."""
    return -(-head_dim // HEAD_MULTIPLE) * HEAD_MULTIPLE


@dataclass(frozen=True, slots=True)
class OnnxTensor:
    """Stored ``bytes`` of a tensor by its GGUF name; ``copied`` if it is repacked at load.

    onnxruntime maps the file; of what it repacks it keeps a copy of about the same size.
    """

    name: str
    bytes: int
    copied: bool

    @property
    def router(self) -> bool:
        """Whether it scores experts, which is in floats."""
        return f".{ROUTER}." in self.name


def stored_tensors(
    model: ModelShape, kind: OnnxQuantisation, positions: int
) -> tuple[OnnxTensor, ...]:
    """Return every tensor of a model as the writer stores it, ``positions`` rotations included.

    A head that is the embedding is one tensor, but for dynamic INT8, which wants it transposed.
    """
    half = rotation_bytes(model, kind, positions) // 2
    return (
        *stored_weights(model, kind),
        OnnxTensor("rope.cos", half, copied=False),
        OnnxTensor("rope.sin", half, copied=False),
    )


def rotation_bytes(model: ModelShape, kind: OnnxQuantisation, positions: int) -> int:
    """Return the bytes of sines and cosines."""
    return 2 * positions * (padded_head(model.head_dim) // 2) * kind.float_bytes


@lru_cache(maxsize=64)
def stored_weights(model: ModelShape, kind: OnnxQuantisation) -> tuple[OnnxTensor, ...]:
    """Return the tensors that do not depend on the context."""
    stored = [_stored(model, tensor, kind) for tensor in model.tensors if tensor.name != _FACTORS]
    if model.tied and kind.dynamic:
        table = next(t for t in model.tensors if t.name == EMBEDDING)
        stored.append(OnnxTensor(HEAD, kind.matrix_bytes(*table.shape), copied=True))
    return tuple(stored)


@lru_cache(maxsize=64)
def exported_tensors(model: ModelShape, kind: OnnxQuantisation) -> tuple[OnnxTensor, ...]:
    """Return every tensor of a model as optimum exports it and onnxruntime quantises it.

    The head is always a matrix of its own; the embedding is in blocks at 4 bits, else in floats.
    """
    table = next(t for t in model.tensors if t.name == EMBEDDING)
    blocks = kind.bits == kind.head_bits == 4
    size = kind.embedding_bytes(*table.shape) if blocks else prod(table.shape) * 4
    rest = [_stored(model, t, kind) for t in model.tensors if t.name not in (EMBEDDING, _FACTORS)]
    if model.tied:
        head = kind.matrix_bytes(*table.shape, head=True)
        rest.append(OnnxTensor(HEAD, head, copied=True))
    return (OnnxTensor(EMBEDDING, size, copied=False), *rest)


_FACTORS = "rope_freqs.weight"


def _stored(model: ModelShape, tensor: TensorShape, kind: OnnxQuantisation) -> OnnxTensor:
    shape = padded_shape(model, tensor)
    if tensor.name == EMBEDDING:
        shared = model.tied and not kind.dynamic
        return OnnxTensor(tensor.name, kind.embedding_bytes(*shape), copied=shared)
    if tensor.part == ROUTER:
        return OnnxTensor(tensor.name, prod(shape) * kind.float_bytes, copied=True)
    if tensor.is_experts:
        experts, rows, columns = shape
        return OnnxTensor(tensor.name, kind.matrix_bytes(experts * rows, columns), copied=True)
    if len(shape) == 2:
        head = tensor.name == HEAD
        return OnnxTensor(tensor.name, kind.matrix_bytes(*shape, head=head), copied=True)
    return OnnxTensor(tensor.name, prod(shape) * kind.float_bytes, copied=False)


def padded_shape(model: ModelShape, tensor: TensorShape) -> tuple[int, ...]:
    """Return a tensor's shape with its heads padded."""
    part = tensor.name.removeprefix("blk.").partition(".")[2].partition(".")[0]
    padded = padded_head(model.head_dim)
    if part in ROW_PARTS:
        return (tensor.shape[0] // model.head_dim * padded, *tensor.shape[1:])
    if part in ("attn_q_norm", "attn_k_norm"):
        return (padded,)
    if part == "attn_output" and len(tensor.shape) == 2:
        return (tensor.shape[0], tensor.shape[1] // model.head_dim * padded)
    return tensor.shape
