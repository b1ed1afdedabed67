"""Draft models of a plan: which guess for a model, and what that makes of its decode.

A draft model writes a few tokens with its own decode, and the model checks them in one pass
(``speculating``). With the share ``a`` of guesses that hold, a pass with k guesses gives
``(1 - a**(k + 1)) / (1 - a)`` tokens (Leviathan et al. 2023, equation 1).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from pitool.catalog.model_shape import VOCABULARY_PADDING
from pitool.planning.formats import GGUF
from pitool.planning.formats.base import PlannedModel
from pitool.planning.memory import held_beside
from pitool.planning.planner import Planner, Row
from pitool.planning.shapes import sizes
from pitool.planning.speculating import Range, pass_costs
from pitool.planning.speed import Estimate

ACCEPTED: Range = (0.6, 0.8)
"""Shares of guesses that hold, least and most: of the order that Leviathan et al. 2023 report of
greedy answers and drafts much smaller than their model."""
GUESSES = (1, 3, 7, 15)
"""Tokens that are guessed for a pass: kernels work by rows of four."""
QUANTISATION = "Q4_0"
"""What a draft is planned in that is not there yet: the type that decodes the fastest."""
SMALLER = 0.5
"""The most weights of a draft, as a share of the model's; with more it takes most of the time."""


@dataclass(frozen=True, slots=True)
class DraftPlan:
    """A draft model at a place.

    ``bytes``: of its file; ``memory``: what the model's process holds more; ``fits``: whether both
    do; ``decodes``: slowest and fastest decode of the model with its guesses, by board, tokens/s.
    """

    name: str
    quantisation: str
    bytes: int
    memory: int
    fits: bool
    decodes: dict[str, Range]

    def to_json(self) -> dict[str, Any]:
        """Return every number."""
        return asdict(self)


def drafts(planner: Planner, row: Row, found: Iterable[PlannedModel]) -> list[DraftPlan]:
    """Return those of the draft models that gain anything for an artifact, the fastest first.

    None for a model with a recurrent state, of which no part is taken back, and for an encoder.
    """
    if not _takes_back(planner.model) or not row.artifact.estimates:
        return []
    planned = [_plan(planner, row, each) for each in found if _takes_back(each)]
    gaining = [each for each in planned if each.fits and any(_gains(row, each))]
    return sorted(gaining, key=lambda each: -sum(high for _, high in each.decodes.values()))


def known_drafts(model: PlannedModel) -> list[PlannedModel]:
    """Return the smaller models of its family among the sizes that are known.

    The family is what its name says before the number of weights. Whether they have the same tokens
    is seen when they are loaded.
    """
    own = _family(model.name)
    return [
        PlannedModel(size.model, size.shape, typical=True)
        for size in sizes().values()
        if own and _family(size.model) == own
        if is_small_enough(size.shape.parameters, model.shape.parameters)
        if abs(size.vocabulary - model.shape.vocabulary) <= VOCABULARY_PADDING
    ]


def is_small_enough(draft: int, model: int) -> bool:
    """Tell whether a model with so many weights may guess for one with ``model`` weights."""
    return draft <= SMALLER * model


def _family(name: str) -> str:
    """Return ``qwen2.5`` of ``Qwen/Qwen2.5-7B-Instruct`` or ``a typical 7B, like Qwen2.5-7B``."""
    found = re.search(r"(?:^|[/ ])([^/ ]+?)-\d+(?:\.\d+)?[bm](?![a-z])", name, re.IGNORECASE)
    return found[1].casefold() if found else ""


def _takes_back(model: PlannedModel) -> bool:
    """Tell whether a model writes, and can take back what it has read."""
    return not (model.shape.state_bytes or model.shape.encoder)


def _plan(planner: Planner, row: Row, draft: PlannedModel) -> DraftPlan:
    name = next(iter(draft.stored), QUANTISATION)
    own = replace(planner, model=draft, load=replace(planner.load, outputs=1))
    small = own.row(GGUF.stored(name), row.place)
    memory = held_beside(small.artifact.memory.lines)
    budget = row.place.budget(planner.profile)
    return DraftPlan(
        draft.name,
        name,
        small.artifact.bytes,
        memory,
        row.peak + memory <= budget,
        {
            one.board: (_decode(one, other, 0), _decode(one, other, 1))
            for one, other in zip(row.artifact.estimates, small.artifact.estimates, strict=True)
        },
    )


def _decode(model: Estimate, draft: Estimate, end: int) -> float:
    """Return the decode with guesses, at worst (0) or at best (1)."""
    each = model.decode / draft.decode  # of a pass of one token, that a guess takes
    gains = (
        _tokens(ACCEPTED[end], count) / (pass_costs(model, count + 1)[end] + count * each)
        for count in GUESSES
    )
    return model.decode * max(1.0, *gains)  # where guesses would lose, none are made


def _tokens(accepted: float, guesses: int) -> float:
    """Return how many tokens a pass with so many guesses gives."""
    return float(sum(accepted**held for held in range(guesses + 1)))


def _gains(row: Row, draft: DraftPlan) -> Iterator[bool]:
    for each in row.artifact.estimates:
        yield draft.decodes[each.board][1] > each.decode
