"""Saved prefills by what they begin with: a prompt finds the one that has most of its tokens.

Owns which file is worth reading or writing; the files are those of ``engine.prefills``, of chats
too, in llama.cpp's format for one sequence.
"""

from __future__ import annotations

import hashlib
import logging
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pitool.engine.generate import shared_prefix
from pitool.engine.prefills import LEAST_TOKENS, LIMIT_BYTES, Prefills
from pitool.errors import PitoolError

# Of llama.cpp's file of one sequence: magic, version and number of tokens before the tokens.
_MAGIC, _WORDS = 0x67677371, 3
_OWN = "prefix."

log = logging.getLogger(__name__)


class Saved(NamedTuple):
    """A file, its tokens, and how many of them a prompt begins with."""

    path: Path
    tokens: Sequence[int]
    shared: int


class Prefixes:
    """The saved prefills of one model in ``folder``; see ``prefills.model_of`` for ``model``."""

    def __init__(self, folder: Path, model: str, limit: int = LIMIT_BYTES) -> None:
        self._prefills, self._model = Prefills(folder, limit), model
        self._known: dict[Path, Sequence[int]] = {}

    def best(self, ids: Sequence[int], room: int, *, whole: bool) -> Saved | None:
        """Return the file that has most of a prompt's tokens; None where none is worth reading.

        ``room``: tokens that may be in it; ``whole``: all of its tokens have to be the prompt's.
        """
        found = [
            Saved(path, tokens, shared_prefix(tokens, ids))
            for path, tokens in self._files()
            if len(tokens) <= room
        ]
        fitting = [each for each in found if not whole or each.shared == len(each.tokens)]
        best = max(fitting, key=lambda each: each.shared, default=None)
        if best is None or best.shared < LEAST_TOKENS or not self._prefills.whole(best.path):
            return None
        return best

    def keep(self, tokens: Sequence[int], write: Callable[[Path], object]) -> None:
        """Have ``write`` save a sequence, if it is worth it and not there yet.

        A shorter one of the same conversation goes. A file is a convenience: what fails is logged.
        """
        if len(tokens) < LEAST_TOKENS:
            return
        files = list(self._files())
        if any(shared_prefix(saved, tokens) == len(tokens) for _, saved in files):
            return
        name = hashlib.sha256(array("i", tokens).tobytes()).hexdigest()[:32]
        try:
            self._prefills.save(f"{_OWN}{name}-{self._model}", write)
            for path, saved in files:
                if path.name.startswith(_OWN) and shared_prefix(saved, tokens) == len(saved):
                    path.unlink(missing_ok=True)
        except (PitoolError, OSError) as error:
            log.warning("cannot save a prefill: %s", error)

    def drop(self, path: Path) -> None:
        """Delete a file that the engine could not read."""
        log.warning("dropped a saved prefill: the engine cannot read it")
        path.unlink(missing_ok=True)

    def _files(self) -> Iterator[tuple[Path, Sequence[int]]]:
        """Yield the files that are there now, with their tokens."""
        paths = self._prefills.of_model(self._model)
        self._known = {path: self._known.get(path) or _tokens(path) for path in paths}
        yield from self._known.items()


def _tokens(path: Path) -> Sequence[int]:
    """Return the tokens of a file; none of one that is of another format, cut, or gone."""
    head, ids = array("I"), array("i")
    try:
        with path.open("rb") as file:
            head.fromfile(file, _WORDS)
            if head[0] == _MAGIC and head[2] * ids.itemsize <= path.stat().st_size:
                ids.fromfile(file, head[2])
    except (EOFError, OSError):
        return ()
    return ids
