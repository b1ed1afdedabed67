"""A memory plan: its lines, and how the model is loaded that it is for.

The sums are each format's own (``formats``). All sizes in bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from pitool.catalog.kv_types import CacheTypes
from pitool.catalog.manifest import MemoryLine
from pitool.catalog.model_shape import CONTEXT_STEP

KV_CACHE, RUNTIME, CHAT = "KV cache", "runtime", "chat"
# Resident memory of the chat's own process, measured on x86_64 with Python 3.11.
CHAT_BYTES = 46 * 1024 * 1024
# Copies of a recurrent state: the most for each sequence, and about what all of them may take.
CHECKPOINTS, CHECKPOINT_BYTES = 8, 64 * 1024**2


@dataclass(frozen=True, slots=True)
class Load:
    """How a model is loaded, as far as memory goes; see ``engine.base.Settings``.

    ``context``: tokens of each of ``sequences`` answers that are written at once; ``adapter``:
    bytes of a LoRA adapter that is kept apart from the weights; ``value_type``: of the values in
    the KV cache, None for ``kv_type``, which is that of the keys.
    """

    context: int
    micro_batch: int = 512
    outputs: int = 1
    kv_type: str = "f16"
    value_type: str | None = None
    mapped: bool = False
    repack: bool = True
    adapter: int = 0
    sequences: int = 1

    @property
    def cache(self) -> CacheTypes:
        """The types of the KV cache."""
        return CacheTypes(self.kv_type, self.value_type or self.kv_type)

    def with_cache(self, types: CacheTypes) -> Load:
        """Return the load with other types of the KV cache."""
        return replace(self, kv_type=types.keys, value_type=types.values)

    @property
    def tokens(self) -> int:
        """Tokens of context in all."""
        return self.context * self.sequences


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """The sum and its lines."""

    lines: tuple[MemoryLine, ...]

    @property
    def total(self) -> int:
        """Bytes in all."""
        return sum(line.bytes for line in self.lines)


def held_beside(lines: Iterable[MemoryLine]) -> int:
    """Return what a model holds in the process of another one: all but what is that process's."""
    return sum(line.bytes for line in lines if line.name not in (CHAT, RUNTIME))


def checkpoints(state_bytes: int, sequences: int) -> int:
    """Return how many copies of a recurrent state of this size are kept for each sequence.

    Two are, whatever they take: without them every question would read its whole conversation.
    """
    return min(max(CHECKPOINT_BYTES // max(state_bytes * sequences, 1), 2), CHECKPOINTS)


def most_context(trained: int, fits: Callable[[int], bool]) -> int:
    """Return the most tokens of context, a multiple of 256, that fit; 0 for none.

    ``trained``: tokens that the model was trained for.
    """
    low, high = 0, trained // CONTEXT_STEP
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle * CONTEXT_STEP) else (low, middle - 1)
    return low * CONTEXT_STEP
