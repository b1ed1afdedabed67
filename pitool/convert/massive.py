"""Massive activations: a few columns whose inputs dwarf all others, at one token of a text.

The first token of a text, for one, carries values of a thousand times the others at a few places,
the same for all texts (Sun et al. 2024, arXiv:2402.17762). Sums over tokens are then those of one
token: such a column is rounded exactly, and what all others lose looks like nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Times the median of the columns' squared inputs. Columns that are large at every token, as
# queries and keys have them, stay below; SmolLM2-135M has 35,000 and 690,000 in two layers.
MASSIVE = 1000


def capped(squares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return mean squared inputs, (..., columns), without what is massive of them."""
    median = np.median(squares, -1, keepdims=True)
    return np.where(median > 0, np.minimum(squares, MASSIVE * median), squares)
