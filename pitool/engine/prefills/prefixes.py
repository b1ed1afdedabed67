"""Saved prefills by what they begin with: a prompt finds the one that has most of its tokens.

Owns which file is worth reading or writing; the files are those of ``files``, of chats
and of the bundle too, in the engine's own format.
"""

from __future__ import annotations

import hashlib
import logging
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pitool.engine.generate import shared_prefix
from pitool.engine.prefills.files import LEAST_TOKENS, LIMIT_BYTES, Place, Prefills, intact
from pitool.errors import PitoolError

# Of llama.cpp's file of one sequence: magic, version and number of tokens before the tokens. The
# other magic is that of ``llamacpp.compact``, which packs what follows the tokens.
MAGIC, COMPACT_MAGIC, _WORDS = 0x67677371, 0x67677071, 3
_OWN = "prefix."

log = logging.getLogger(__name__)


class Saved(NamedTuple):
    """A file, its tokens, and how many of them a prompt begins with."""

    path: Path
    tokens: Sequence[int]
    shared: int


def tokens_of_state(path: Path) -> Sequence[int]:
    """Return the tokens of llama.cpp's file; none of one of another format, cut, or gone."""
    head, ids = array("I"), array("i")
    try:
        with path.open("rb") as file:
            head.fromfile(file, _WORDS)
            if head[0] in (MAGIC, COMPACT_MAGIC) and head[2] * ids.itemsize <= path.stat().st_size:
                ids.fromfile(file, head[2])
    except (EOFError, ValueError, OSError):
        return ()
    return ids


class Prefixes:
    """The saved prefills of one model in some places, of which one at most is written to.

    ``tokens_of`` reads the tokens of a file of the engine's format; none of one that is no such.
    """

    def __init__(
        self,
        places: Iterable[Place],
        tokens_of: Callable[[Path], Sequence[int]] = tokens_of_state,
        limit: int = LIMIT_BYTES,
    ) -> None:
        self._places = [(Prefills(Path(place.folder), limit), place) for place in places]
        self._own = next((each for each in self._places if not each[1].given), None)
        self._tokens_of = tokens_of
        self._known: dict[Path, Sequence[int]] = {}
        self._useless: set[Path] = set()

    def best(self, ids: Sequence[int], room: int, *, rigid: int | None) -> Saved | None:
        """Return the file that has most of a prompt's tokens; None where none is worth reading.

        ``room``: tokens that may be in it; ``rigid``: of a file with more tokens than these, all
        have to be the prompt's, for its end cannot be dropped.
        """
        found = [
            Saved(path, tokens, shared_prefix(tokens, ids))
            for path, tokens in self._files()
            if len(tokens) <= room
        ]
        fitting = [
            each
            for each in found
            if each.shared >= LEAST_TOKENS
            and (rigid is None or each.shared == len(each.tokens) or len(each.tokens) <= rigid)
        ]
        best_first = sorted(fitting, key=lambda each: each.shared, reverse=True)
        return next((each for each in best_first if self._whole(each.path)), None)

    def keep(self, tokens: Sequence[int], write: Callable[[Path], object]) -> None:
        """Have ``write`` save a sequence, if it is worth it and not there yet.

        A shorter one of the same conversation goes. A file is a convenience: what fails is logged.
        """
        if self._own is None or len(tokens) < LEAST_TOKENS:
            return
        files = list(self._files())
        if any(shared_prefix(saved, tokens) == len(tokens) for _, saved in files):
            return
        prefills, place = self._own
        name = hashlib.sha256(array("i", tokens).tobytes()).hexdigest()[:32]
        try:
            prefills.save(f"{_OWN}{name}-{place.model}", write)
            for path, saved in files:
                if path.name.startswith(_OWN) and shared_prefix(saved, tokens) == len(saved):
                    path.unlink(missing_ok=True)
        except (PitoolError, OSError) as error:
            log.warning("cannot save a prefill: %s", error)

    def drop(self, path: Path) -> None:
        """Delete a file that the engine could not read; one that was given is left alone."""
        log.warning("dropped a saved prefill: the engine cannot read it")
        self._useless.add(path)
        if not self._is_given(path):
            path.unlink(missing_ok=True)

    def _whole(self, path: Path) -> bool:
        """Tell whether a file can be used, as ``Prefills.whole`` does."""
        if not self._is_given(path):
            return self._own is not None and self._own[0].whole(path)
        try:
            if intact(path):
                return True
        except OSError:
            return False
        log.warning("a saved prefill of the bundle is not used: it is damaged")
        self._useless.add(path)
        return False

    def _is_given(self, path: Path) -> bool:
        return any(place.given and Path(place.folder) == path.parent for _, place in self._places)

    def _files(self) -> Iterator[tuple[Path, Sequence[int]]]:
        """Yield the files that are there now, with their tokens."""
        self._known = {
            path: self._known.get(path) or self._tokens_of(path)
            for prefills, place in self._places
            for path in prefills.of_model(place.model)
            if path not in self._useless
        }
        yield from self._known.items()
