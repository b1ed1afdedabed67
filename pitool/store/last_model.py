"""Which model was loaded last, so that the chat can come back to it."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from pitool.catalog import manifest, reading
from pitool.catalog.bundles import Runnable
from pitool.catalog.files import make_private
from pitool.catalog.model_argument import find_runnable
from pitool.catalog.outputs import write_output
from pitool.errors import PitoolError

FILE_NAME = "last-model.json"
# Folders between the file of an artifact and its bundle.
DEEPEST = 3


def remember(folder: Path | None, runnable: Runnable) -> None:
    """Keep which model is loaded; a disk that refuses is no reason to disturb a chat."""
    if folder is None:
        return
    found = {"entry": str(runnable.entry.absolute()), "quantisation": runnable.quantisation}
    with suppress(OSError, PitoolError):
        make_private(folder / FILE_NAME)
        write_output(folder / FILE_NAME, f"{json.dumps(found)}\n".encode())


def find(folder: Path | None) -> Runnable | None:
    """Return the model that was loaded last; None where none was, or it is not there any more."""
    if folder is None or not (folder / FILE_NAME).exists():
        return None
    with suppress(PitoolError, KeyError, TypeError):
        found = reading.read_object(folder / FILE_NAME)
        entry = Path(found["entry"])
        for place in (entry, *entry.parents[:DEEPEST]):
            if (place / manifest.FILE_NAME).exists():
                return find_runnable(place, found["quantisation"])
        return find_runnable(entry, None)
    return None
