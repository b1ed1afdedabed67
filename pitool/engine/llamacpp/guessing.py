"""Which answers of llama.cpp's are guessed, and where rounding may decide between two tokens."""

from __future__ import annotations

from pitool.engine.llamacpp.running import Job, Llama, Running
from pitool.engine.llamacpp.sequences import Sequences, Slot
from pitool.engine.probabilities import close_call
from pitool.engine.speculation.guesses import Guesser
from pitool.engine.speculation.policy import MARGIN, MOST_DOUBT, SHALLOW, TRIED, Speculation


class Guessing:
    """The guesses of the answers that run; ``speculation`` is what the engine knows of guesses.

    Whether passes of several tokens compute what passes of one do is tried for a short and for a
    long KV cache, each when the first greedy answer comes to it.
    """

    def __init__(self, llama: Llama, sequences: Sequences, speculation: Speculation) -> None:
        self._llama, self._sequences, self._speculation = llama, sequences, speculation
        self._margins: dict[bool, float] = {}

    def begin(self, job: Job, slot: Slot) -> Guesser | None:
        """Return what guesses an answer, where it wants guesses."""
        if not job.sampling.speculate:
            return None
        return self._speculation.begin(job.ids, job.expected, slot.sequence)

    def guess(self, running: Running) -> list[int]:
        """Return what is guessed of an answer that goes into the next pass alone."""
        if running.guesser is None:
            return []
        found = self._speculation.guess(running.guesser, self._most(running))
        running.answer.guessed(len(found))
        return found

    def took(self, tokens: int, seconds: float) -> None:
        """Take in how long a pass took."""
        self._speculation.costs.note(tokens, seconds)

    def doubts(self, running: Running, row: int) -> bool:
        """Tell whether rounding may decide which token a greedy answer takes from a row."""
        if not _greedy(running):
            return False
        margin = self._margins.get(self._deep(running.slot), 0.0)
        if not margin:
            return False
        logits, sampler = self._llama.logits(row), running.job.sampler
        return close_call(logits if sampler is None else sampler.weighed(logits), margin)

    def _most(self, running: Running) -> int:
        """Return the most guesses of an answer that keep it what plain decode gives."""
        if running.doubt:
            return 0
        if not _greedy(running):
            return running.answer.left
        slot = running.slot
        deep = self._deep(slot)
        if self._margin(running, deep) > MOST_DOUBT:
            return 0
        room = running.answer.left
        return room if deep else min(room, SHALLOW - len(slot.tokens) - 1)

    def _margin(self, running: Running, deep: bool) -> float:
        """Return how near two tokens may not be; infinity where that is not known yet."""
        if deep not in self._margins:
            slot = running.slot
            ids = [*running.answer.part(1), *slot.tokens[: TRIED - 1]]
            if len(slot.tokens) + len(ids) > self._llama.length:
                return float("inf")
            difference = self._llama.difference(slot, ids)
            if difference is None:
                return float("inf")
            self._margins[deep] = MARGIN * difference
        return self._margins[deep]

    def _deep(self, slot: Slot) -> bool:
        """Tell whether the next token needs more cells than a short KV cache has."""
        return len(slot.tokens) >= SHALLOW


def _greedy(running: Running) -> bool:
    sampler = running.job.sampler
    return sampler is None or sampler.greedy
