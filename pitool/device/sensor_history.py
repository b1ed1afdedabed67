"""The board over time: samples of its sensors, a CSV file of them, the doctor's findings.

Everything here blocks for as long as small files and a short process take, so it is called from
threads.
"""

from __future__ import annotations

import io
import os
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from pitool.catalog.outputs import open_new
from pitool.device.monitor import CSV_HEAD, Sample, csv_line
from pitool.errors import PitoolError, UsageError, cannot_write

if TYPE_CHECKING:
    from pitool.device.doctor.finding import Finding

KEPT = 1000
"""Samples that are kept: more than an hour at one in five seconds."""


@dataclass(frozen=True, slots=True)
class TimedSample:
    """A sample and the tokens/s of decode at that moment, 0 while nothing is decoded."""

    sample: Sample
    rate: float


class CsvLog:
    """A CSV file that grows by a line a sample, in the words of ``pitool monitor --csv``."""

    def __init__(self, path: Path) -> None:
        try:
            self._file: IO[str] = io.TextIOWrapper(
                open_new(path), encoding="utf-8", line_buffering=True
            )
        except FileExistsError:
            raise UsageError(f"{path} already exists", "choose another file") from None
        except (OSError, ValueError) as error:
            raise cannot_write(path, error) from None
        self.path, self.lines = path, 0
        self._write(CSV_HEAD)

    def add(self, sample: Sample) -> None:
        """Write a line; PitoolError when the disk refuses."""
        self._write(csv_line(sample))
        self.lines += 1

    def _write(self, line: str) -> None:
        try:
            self._file.write(f"{line}\n")
        except OSError as error:
            raise cannot_write(self.path, error, "start a new log elsewhere") from None

    def close(self) -> None:
        """Have it on the disk."""
        try:
            with self._file as file:
                os.fsync(file.fileno())
        except OSError:
            return  # a full disk was told of by the line that it refused


class SensorHistory:
    """Takes samples and keeps them; ``watched`` while somebody looks at them."""

    def __init__(self, look: Callable[[], Sample], examine: Callable[[], list[Finding]]) -> None:
        self._look, self._examine = look, examine
        self._lock = threading.Lock()
        self._trouble: PitoolError | None = None
        self.points: deque[TimedSample] = deque(maxlen=KEPT)
        self.findings: list[Finding] | None = None
        self.watched = False
        self.log: CsvLog | None = None

    def take(self, rate: float = 0.0) -> Sample:
        """Look, keep and log; a look that is no later than the last one counts once."""
        with self._lock:
            sample = self._look()
            if not self.points or sample.time > self.points[-1].sample.time:
                self.points.append(TimedSample(sample, rate))
                self._note(sample)
            return sample

    def _note(self, sample: Sample) -> None:
        if self.log is None:
            return
        try:
            self.log.add(sample)
        except PitoolError as error:
            self._trouble = error
            self.log.close()
            self.log = None

    def pop_trouble(self) -> PitoolError | None:
        """Return what ended the log, once."""
        trouble, self._trouble = self._trouble, None
        return trouble

    def start_log(self, path: Path) -> None:
        """Write every sample from now on to a new file."""
        log = CsvLog(path)
        with self._lock:
            self.log = log

    def stop_log(self) -> CsvLog | None:
        """End the log and return it, None where none runs."""
        with self._lock:
            log, self.log = self.log, None
        if log is not None:
            log.close()
        return log

    def examine(self) -> None:
        """Have the doctor look; takes seconds."""
        self.findings = self._examine()
