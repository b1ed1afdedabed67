"""The variants of a conversation as JSON: which rows each tail of a fork has, by their keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pitool.store.conversation import ConversationRow, Fork


def to_json(forks: Mapping[str, Fork]) -> dict[str, Any]:
    """Return forks by the row that they follow; the rows themselves are stored elsewhere."""
    return {
        key: {"place": fork.place, "tails": [[row.key for row in tail] for tail in fork.tails]}
        for key, fork in list(forks.items())
    }


def from_json(values: Mapping[str, Any], aside: Mapping[str, ConversationRow]) -> dict[str, Fork]:
    """Return the forks; ``aside``: the rows of their tails, by key.

    What is damaged is left out: then there is one variant less to turn to.
    """
    found = {}
    for key, value in values.items():
        try:
            place, tails = int(value["place"]), list(value["tails"])
            read = [[aside[row] for row in tail if row in aside] for tail in tails]
        except (KeyError, TypeError, ValueError):
            continue
        kept = [tail for i, tail in enumerate(read) if tail or i == place]
        before = sum(bool(tail) for tail in read[:place])
        if len(kept) > 1 and 0 <= place < len(read):
            found[key] = Fork(kept, before)
    return found
