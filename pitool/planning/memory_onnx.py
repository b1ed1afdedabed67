"""What an ONNX artifact needs in memory under onnxruntime, line by line.

onnxruntime maps the data file and repacks (prepacks) each matrix at load; the mapped pages of what
it repacked are let go, but for the scales of blocks, of which it also keeps a copy beside the one
in the repacked matrix. Held against the worker by ``benchmarks.memory``. All sizes in bytes.
"""

from __future__ import annotations

from pitool.catalog.manifest import MemoryLine
from pitool.catalog.model_shape import ModelShape
from pitool.planning.memory import CHAT, CHAT_BYTES, KV_CACHE, Load, MemoryPlan
from pitool.planning.onnx_weights import (
    EMBEDDING,
    OnnxQuantisation,
    exported_tensors,
    padded_head,
    stored_tensors,
)

POSITIONS = 32768
# Resident memory measured on x86_64 with Python 3.11 and onnxruntime 1.2x: the worker without a
# model, and what a token of the vocabulary adds in the tokenizers library.
RUNTIME_BYTES = 60_000_000
VOCABULARY_ENTRY_BYTES = 430
# Linux maps so much of a file that is in the page cache around what is read.
FAULT_AROUND_BYTES = 64 * 1024
# An exported graph returns its KV cache anew: the engine's, the one before and the one after.
EXPORTED_CACHES = 3


def plan_exported(model: ModelShape, kind: OnnxQuantisation, load: Load) -> MemoryPlan:
    """Return what the worker will hold of an exported graph with a full context."""
    stored = exported_tensors(model, kind)
    plain = sum(t.bytes for t in stored if not t.copied and t.name != EMBEDDING)
    copied = sum(t.bytes for t in stored if t.copied)
    scales = sum(kind.scale_bytes(t) for t in stored if t.copied)
    return plan_stored(model, plain + scales, copied + scales, 4, load, caches=EXPORTED_CACHES)


def plan_onnx(model: ModelShape, kind: OnnxQuantisation, load: Load) -> MemoryPlan:
    """Return what the worker will hold with a full context.

    An embedding that is the head stays mapped beside its repacked copy; of another one, what lies
    around the rows that are read. Half-precision matrices stay mapped beside copies in float32.
    """
    positions = min(model.context, max(POSITIONS, load.context))
    stored = stored_tensors(model, kind, positions)
    mapped = copied = 0
    for t in stored:
        if t.name == EMBEDDING and not t.copied:
            mapped += min(t.bytes, load.context * FAULT_AROUND_BYTES)
        elif t.name == EMBEDDING or not t.copied or kind.bits == 16:
            mapped += t.bytes
        else:
            mapped += kind.scale_bytes(t)
        if t.copied:
            copied += 2 * t.bytes if kind.bits == 16 else t.bytes + kind.scale_bytes(t)
    return plan_stored(model, mapped, copied, kind.float_bytes, load)


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
        MemoryLine("compute buffers", _compute_bytes(model, load)),
        MemoryLine("runtime", RUNTIME_BYTES + model.vocabulary * VOCABULARY_ENTRY_BYTES),
        MemoryLine(CHAT, CHAT_BYTES),
    ]
    return MemoryPlan(tuple(line for line in lines if line.bytes))


def _compute_bytes(model: ModelShape, load: Load) -> int:
    """Bytes of activations, the 8-bit ones that they are rounded to included, and of logits."""
    batch = min(load.micro_batch, load.context)
    activations = batch * 4 * (3 * model.feed_forward + 11 * model.hidden)
    logits = load.outputs * model.vocabulary * 4
    return max(activations, logits) + logits


def onnx_cache_bytes(model: ModelShape, kind: OnnxQuantisation, context: int) -> int:
    """Return the bytes of keys and values: float32, or float16 in a half-precision graph."""
    return _cache_bytes(model, kind.float_bytes, context)


def _cache_bytes(model: ModelShape, float_bytes: int, context: int) -> int:
    row = model.kv_heads * padded_head(model.head_dim)
    return 2 * model.layers * context * row * float_bytes
