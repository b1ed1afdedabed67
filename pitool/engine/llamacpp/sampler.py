"""llama.cpp's own samplers, chained in its usual order."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from pitool.engine.base import Sampling
from pitool.engine.llamacpp.library import llama_cpp


def is_greedy(sampling: Sampling) -> bool:
    """Tell whether the most likely token is taken as it is, so that no chain is needed."""
    return sampling.temperature <= 0 and sampling.repeat_penalty == 1.0


class Sampler:
    """A sampler chain: penalties, top-k, top-p, min-p, temperature, then a draw."""

    def __init__(self, sampling: Sampling, ids: Sequence[int], vocabulary: int) -> None:
        params = llama_cpp.llama_sampler_chain_default_params()
        self._chain = llama_cpp.llama_sampler_chain_init(params)
        for stage in _stages(sampling, vocabulary):
            llama_cpp.llama_sampler_chain_add(self._chain, stage)
        if sampling.repeat_penalty != 1.0:
            for token in ids[-sampling.repeat_window :]:
                llama_cpp.llama_sampler_accept(self._chain, token)

    def draw(self, context: Any, row: int = -1) -> int:
        """Choose a token from a row of a llama.cpp context's logits and remember it."""
        return int(llama_cpp.llama_sampler_sample(self._chain, context, row))

    def close(self) -> None:
        """Free the chain."""
        if self._chain is not None:
            llama_cpp.llama_sampler_free(self._chain)
            self._chain = None


def _stages(sampling: Sampling, vocabulary: int) -> list[Any]:
    stages = []
    if sampling.repeat_penalty != 1.0:
        stages.append(
            llama_cpp.llama_sampler_init_penalties(
                vocabulary, sampling.repeat_window, sampling.repeat_penalty, 0.0, 0.0
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
