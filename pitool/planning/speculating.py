"""What guessed tokens make of a predicted decode, as a range by kind of text.

How many tokens a pass gives by kind of text was measured (``recipes/speculation.toml``). What a
pass of several tokens costs on a board is taken from its predicted speeds: at best it costs what
reading the weights once does, or its tokens' arithmetic as in a prefill if that is more; at worst
both, and the arithmetic twice, since a few rows do not keep kernels busy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pitool.catalog.manifest import Speed
from pitool.catalog.model_shape import ModelShape
from pitool.catalog.task_kinds import TaskKind, task_kinds
from pitool.planning.speed import Estimate

Range = tuple[float, float]


def speculative_decodes(
    shape: ModelShape, found: Estimate, kinds: Mapping[str, TaskKind] | None = None
) -> dict[str, Range]:
    """Return the slowest and fastest decode to expect of each kind of text, in tokens/s.

    None of a model with a recurrent state, of which no part is taken back, and of an encoder.
    """
    if shape.state_bytes or shape.encoder:
        return {}
    kinds = task_kinds() if kinds is None else kinds
    return {name: _decodes(found, kind) for name, kind in kinds.items() if kind.tokens}


def cost_curve(found: Speed, sizes: Iterable[int]) -> tuple[tuple[int, float], ...]:
    """Return pairs of tokens and what a pass of them may cost, until it is measured."""
    return tuple((tokens, sum(pass_costs(found, tokens)) / 2) for tokens in sizes)


def pass_costs(found: Estimate | Speed, tokens: int) -> Range:
    """Return what a pass of so many tokens costs at worst and at best, in passes of one token."""
    share = found.decode / found.prefill  # of a pass of one token, that one more takes in a prefill
    return 1 + 2 * share * (tokens - 1), max(1.0, share * tokens)


def _decodes(found: Estimate, kind: TaskKind) -> Range:
    gains = []
    for size, (low, high) in kind.tokens.items():
        worst, best = pass_costs(found, int(size))
        gains.append((low / worst, high / best))
    # Where a pass of several tokens would give less, none is made.
    least, most = (max(1.0, *side) for side in zip(*gains, strict=True))
    return found.decode * least, found.decode * most
