"""What an artifact needs here beside what there is, and how fast it should be here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pitool.catalog.manifest import Artifact, Speed
from pitool.device import detect, files, memory
from pitool.device.here import corrections, margin
from pitool.planning.places import Verdict, verdict_on
from pitool.planning.speed import NONE

# In words, where memory is what is free at this moment.
WORDS = {Verdict.FITS: "fits", Verdict.TIGHT: "tight", Verdict.NO: "does not fit now"}


@dataclass(frozen=True, slots=True)
class Forecast:
    """Bytes that are needed and available now, None where unknown; ``speed`` predicted here.

    ``margin``: bytes of the available that should stay free; ``where`` that is.
    """

    needed: int | None
    available: int | None
    speed: Speed | None
    margin: int = 0
    where: str = "here"

    @property
    def share(self) -> float | None:
        """Needed of available memory."""
        if self.needed is None or not self.available:
            return None
        return self.needed / self.available

    @property
    def verdict(self) -> Verdict | None:
        """The plan's verdict on it; None where a figure is unknown."""
        if self.needed is None or not self.available:
            return None
        return verdict_on(self.needed, self.available, self.margin)

    @property
    def words(self) -> str:
        """Whether it fits, in a few words; tight is not called fitting."""
        return WORDS[self.verdict] if self.verdict else "unknown"


class Judge:
    """Knows this machine; memory is looked at anew each time."""

    def __init__(self, root: Path = files.HOST) -> None:
        self._root = root
        machine = detect.detect(root)
        self._board = machine.board_id
        self._margin = margin(machine)
        self._corrections = corrections(machine)

    def __call__(self, artifact: Artifact) -> Forecast:
        """Return the verdict on an artifact, by its manifest alone."""
        needed = sum(line.bytes for line in artifact.memory) or None
        available = memory.available(self._root)
        return Forecast(needed, available, self._speed(artifact), self._margin)

    def _speed(self, artifact: Artifact) -> Speed | None:
        """Return the manifest's prediction for this board, corrected by what was measured here."""
        for speed in artifact.speed:
            if speed.board == self._board:
                found = self._corrections.get(artifact.format, NONE)
                return Speed(
                    speed.board, speed.prefill * found.prefill, speed.decode * found.decode
                )
        return None
