"""What an artifact needs here beside what there is, and how fast it should be here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pitool.device import detect, files, memory, probe, residuals
from pitool.spec.manifest import Artifact, Speed

TIGHT = 0.85
"""Share of the available memory from which on an artifact is tight: it is not said to fit."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Bytes that are needed and available now, None where unknown; ``speed`` predicted here."""

    needed: int | None
    available: int | None
    speed: Speed | None

    @property
    def share(self) -> float | None:
        """Needed of available memory."""
        if self.needed is None or not self.available:
            return None
        return self.needed / self.available

    @property
    def words(self) -> str:
        """Whether it fits, in a few words; tight is not called fitting."""
        share = self.share
        if share is None:
            return "unknown"
        if share > 1:
            return "does not fit now"
        return "tight" if share > TIGHT else "fits"


class Judge:
    """Knows this machine; memory is looked at anew each time."""

    def __init__(self, root: Path = files.HOST) -> None:
        self._root = root
        machine = detect.detect(root)
        self._board = machine.board_id
        self._correction = residuals.correction(probe.key(machine))

    def __call__(self, artifact: Artifact) -> Verdict:
        """Return the verdict on an artifact, by its manifest alone."""
        needed = sum(line.bytes for line in artifact.memory) or None
        return Verdict(needed, memory.available(self._root), self._speed(artifact))

    def _speed(self, artifact: Artifact) -> Speed | None:
        """Return the manifest's prediction for this board, corrected by what was measured here."""
        for speed in artifact.speed:
            if speed.board == self._board:
                found = self._correction
                return Speed(
                    speed.board, speed.prefill * found.prefill, speed.decode * found.decode
                )
        return None
