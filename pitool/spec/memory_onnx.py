"""What an ONNX artifact needs in memory under onnxruntime, line by line.

onnxruntime maps the data file and repacks (prepacks) each matrix at load; the mapped pages of what
it repacked are let go. Held against the worker by ``benchmarks.memory``. All sizes in bytes.
"""

from __future__ import annotations

from pitool.spec.manifest import MemoryLine
from pitool.spec.memory import CHAT, CHAT_BYTES, KV_CACHE, Load, MemoryPlan, compute_bytes
from pitool.spec.model import ModelShape
from pitool.spec.onnx_weights import (
    EMBEDDING,
    OnnxQuantisation,
    exported_tensors,
    padded_head,
    stored_tensors,
)

POSITIONS = 32768
# Resident memory measured on x86_64 with Python 3.11 and onnxruntime 1.2x: the worker without a
# model, and what a token of the vocabulary adds in the tokenizers library.
RUNTIME_BYTES = 92_000_000
VOCABULARY_ENTRY_BYTES = 430
# What the arena of activations holds beyond the largest of them.
ARENA_BYTES = 8_000_000
# An exported graph returns its KV cache anew: the engine's, the one before and the one after.
EXPORTED_CACHES = 3


def plan_exported(model: ModelShape, kind: OnnxQuantisation, load: Load) -> MemoryPlan:
    """Return what the worker will hold of an exported graph with a full context."""
    stored = exported_tensors(model, kind)
    plain = sum(t.bytes for t in stored if not t.copied and t.name != EMBEDDING)
    copied = sum(t.bytes for t in stored if t.copied)
    return plan_stored(model, plain, copied, 4, load, caches=EXPORTED_CACHES)


def plan_onnx(model: ModelShape, kind: OnnxQuantisation, load: Load) -> MemoryPlan:
    """Return what the worker will hold with a full context.

    Of an embedding that is not the head only the rows of the tokens at hand are read, which
    counts as nothing; one that is the head stays mapped beside its repacked copy.
    """
    positions = min(model.context, max(POSITIONS, load.context))
    stored = stored_tensors(model, kind, positions)
    plain = sum(t.bytes for t in stored if not t.copied and t.name != EMBEDDING)
    shared = sum(t.bytes for t in stored if t.copied and t.name == EMBEDDING)
    copied = sum(t.bytes for t in stored if t.copied)
    return plan_stored(model, plain + shared, copied, kind.float_bytes, load)


def plan_stored(
    model: ModelShape,
    mapped: int,
    copied: int,
    float_bytes: int,
    load: Load,
    *,
    caches: int = 1,
) -> MemoryPlan:
    """Return what the worker will hold of a graph with so many bytes mapped and repacked.

    ``float_bytes``: of a number that is not quantised, which the KV cache's are; of it there are
    ``caches`` at a time.
    """
    lines = [
        MemoryLine("weights", mapped),
        MemoryLine("prepacked copies", copied),
        MemoryLine("LoRA adapter", load.adapter),
        MemoryLine(KV_CACHE, caches * _cache_bytes(model, float_bytes, load.context)),
        MemoryLine("compute buffers", compute_bytes(model, load) + ARENA_BYTES),
        MemoryLine("runtime", RUNTIME_BYTES + model.vocabulary * VOCABULARY_ENTRY_BYTES),
        MemoryLine(CHAT, CHAT_BYTES),
    ]
    return MemoryPlan(tuple(line for line in lines if line.bytes))


def onnx_cache_bytes(model: ModelShape, kind: OnnxQuantisation, context: int) -> int:
    """Return the bytes of keys and values: float32, or float16 in a half-precision graph."""
    return _cache_bytes(model, kind.float_bytes, context)


def _cache_bytes(model: ModelShape, float_bytes: int, context: int) -> int:
    row = model.kv_heads * padded_head(model.head_dim)
    return 2 * model.layers * context * row * float_bytes
