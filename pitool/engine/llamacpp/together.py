"""Several answers at once: each pass over the weights makes the next token of all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pitool.engine.base import Sampling
from pitool.engine.llamacpp.library import llama_cpp
from pitool.engine.llamacpp.sampler import Sampler
from pitool.engine.llamacpp.vocabulary import Vocabulary

Decode = Callable[[Any], None]
"""Runs a batch; raises where it cannot."""


@dataclass(slots=True)
class _Answer:
    """A sequence of the KV cache that is written to; ``length``: its tokens, prompt included."""

    sequence: int
    length: int
    sampler: Sampler
    tokens: list[int]


def answer_together(
    context: Any,
    decode: Decode,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    vocabulary: Vocabulary,
    on_tokens: Callable[[int], None],
) -> list[list[int]]:
    """Return the tokens that each prompt is answered with, its end token included.

    ``context``: an empty one with a sequence for each prompt and room for it and for
    ``sampling.max_tokens``. Each answer has a seed of its own, counted up from the sampling's.
    ``on_tokens`` is called with the number of new tokens.
    """
    assert sampling.seed is not None and sampling.max_tokens is not None
    answers = [
        _Answer(
            i, len(ids), Sampler(replace(sampling, seed=sampling.seed + i), ids, vocabulary), []
        )
        for i, ids in enumerate(prompts)
    ]
    batch = llama_cpp.llama_batch_init(max(map(len, (*prompts, answers))), 0, 1)
    try:
        for answer, ids in zip(answers, prompts, strict=True):
            last = len(ids) - 1
            _fill(batch, [(token, i, answer.sequence, i == last) for i, token in enumerate(ids)])
            decode(batch)
            answer.tokens.append(answer.sampler.draw(context, last))
        on_tokens(len(answers))
        for _ in range(sampling.max_tokens - 1):
            going = [answer for answer in answers if not vocabulary.ends(answer.tokens[-1])]
            if not going:
                break
            _fill(batch, [(a.tokens[-1], a.length, a.sequence, True) for a in going])
            decode(batch)
            for row, answer in enumerate(going):
                answer.tokens.append(answer.sampler.draw(context, row))
                answer.length += 1
            on_tokens(len(going))
    finally:
        llama_cpp.llama_batch_free(batch)
        for answer in answers:
            answer.sampler.close()
    return [answer.tokens for answer in answers]


def _fill(batch: Any, rows: Sequence[tuple[int, int, int, bool]]) -> None:
    """Put tokens into a batch, each with its position, sequence, and whether to give logits."""
    batch.n_tokens = len(rows)
    for i, (token, position, sequence, logits) in enumerate(rows):
        batch.token[i], batch.pos[i] = token, position
        batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = 1, sequence, logits
