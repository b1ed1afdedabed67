"""The ids that a cut vocabulary has kept, as a file of the bundle.

By them the checkpoint itself can be compared with again.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

from pitool.catalog import reading
from pitool.checkpoint.source import Checkpoint
from pitool.errors import BadInput

KEPT = "kept-tokens.json"


def write_kept(folder: Path, checkpoint: Checkpoint) -> None:
    """Write the ids that a cut vocabulary has kept into a bundle, in the order of the new ones."""
    if trim := checkpoint.source.trim:
        (folder / KEPT).write_text(json.dumps(trim.kept.tolist()), encoding="utf-8")


def read_kept(folder: Path) -> list[int] | None:
    """Return the ids that a bundle's vocabulary has kept; None where it is whole."""
    path = folder / KEPT
    if not path.is_file():
        return None
    ids = reading.read_json(path, "convert the model again")
    ascending = isinstance(ids, list) and all(type(i) is int and i >= 0 for i in ids)
    if not ascending or any(a >= b for a, b in pairwise(ids)):
        raise BadInput(f"{path} is not a list of token ids", "convert the model again")
    return list(ids)
