"""How much time a conversion takes for the quality of what it rounds: ``--effort``."""

from __future__ import annotations

from dataclasses import dataclass

from pitool.catalog import tables
from pitool.convert.token_counts import TokenCount
from pitool.errors import UsageError


@dataclass(frozen=True, slots=True)
class Effort:
    """``fold``: scales are folded into norms; ``feedback``: errors are fed to later columns.

    ``sweeps``: how often blocks are rounded anew. ``tokens``: that inputs are measured on.
    ``solves``: of ``--quant auto``, the types of its tensors are solved for; ``bands``: into so
    many bands of layers matrices of one role are divided when the sensitivity is measured.
    """

    name: str
    fold: bool = False
    feedback: bool = False
    sweeps: int = 0
    tokens: TokenCount | None = None
    solves: bool = False
    bands: int = 1


FAST, NORMAL, BEST = "fast", "normal", "best"
_NORMAL = TokenCount("PITOOL_FEEDBACK_TOKENS", ((500_000_000, 16_384),), 8192)
_BEST = TokenCount("PITOOL_FEEDBACK_TOKENS", ((500_000_000, 32_768),), 16_384)
EFFORTS = {
    effort.name: effort
    for effort in (
        Effort(FAST),
        Effort(NORMAL, fold=True, feedback=True, sweeps=2, tokens=_NORMAL, solves=True),
        Effort(
            BEST,
            fold=True,
            feedback=True,
            sweeps=4,
            tokens=_BEST,
            solves=True,
            bands=5,
        ),
    )
}


def find_effort(name: str) -> Effort:
    """Return the effort that a user typed; UsageError names the nearest."""
    return tables.lookup(EFFORTS, name.lower(), "effort", UsageError)
