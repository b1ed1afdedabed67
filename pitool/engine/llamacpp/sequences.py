"""What is in the KV cache: the tokens of each sequence, and which of them a new prompt can use.

Each sequence has a buffer of its own, so that a token looks at the cells of its own conversation
only. A recurrent state is one for all tokens before it and cannot be taken back: of a model that
has one, copies are kept of where a turn begins, and all sequences share one buffer.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pitool.engine.generate import shared_prefix
from pitool.engine.llamacpp import streams
from pitool.engine.llamacpp.compact import BUFFER_HEAD, is_compact, read_state
from pitool.engine.llamacpp.library import llama_cpp
from pitool.engine.prefills.files import LEAST_TOKENS
from pitool.engine.prefills.prefixes import Prefixes
from pitool.planning.memory import checkpoints

CLOSE, APART = 8, 512
"""Tokens: a control token nearer to the one before begins no turn; between copies of old turns."""
LEAST_COPIED = 16
"""Tokens that are worth a copy of another slot's whole buffer, which takes as long as a few."""
_RECURRENT_ONLY = llama_cpp.LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A copy of the recurrent state after the first ``length`` tokens."""

    length: int
    state: Any


@dataclass(eq=False, slots=True)
class Slot:
    """A sequence of the KV cache; ``tokens`` are in it, ``used`` says when it was last.

    ``least``: it cannot be shortened to fewer tokens than these, because a layer with a window has
    lost what they would look at.
    """

    sequence: int
    tokens: list[int] = field(default_factory=list)
    least: int = 0
    checkpoints: list[Checkpoint] = field(default_factory=list)
    used: int = 0
    busy: bool = False

    def reach(self, ids: Sequence[int], *, recurrent: bool) -> int:
        """Return how many tokens of a prompt are here, so that a sequence could go on with them."""
        same = shared_prefix(self.tokens, ids)
        if not recurrent or same == len(self.tokens):
            return same if same >= self.least else 0
        return max((c.length for c in self.checkpoints if c.length <= same), default=0)


class Sequences:
    """The slots of a context, each with an equal part of its tokens, ``length``.

    Those of a ``recurrent`` model share one buffer, in which a cell may belong to several.
    ``saved``: where a conversation goes that has to make room, and comes from.
    """

    def __init__(self, context: Any, count: int, length: int, *, recurrent: bool) -> None:
        self._context, self._memory = context, llama_cpp.llama_get_memory(context)
        self._length, self.recurrent = length, recurrent
        self._streams = 1 if recurrent else count
        self._window = llama_cpp.llama_model_n_swa(llama_cpp.llama_get_model(context)) or None
        self.saved: Prefixes | None = None
        self.slots = [Slot(number) for number in range(count)]
        self._clock = 0

    @property
    def copies(self) -> bool:
        """Whether any part of what one slot has read can be copied to another."""
        return not self.recurrent

    @property
    def apart(self) -> bool:
        """Whether different numbers of tokens of two slots take a pass each, computed together."""
        return self._streams > 1

    @property
    def free(self) -> bool:
        """Whether a slot has no answer running in it."""
        return any(not slot.busy for slot in self.slots)

    def take(self, ids: Sequence[int]) -> Slot:
        """Return a slot for a prompt, with as much of the prompt in it as is in any slot.

        The last token is never taken as read, since its logits are wanted.
        """
        wanted = ids[:-1]
        reach = {slot.sequence: slot.reach(wanted, recurrent=self.recurrent) for slot in self.slots}
        slot = self._choose([slot for slot in self.slots if not slot.busy], reach)
        source = max(self.slots, key=lambda slot: reach[slot.sequence])
        if 2 * reach[slot.sequence] <= len(slot.tokens):
            self.keep(slot)
        least = 1 if self.recurrent else LEAST_COPIED
        if reach[source.sequence] - reach[slot.sequence] >= least:
            self._copy(source, slot, reach[source.sequence])
        else:
            self.rewind(slot, reach[slot.sequence])
        if self.saved is not None:
            self._bring_back(slot, wanted, self.saved)
        slot.busy = True
        self._touch(slot)
        return slot

    @staticmethod
    def _choose(idle: Sequence[Slot], reach: Mapping[int, int]) -> Slot:
        """Return the slot that a prompt is to go into; ``reach``: what each has of the prompt.

        One of which nothing is lost, whether the prompt goes on with it or it is empty; else one
        that has more of the prompt than of anything else, which is the same conversation, asked
        anew; else the one that was used longest ago.
        """
        best = max(idle, key=lambda slot: (reach[slot.sequence], slot.used))
        oldest = min(idle, key=lambda slot: slot.used)
        if 0 < reach[best.sequence] == len(best.tokens):
            return best
        if oldest.tokens and 2 * reach[best.sequence] > len(best.tokens):
            return best
        return oldest

    def release(self, slot: Slot) -> None:
        """Let others have a slot; what is in it stays for them to go on with."""
        slot.busy = False
        self._touch(slot)

    def _touch(self, slot: Slot) -> None:
        self._clock += 1
        slot.used = self._clock

    def clear(self, slots: Iterable[Slot] = ()) -> None:
        """Empty some slots, or all."""
        chosen = list(slots)
        if not chosen:
            llama_cpp.llama_memory_clear(self._memory, False)
        for slot in chosen:
            llama_cpp.llama_memory_seq_rm(self._memory, slot.sequence, -1, -1)
        for slot in chosen or self.slots:
            slot.tokens.clear()
            slot.checkpoints.clear()
            slot.least = 0

    def rewind(self, slot: Slot, count: int) -> int:
        """Keep the first ``count`` tokens of a slot; fewer where the state of so many is lost."""
        count = min(count, len(slot.tokens))
        if count < slot.least:
            self.clear([slot])
            return 0
        if count and llama_cpp.llama_memory_seq_rm(self._memory, slot.sequence, count, -1):
            self._forget(slot, count)
            return count
        fitting = [each for each in slot.checkpoints if each.length <= count]
        if fitting and self._restore(slot, fitting[-1]):
            self._forget(slot, fitting[-1].length)
            return fitting[-1].length
        self.clear([slot])
        return 0

    @staticmethod
    def _forget(slot: Slot, count: int) -> None:
        del slot.tokens[count:]
        slot.checkpoints = [each for each in slot.checkpoints if each.length <= count]

    def _copy(self, source: Slot, target: Slot, count: int) -> None:
        """Make the first ``count`` tokens of one slot those of another."""
        self.clear([target])
        # One buffer is copied to another as a whole, which is done before the next pass.
        first, last = (0, count) if self.recurrent else (-1, -1)
        llama_cpp.llama_memory_seq_cp(self._memory, source.sequence, target.sequence, first, last)
        if not self.recurrent:
            llama_cpp.llama_memory_seq_rm(self._memory, target.sequence, count, -1)
        target.tokens, target.least = source.tokens[:count], source.least
        target.checkpoints = [each for each in source.checkpoints if each.length <= count]
        if self.recurrent and count < len(source.tokens):
            self.rewind(target, count)

    # -- neighbours ------------------------------------------------------------------------

    def between(self, first: Slot, last: Slot) -> Sequence[Slot]:
        """Return the slots between two that must be in their pass, so that it stays one.

        llama.cpp computes sequences with buffers of their own together as far as their numbers
        follow each other (``llama_batch_allocr::split_equal``). None where one of them is full.
        """
        between = [] if self.recurrent else self.slots[first.sequence + 1 : last.sequence]
        return between if all(len(slot.tokens) < self._length for slot in between) else ()

    def forget_pass(self, slot: Slot) -> None:
        """Drop what a pass added to a slot beyond its tokens."""
        llama_cpp.llama_memory_seq_rm(self._memory, slot.sequence, len(slot.tokens), -1)

    # -- the disk --------------------------------------------------------------------------

    def keep(self, slot: Slot) -> None:
        """Save what is in a slot, if it is worth it."""
        if self.saved is not None:
            self.saved.keep(slot.tokens, lambda path: self.write(slot, path))

    def _bring_back(self, slot: Slot, wanted: Sequence[int], saved: Prefixes) -> None:
        """Read what is saved of a prompt, where that is much more than is in its slot."""
        found = saved.best(wanted, self._length, rigid=0 if self.recurrent else self._window)
        if found is None or found.shared < len(slot.tokens) + LEAST_TOKENS:
            return
        if self.read(slot, found.path, self._length):
            self.rewind(slot, found.shared)
        else:
            saved.drop(found.path)

    def write(self, slot: Slot, path: Path) -> bool:
        """Write what is in a slot to a file; False where that fails."""
        tokens = (llama_cpp.llama_token * len(slot.tokens))(*slot.tokens)
        written = llama_cpp.llama_state_seq_save_file(
            self._context, os.fsencode(path), slot.sequence, tokens, len(tokens)
        )
        if written and self._streams > 1:
            try:
                streams.leave_one(path, self._streams)
            except ValueError:
                return False
        return bool(written)

    def read(self, slot: Slot, path: Path, most: int) -> bool:
        """Fill a slot from a file; False, and an empty slot, where it holds none of this model."""
        self.clear([slot])
        if self._streams > 1 or is_compact(path):
            return self._read_state(slot, path, most)
        tokens, count = (llama_cpp.llama_token * most)(), ctypes.c_size_t()
        if not llama_cpp.llama_state_seq_load_file(
            self._context, os.fsencode(path), slot.sequence, tokens, most, ctypes.byref(count)
        ):
            self.clear([slot])
            return False
        self._fill(slot, tokens[: count.value])
        return True

    def _fill(self, slot: Slot, tokens: Iterable[int]) -> None:
        """Note what a state brought; of it, layers with a window may have the end only."""
        slot.tokens = list(tokens)
        first = llama_cpp.llama_memory_seq_pos_min(self._memory, slot.sequence)
        if first > 0 and not self.recurrent:
            slot.least = len(slot.tokens)

    def _read_state(self, slot: Slot, path: Path, most: int) -> bool:
        """Fill a slot by way of memory, where llama.cpp cannot take the file as it is."""
        try:
            tokens, state = read_state(path)
            state = np.concatenate([BUFFER_HEAD, *streams.spread(state, self._streams)])
        except (ValueError, OSError):
            return False
        pointer = state.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        if len(tokens) > most or not llama_cpp.llama_state_seq_set_data(
            self._context, pointer, state.nbytes, slot.sequence
        ):
            self.clear([slot])
            return False
        self._fill(slot, tokens)
        return True

    # -- the recurrent state ---------------------------------------------------------------

    def checkpoint(self, slot: Slot) -> None:
        """Keep a copy of the recurrent state as it is now."""
        size = llama_cpp.llama_state_seq_get_size_ext(self._context, slot.sequence, _RECURRENT_ONLY)
        state = np.empty(size, np.uint8)
        pointer = state.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        written = llama_cpp.llama_state_seq_get_data_ext(
            self._context, pointer, size, slot.sequence, _RECURRENT_ONLY
        )
        if written:
            most = checkpoints(size, len(self.slots))
            slot.checkpoints = [*slot.checkpoints, Checkpoint(len(slot.tokens), state)][-most:]

    def _restore(self, slot: Slot, checkpoint: Checkpoint) -> bool:
        """Bring a copy of the state back, and drop the keys and values after it."""
        state = checkpoint.state
        pointer = state.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        read = llama_cpp.llama_state_seq_set_data_ext(
            self._context, pointer, state.nbytes, slot.sequence, _RECURRENT_ONLY
        )
        return bool(read) and bool(
            llama_cpp.llama_memory_seq_rm(self._memory, slot.sequence, checkpoint.length, -1)
        )


def turn_starts(ids: Sequence[int], marks: Container[int]) -> list[int]:
    """Return where a state is worth a copy: where the last turns begin, and some of the others.

    A turn begins with one of ``marks``; one that closely follows another belongs to its turn. Of a
    text without any, all but its last token, with which it would be asked anew.
    """
    turns: list[int] = []
    for place, token in enumerate(ids):
        if token in marks and place - (turns[-1] if turns else 0) >= CLOSE:
            turns.append(place)
    if not turns:
        return [len(ids) - 1] if len(ids) > 1 else []
    kept: list[int] = []
    for place in turns[:-2]:
        if place - (kept[-1] if kept else 0) >= APART:
            kept.append(place)
    return kept + turns[-2:]
