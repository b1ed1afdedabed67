"""What a model needs in memory, line by line: the one plan for every command.

The figures of llama.cpp's buffers are sums over the model's shape, checked against what the
pinned version reports. All sizes in bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from pitool.catalog.manifest import MemoryLine
from pitool.catalog.model_shape import ModelShape
from pitool.catalog.tensor_types import TENSOR_TYPES
from pitool.planning.type_mixture import TypedTensor

MIB = 1024 * 1024
KV_CACHE, CHAT = "KV cache", "chat"

# Resident memory measured on x86_64 with Python 3.11: the worker with an empty model, what a token
# of the vocabulary adds to it, and the chat's own process.
RUNTIME_BYTES = 48 * MIB
VOCABULARY_ENTRY_BYTES = 224
CHAT_BYTES = 46 * MIB


@dataclass(frozen=True, slots=True)
class Load:
    """How a model is loaded, as far as memory goes; see ``engine.base.Settings``.

    ``adapter``: bytes of a LoRA adapter that is kept apart from the weights.
    """

    context: int
    micro_batch: int = 512
    outputs: int = 1
    kv_type: str = "f16"
    mapped: bool = False
    repack: bool = True
    adapter: int = 0


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """The sum and its lines."""

    lines: tuple[MemoryLine, ...]

    @property
    def total(self) -> int:
        """Bytes in all."""
        return sum(line.bytes for line in self.lines)


def plan_memory(
    model: ModelShape, tensors: Iterable[TypedTensor], load: Load, *, repacked: frozenset[str]
) -> MemoryPlan:
    """Return what llama.cpp will hold; ``repacked``: types that it interleaves for the CPU."""
    tensors = tuple(tensors)
    weights = sum(t.bytes for t in tensors)
    copies = _repacked_bytes(model, tensors, load, repacked) if load.repack else 0
    lines = [
        MemoryLine("weights", weights),
        MemoryLine("repacked copies", copies),
        MemoryLine("LoRA adapter", load.adapter),
        MemoryLine(KV_CACHE, kv_cache_bytes(model, load.context, load.kv_type)),
        MemoryLine("compute buffers", compute_bytes(model, load)),
        MemoryLine("runtime", RUNTIME_BYTES + model.vocabulary * VOCABULARY_ENTRY_BYTES),
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


def kv_cache_bytes(model: ModelShape, context: int, kv_type: str) -> int:
    """Bytes of keys and values for ``context`` tokens (llama.cpp rounds it up to 256).

    Layers with a window keep all tokens as well: the engine leaves ``swa_full`` on.
    """
    cells = -(-context // 256) * 256
    kind = TENSOR_TYPES[kv_type.upper()]
    rows = sum(row * kind.block_bytes // kind.block for _, row in model.layer_caches())
    return 2 * cells * rows


def compute_bytes(model: ModelShape, load: Load) -> int:
    """Bytes of llama.cpp's graph and output: activations or logits, attention mask, logits."""
    batch = min(load.micro_batch, load.context)
    activations = batch * 4 * (3 * model.feed_forward + 4 * model.hidden)
    mask = batch * load.context * 2
    logits = load.outputs * model.vocabulary * 4
    return max(activations, logits) + mask + logits


def longest_context(
    model: ModelShape,
    tensors: Iterable[TypedTensor],
    load: Load,
    budget: int,
    *,
    repacked: frozenset[str],
) -> int:
    """Return the most tokens of context, a multiple of 256, that fit ``budget``; 0 for none."""
    left = budget - plan_memory(model, tensors, load, repacked=repacked).total
    left += _context_bytes(model, load)
    low, high = 0, model.context // 256
    while low < high:
        middle = (low + high + 1) // 2
        fits = _context_bytes(model, replace(load, context=middle * 256)) <= left
        low, high = (middle, high) if fits else (low, middle - 1)
    return low * 256


def _context_bytes(model: ModelShape, load: Load) -> int:
    """Bytes of the lines that depend on the context."""
    return kv_cache_bytes(model, load.context, load.kv_type) + compute_bytes(model, load)


def loading_peak(
    model: ModelShape, tensors: Iterable[TypedTensor], load: Load, *, repacked: frozenset[str]
) -> int:
    """Return the most bytes held while the weights are read, before there is a context.

    A tensor that is interleaved is read whole into a buffer of its own first.
    """
    tensors = tuple(tensors)
    plan = plan_memory(model, tensors, load, repacked=repacked)
    held = plan.total - _context_bytes(model, load)
    staged = (t.bytes for t in tensors if t.type.name in repacked and len(t.tensor.shape) > 1)
    return held + (max(staged, default=0) if load.repack and not load.mapped else 0)
