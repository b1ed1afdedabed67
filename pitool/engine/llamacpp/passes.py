"""Passes without an answer: what a draft model guesses, and how long passes take."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pitool.engine.generate import shared_prefix
from pitool.engine.llamacpp.batch import Batch
from pitool.engine.llamacpp.library import llama_cpp
from pitool.engine.llamacpp.sequences import Sequences, Slot


class Passes:
    """Uses the sequences of a context directly, ``batch`` tokens at once.

    ``logits`` gives a row of the last pass, ``check`` raises what llama.cpp's status means.
    """

    def __init__(
        self,
        context: Any,
        sequences: Sequences,
        batch: int,
        logits: Callable[[int], NDArray[np.float32]],
        check: Callable[[int], None],
    ) -> None:
        self._context, self._sequences, self._most = context, sequences, batch
        self._logits, self._check = logits, check
        self._batch = Batch(batch)

    def guess(self, slot: Slot, ids: Sequence[int], count: int) -> list[int]:
        """Return the ``count`` most likely tokens after ``ids``, one after the other.

        What a sequence has of ``ids`` is not read again.
        """
        self._sequences.rewind(slot, min(shared_prefix(slot.tokens, ids), len(ids) - 1))
        found: list[int] = []
        left = ids[len(slot.tokens) :]
        while len(found) < count:
            for start in range(0, len(left), self._most):
                self._append(slot, left[start : start + self._most], 1)
            found.append(int(self._logits(-1).argmax()))
            left = found[-1:]
        return found

    def time(self, sizes: Sequence[int]) -> list[float]:
        """Return the seconds of a pass of so many tokens each, with the logits of all of them.

        After what is in the first sequence, which is left as it was.
        """
        slot, found = self._sequences.slots[0], []
        length = len(slot.tokens)
        for size in sizes:
            start = time.perf_counter()
            self._append(slot, range(1, size + 1), size)
            self._logits(-1)  # waits for them
            found.append(time.perf_counter() - start)
            self._sequences.rewind(slot, length)
        return found

    def difference(self, slot: Slot, ids: Sequence[int]) -> float | None:
        """Return how far logits differ between tokens at once and one by one, 0 for not a bit.

        After what is in the sequence, which is left as it was; None where a pass was aborted.
        """
        length = len(slot.tokens)
        try:
            if self._compute(slot, ids, len(ids)):
                return None
            several = [self._logits(row).copy() for row in range(len(ids))]
            self._sequences.rewind(slot, length)
            largest = 0.0
            for token, row in zip(ids, several, strict=True):
                if self._compute(slot, [token], 1):
                    return None
                largest = max(largest, float(np.abs(self._logits(-1) - row).max()))
            return largest
        finally:
            self._sequences.rewind(slot, length)

    def _append(self, slot: Slot, ids: Sequence[int], rows: int) -> None:
        self._check(self._compute(slot, ids, rows))

    def _compute(self, slot: Slot, ids: Sequence[int], rows: int) -> int:
        """Append tokens to a sequence, unless llama.cpp's status is another than 0."""
        self._batch.clear()
        self._batch.add(ids, len(slot.tokens), slot.sequence, rows=rows)
        status = int(llama_cpp.llama_decode(self._context, self._batch.struct))
        if status == 0:
            slot.tokens.extend(ids)
        return status
