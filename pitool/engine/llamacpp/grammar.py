"""What an answer may be, by llama.cpp's grammars: asked before a token is taken, never after.

llama.cpp ends the process over a token that its grammar does not know, so that each is looked at
first. A grammar that waits for a word begins here, not in llama.cpp, which looks for it in the
whole answer with every token.
"""

from __future__ import annotations

import ctypes
from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pitool.engine.base import Sampling
from pitool.engine.llamacpp.library import llama_cpp
from pitool.engine.llamacpp.vocabulary import Vocabulary
from pitool.errors import PitoolError, UsageError

CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
"""llama.cpp's ``llama_token_data``."""
LONGEST = 1 << 20
_TRIGGERED = "triggered-root"


class Grammar:
    """The grammar of one answer; UsageError where llama.cpp cannot read it."""

    def __init__(self, sampling: Sampling, vocabulary: Vocabulary) -> None:
        self._text, self._vocabulary = sampling.grammar, vocabulary
        self._triggers = [word.encode() for word in sampling.triggers if word]
        self._recent: deque[tuple[int, bytes]] = deque()
        self._sampler = self._open(self._text, "root")
        self._begun = not self._triggers

    def _open(self, text: str, root: str) -> Any:
        if len(text) > LONGEST:
            raise UsageError(f"the grammar is longer than {LONGEST} characters", "shorten it")
        handle = self._vocabulary.handle
        sampler = llama_cpp.llama_sampler_init_grammar(handle, text.encode(), root.encode())
        if not sampler:
            raise UsageError(
                "llama.cpp cannot read the grammar, or it has no rule named root",
                "correct it, or use a simpler schema",
            )
        return sampler

    def allows(self, token: int) -> bool:
        """Tell whether the answer may go on with a token, or end with it."""
        if not self._begun:
            return True
        if token in self._vocabulary.known_ends and not self._vocabulary.ends(token):
            return False  # llama.cpp would end here, and the answer would not
        row = np.zeros(1, CANDIDATE)
        row["id"] = self._stand_in(token)
        self._apply(row)
        return bool(row["logit"][0] == 0)

    def restrict(self, candidates: NDArray[Any]) -> None:
        """Take every token from candidates of all ids in order that the answer may not go on with.

        PitoolError where there is none.
        """
        if not self._begun:
            return
        ends = list(self._vocabulary.end_ids)
        kept = candidates["logit"][ends]
        may_end = bool(ends) and self.allows(ends[0])
        self._apply(candidates)
        candidates["logit"][list(self._vocabulary.known_ends)] = -np.inf
        candidates["logit"][ends] = kept if may_end else -np.inf
        if not np.isfinite(candidates["logit"].max()):
            raise PitoolError(
                "the grammar allows none of the model's tokens here",
                "correct the grammar, or use another model",
            )

    def accept(self, token: int) -> None:
        """Go on with a token that is allowed."""
        if not self._begun:
            self._wait_for_trigger(token)
        elif not self._vocabulary.ends(token):
            llama_cpp.llama_sampler_accept(self._sampler, token)

    def close(self) -> None:
        """Free it."""
        if self._sampler is not None:
            llama_cpp.llama_sampler_free(self._sampler)
            self._sampler = None

    def _stand_in(self, token: int) -> int:
        """Return what llama.cpp takes for an end where ``token`` is one."""
        known = self._vocabulary.known_ends
        if not self._vocabulary.ends(token) or token in known or not known:
            return token
        return next(iter(known))

    def _apply(self, candidates: NDArray[Any]) -> None:
        array = candidate_array(candidates)
        llama_cpp.llama_sampler_apply(self._sampler, ctypes.byref(array))

    def _wait_for_trigger(self, token: int) -> None:
        """Begin where a trigger is complete, with the token that its first letter is in."""
        if not self._triggers:
            return
        self._recent.append((token, self._vocabulary.spelled(token)))
        text = b"".join(piece for _, piece in self._recent)
        found = [at for at in map(text.find, self._triggers) if at >= 0]
        if found:
            self._begin(min(found))
            return
        longest = max(map(len, self._triggers))
        while self._recent and len(text) - len(self._recent[0][1]) >= longest - 1:
            text = text[len(self._recent.popleft()[1]) :]

    def _begin(self, at: int) -> None:
        while at >= len(self._recent[0][1]):
            at -= len(self._recent.popleft()[1])
        before = self._recent[0][1][:at].decode(errors="replace")
        literal = "".join(f"\\U{ord(letter):08x}" for letter in before)
        self.close()
        self._sampler = self._open(f'{self._text}\n{_TRIGGERED} ::= "{literal}" root', _TRIGGERED)
        self._begun, self._triggers = True, []
        for token, _ in self._recent:
            if not self.allows(token):
                self._begun = False  # the word came with more than the grammar knows
                break
            self.accept(token)
        self._recent.clear()


def candidate_array(candidates: NDArray[Any]) -> Any:
    """Return llama.cpp's array around candidates of type ``CANDIDATE``, which must live on."""
    pointer = ctypes.cast(candidates.ctypes.data, ctypes.POINTER(llama_cpp.llama_token_data))
    return llama_cpp.llama_token_data_array(
        data=pointer, size=len(candidates), selected=-1, sorted=False
    )
