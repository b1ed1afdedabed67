"""What llama.cpp holds of a GGUF: sums over the model's shape.

Checked against what the pinned version reports. All sizes in bytes.
"""

from __future__ import annotations

from collections.abc import Iterable

from pitool.catalog.manifest import MemoryLine
from pitool.catalog.model_shape import CONTEXT_STEP, ModelShape
from pitool.catalog.tensor_types import TENSOR_TYPES
from pitool.planning.memory import (
    CHAT,
    CHAT_BYTES,
    KV_CACHE,
    RUNTIME,
    Load,
    MemoryPlan,
    checkpoints,
)
from pitool.planning.type_mixture import TypedTensor

# Resident memory measured on x86_64 with Python 3.11, as what runs of a 135M model take beside all
# other lines: the worker, and what a token of the vocabulary adds to it.
RUNTIME_BYTES = 55 * 1024 * 1024
VOCABULARY_ENTRY_BYTES = 224


def plan_memory(
    model: ModelShape, tensors: Iterable[TypedTensor], load: Load, *, repacked: frozenset[str]
) -> MemoryPlan:
    """Return what llama.cpp will hold; ``repacked``: types that it interleaves for the CPU."""
    tensors = tuple(t for t in tensors if model.loaded(t.tensor))
    weights = sum(t.bytes for t in tensors)
    copies = _repacked_bytes(model, tensors, load, repacked) if load.repack else 0
    states = model.state_bytes * load.sequences
    lines = [
        MemoryLine("weights", weights),
        MemoryLine("repacked copies", copies),
        MemoryLine("LoRA adapter", load.adapter),
        MemoryLine(KV_CACHE, cache_bytes(model, load)),
        MemoryLine("recurrent state", states),
        MemoryLine("state checkpoints", states * checkpoints(model.state_bytes, load.sequences)),
        MemoryLine("compute buffers", compute_bytes(model, load)),
        MemoryLine(RUNTIME, RUNTIME_BYTES + model.vocabulary * VOCABULARY_ENTRY_BYTES),
        MemoryLine(CHAT, CHAT_BYTES),
    ]
    return MemoryPlan(tuple(line for line in lines if line.bytes))


def _repacked_bytes(
    model: ModelShape, tensors: Iterable[TypedTensor], load: Load, repacked: frozenset[str]
) -> int:
    """Bytes of interleaved weights that lie in memory beside the plain ones.

    A tied embedding is kept twice: plain for its rows, interleaved as the head. The others are
    kept twice only when the file is mapped.
    """
    total = 0
    for t in tensors:
        if t.type.name not in repacked or len(t.tensor.shape) < 2:
            continue
        head = t.tensor.name == "token_embd.weight"
        if (head and model.tied) or (load.mapped and not head):
            total += t.bytes
    return total


def cache_bytes(model: ModelShape, load: Load) -> int:
    """Bytes of keys and values of all answers that are written at once."""
    return kv_cache_bytes(model, load.tokens, load.kv_type, load.value_type)


def kv_cache_bytes(
    model: ModelShape, context: int, kv_type: str, value_type: str | None = None
) -> int:
    """Bytes of keys and values for ``context`` tokens (llama.cpp rounds it up to 256).

    ``value_type``: of the values, None for that of the keys. Layers with a window keep all tokens
    as well: the engine leaves ``swa_full`` on.
    """
    return sum(kv_cache_by_layer(model, context, kv_type, value_type))


def kv_cache_by_layer(
    model: ModelShape, context: int, kv_type: str, value_type: str | None = None
) -> list[int]:
    """Bytes of each layer, as ``kv_cache_bytes`` counts them."""
    cells = -(-context // CONTEXT_STEP) * CONTEXT_STEP
    kinds = [TENSOR_TYPES[name.upper()] for name in (kv_type, value_type or kv_type)]
    return [
        cells * sum(row * kind.block_bytes // kind.block for kind in kinds)
        for _, row in model.layer_caches()
    ]


def compute_bytes(model: ModelShape, load: Load) -> int:
    """Bytes of llama.cpp's graph and output: activations or logits, attention mask, logits."""
    batch = min(load.micro_batch, load.tokens)
    activations = batch * 4 * (3 * model.feed_forward + 4 * model.hidden)
    mask = batch * load.tokens * 2
    logits = max(load.outputs, load.sequences) * model.vocabulary * 4
    return max(activations, logits) + mask + logits


def context_bytes(model: ModelShape, load: Load) -> int:
    """Bytes of the lines that depend on the context."""
    return cache_bytes(model, load) + compute_bytes(model, load)


def loading_peak(
    memory: MemoryPlan,
    model: ModelShape,
    tensors: Iterable[TypedTensor],
    load: Load,
    *,
    repacked: frozenset[str],
) -> int:
    """Return the most bytes held while the weights are read, before there is a context.

    ``memory``: what is held then. A tensor that is interleaved is read whole into a buffer of its
    own first.
    """
    held = memory.total - context_bytes(model, load)
    staged = (t.bytes for t in tensors if t.type.name in repacked and len(t.tensor.shape) > 1)
    return held + (max(staged, default=0) if load.repack and not load.mapped else 0)
