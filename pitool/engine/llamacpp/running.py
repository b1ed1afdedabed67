"""What a scheduler keeps of an answer: the prompt that waits, what runs, its part of a pass."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from pitool.engine.base import Prompt, Sampling
from pitool.engine.generate import Answer
from pitool.engine.llamacpp.sampler import Sampler
from pitool.engine.llamacpp.sequences import Slot
from pitool.engine.llamacpp.vocabulary import Vocabulary
from pitool.engine.scheduling import Listener
from pitool.engine.speculation.guesses import Guesser
from pitool.errors import PitoolError


@dataclass(eq=False, slots=True)
class Job:
    """A prompt that waits for a slot; ``expected``: tokens that its answer may repeat."""

    ids: Sequence[int]
    sampling: Sampling
    listener: Listener
    asked: float
    sampler: Sampler | None
    expected: Sequence[int] = ()
    dropped: bool = False

    @property
    def cancelled(self) -> bool:
        """Whether nobody wants it any more."""
        return self.dropped or self.listener.cancelled

    def close(self) -> None:
        """Free what it held of llama.cpp's."""
        if self.sampler is not None:
            self.sampler.close()


@dataclass(eq=False, slots=True)
class Running:
    """An answer in its slot; ``stops``: lengths of the prompt at which its state is kept.

    ``guesser``: where tokens are guessed; ``doubt``: whether its next token is decoded without.
    """

    job: Job
    answer: Answer
    slot: Slot
    stops: deque[int]
    guesser: Guesser | None = None
    doubt: bool = False


class Part(NamedTuple):
    """What a pass does for one answer: its new tokens, of which the last may be ``guessed``.

    ``row``: of the logits after the last that was not guessed; those of the others follow it.
    """

    running: Running
    ids: Sequence[int]
    row: int
    guessed: Sequence[int] = ()


class Llama(NamedTuple):
    """What a scheduler uses of an engine.

    ``context``: llama.cpp's; ``length``: tokens of one sequence; ``micro_batch``: of one pass;
    ``turns``: returns where turns begin in token ids, for a model with a recurrent state.
    """

    context: Any
    encode: Callable[[Prompt], list[int]]
    vocabulary: Vocabulary
    logits: Callable[[int], np.ndarray]
    failure: Callable[[int], PitoolError]
    difference: Callable[[Slot, Sequence[int]], float | None]
    turns: Callable[[Sequence[int]], list[int]]
    length: int
    micro_batch: int
    batch: int
