"""How many tokens of text a conversion reads: by the size of the model, or as the user asks."""

from __future__ import annotations

import os
from dataclasses import dataclass

from pitool.errors import UsageError

# Below this many tokens a text says nothing.
LEAST_TOKENS = 16


@dataclass(frozen=True, slots=True)
class TokenCount:
    """``of_small``: tokens for models of fewer weights, smallest first; ``setting``: a variable."""

    setting: str
    of_small: tuple[tuple[int, int], ...]
    of_large: int

    def find(self, parameters: int) -> int:
        """Return the number of tokens for a model; UsageError where the setting is no number."""
        if asked := os.environ.get(self.setting):
            if not asked.isdecimal() or int(asked) < LEAST_TOKENS:
                raise UsageError(
                    f"{self.setting}={asked!r} is not a number of at least {LEAST_TOKENS} tokens",
                    "unset it, or set it to a number such as 4096",
                )
            return int(asked)
        return next((count for most, count in self.of_small if parameters < most), self.of_large)


# Every second of them is scored.
REFERENCE = TokenCount("PITOOL_REFERENCE_TOKENS", ((2_000_000_000, 4096),), 2048)
CALIBRATION = TokenCount(
    "PITOOL_CALIBRATION_TOKENS", ((50_000_000, 16_384), (500_000_000, 8192)), 2048
)
