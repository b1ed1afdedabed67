"""The catalogue and its downloads, as a front end uses them: judged for this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pitool.catalog.bundles import Bundle
from pitool.catalog.profiles import BALANCED, find_profile
from pitool.planning.catalogue import Entry, catalogue
from pitool.planning.places import Place
from pitool.planning.speed import Correction
from pitool.pull.bundle import already, pull
from pitool.pull.choice import Choice
from pitool.pull.hub import find_hub
from pitool.pull.request import choose, find_request, target_of
from pitool.report.progress import Progress

FindPlace = Callable[[], tuple[Place, Mapping[str, Correction]]]
"""Returns this machine as a place, and what was learnt on it."""


class Market:
    """What can be had for this machine; ``say`` hears why a download waits."""

    def __init__(self, find_place: FindPlace, say: Callable[[str], object]) -> None:
        self._find_place, self._say = find_place, say

    def entries(self) -> list[Entry]:
        """Return the catalogue, the recommended model first; what does not fit is left out."""
        return [entry for entry in catalogue(*self._find_place()) if entry.fits]

    def pull(self, entry: Entry, progress: Progress) -> Bundle:
        """Return the bundle of an entry, downloaded unless it is here.

        An error that ``progress`` raises ends the download; what has arrived is kept.
        """
        request = find_request(entry.name)
        hub = find_hub(self._say)
        progress.stage(f"asking the hub for {request.repository}", 1)
        repository, variants = request.open(hub.repository)
        place, corrections = self._find_place()
        profile = find_profile(BALANCED)
        choice = Choice(hub, repository, variants, place, profile, request.context, corrections)
        candidate, _ = choose(request, choice)
        target = target_of(choice, candidate, None)
        found = already(target, choice, candidate)
        return found or pull(choice, candidate, target, progress, licence=request.licence)
