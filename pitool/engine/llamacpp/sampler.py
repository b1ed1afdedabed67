"""llama.cpp's own samplers, chained in its usual order."""

from __future__ import annotations

import ctypes
import secrets
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pitool.engine.base import Sampling
from pitool.engine.llamacpp.grammar import CANDIDATE, Grammar, candidate_array
from pitool.engine.llamacpp.library import llama_cpp
from pitool.engine.llamacpp.vocabulary import Vocabulary
from pitool.engine.probabilities import check_bias


def is_greedy(sampling: Sampling) -> bool:
    """Tell whether the most likely token is taken as it is, so that no chain is needed."""
    free = not sampling.grammar and not sampling.logit_bias
    return sampling.temperature <= 0 and free and not sampling.penalises


class Sampler:
    """A sampler chain: bias, penalties, top-k, top-p, min-p, temperature, then a draw.

    With a grammar a token is drawn freely first and again only where the grammar refuses it, as
    llama.cpp's server does: asking a grammar for one token costs little, for all of them a lot.
    """

    def __init__(self, sampling: Sampling, ids: Sequence[int], vocabulary: Vocabulary) -> None:
        check_bias(sampling, vocabulary.size)
        self._size = vocabulary.size
        self.greedy = sampling.temperature <= 0
        self._chain: Any = None
        self._grammar = Grammar(sampling, vocabulary) if sampling.grammar else None
        params = llama_cpp.llama_sampler_chain_default_params()
        self._chain = llama_cpp.llama_sampler_chain_init(params)
        for stage in _stages(sampling, vocabulary.size):
            llama_cpp.llama_sampler_chain_add(self._chain, stage)
        if sampling.penalises:
            for token in ids[-sampling.repeat_window :]:
                llama_cpp.llama_sampler_accept(self._chain, token)

    def draw(self, context: Any, row: int = -1) -> int:
        """Choose a token from a row of a llama.cpp context's logits and remember it."""
        if self._grammar is None:
            return int(llama_cpp.llama_sampler_sample(self._chain, context, row))
        pointer = llama_cpp.llama_get_logits_ith(context, row)
        logits = np.ctypeslib.as_array(pointer, shape=(self._size,))
        token = self._choose(self._candidates(logits))
        if not self._grammar.allows(token):
            candidates = self._candidates(logits)
            self._grammar.restrict(candidates)
            token = self._choose(candidates)
        self._grammar.accept(token)
        llama_cpp.llama_sampler_accept(self._chain, token)
        return token

    def weighed(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits as a greedy draw sees them, nothing of which is remembered."""
        candidates = self._candidates(logits)
        token = self._choose(candidates)
        if self._grammar is not None and not self._grammar.allows(token):
            candidates = self._candidates(logits)
            self._grammar.restrict(candidates)
            self._choose(candidates)
        weighed: NDArray[np.float32] = candidates["logit"]
        return weighed

    def _candidates(self, logits: NDArray[np.float32]) -> NDArray[Any]:
        made = np.zeros(self._size, CANDIDATE)
        made["id"], made["logit"] = np.arange(self._size), logits
        return made

    def _choose(self, candidates: NDArray[Any]) -> int:
        array = candidate_array(candidates)
        llama_cpp.llama_sampler_apply(self._chain, ctypes.byref(array))
        return int(array.data[array.selected].id)

    def close(self) -> None:
        """Free the chain and the grammar."""
        if self._grammar is not None:
            self._grammar.close()
        if self._chain is not None:
            llama_cpp.llama_sampler_free(self._chain)
            self._chain = None


def _stages(sampling: Sampling, vocabulary: int) -> list[Any]:
    stages = []
    if sampling.logit_bias:
        bias = [llama_cpp.llama_logit_bias(token, value) for token, value in sampling.logit_bias]
        array = (llama_cpp.llama_logit_bias * len(bias))(*bias)
        stages.append(llama_cpp.llama_sampler_init_logit_bias(vocabulary, len(bias), array))
    if sampling.penalises:
        stages.append(
            llama_cpp.llama_sampler_init_penalties(
                vocabulary,
                sampling.repeat_window,
                sampling.repeat_penalty,
                sampling.frequency_penalty,
                sampling.presence_penalty,
            )
        )
    if sampling.temperature <= 0:
        return [*stages, llama_cpp.llama_sampler_init_greedy()]
    seed = secrets.randbits(32) if sampling.seed is None else sampling.seed
    return [
        *stages,
        llama_cpp.llama_sampler_init_top_k(sampling.top_k),
        llama_cpp.llama_sampler_init_top_p(sampling.top_p, 1),
        llama_cpp.llama_sampler_init_min_p(sampling.min_p, 1),
        llama_cpp.llama_sampler_init_temp(sampling.temperature),
        llama_cpp.llama_sampler_init_dist(seed & 0xFFFFFFFF),
    ]
