"""How alike two answers are: the Dice coefficient of their word bigrams.

Dice 1945, "Measures of the amount of ecologic association between species", on the multisets of
neighbouring words; an answer begins and ends with a mark, so that one word has bigrams too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

BEGIN, END = "\x02", "\x03"


def bigrams(text: str) -> Counter[tuple[str, str]]:
    """Return each pair of neighbouring words with its count; words are split at white space."""
    return Counter(pairwise([BEGIN, *text.split(), END]))


def bigram_similarity(left: str, right: str) -> float:
    """Return twice the shared bigrams over all bigrams: 1 for equal words, 0 for none in common."""
    a, b = bigrams(left), bigrams(right)
    return 2 * (a & b).total() / (a.total() + b.total())


def mean_similarity(left: Sequence[str], right: Sequence[str]) -> float:
    """Return the mean over pairs of answers to the same prompts; ValueError for unequal counts."""
    pairs = list(zip(left, right, strict=True))
    return sum(bigram_similarity(a, b) for a, b in pairs) / len(pairs)
