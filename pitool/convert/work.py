"""What a conversion is told, and what every artifact maker works on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pitool.catalog.manifest import Artifact, Source
from pitool.checkpoint.source import Checkpoint
from pitool.convert.certifier import Certifier
from pitool.convert.gguf.importance import NONE, OpenCalibrator, WriteText
from pitool.convert.plan import ConvertPlan
from pitool.convert.verify import OpenEngine
from pitool.report.progress import Progress


@dataclass(frozen=True, slots=True)
class Job:
    """What a conversion is told: the plan, where the bundle goes, and how.

    ``worst_kl``: the mean KL divergence above which the conversion fails. ``calibration``: a
    file, ``self`` or ``none``; see ``gguf.calibrate``.
    """

    plan: ConvertPlan
    target: Path
    replace: bool
    threads: int
    worst_kl: float | None = None
    calibration: str = NONE


OpenAdapted = Callable[[Sequence[Path]], OpenEngine]
"""Returns what loads GGUFs together with LoRA files."""


@dataclass(frozen=True, slots=True)
class Engines:
    """What a conversion runs models with; it is handed them, since it knows no engine itself."""

    open: OpenEngine
    calibrator: OpenCalibrator
    write_text: WriteText
    adapted: OpenAdapted


@dataclass(frozen=True, slots=True)
class Work:
    """A conversion that has begun: artifacts are written into ``folder``.

    ``source``: the checkpoint's files with their hashes. ``texts``: token windows that were read or
    written to calibrate with, by ``Job.calibration``.
    """

    checkpoint: Checkpoint
    source: Source
    job: Job
    folder: Path
    engines: Engines
    progress: Progress
    certifier: Certifier
    texts: dict[str, list[list[int]]] = field(default_factory=dict)

    @property
    def plan(self) -> ConvertPlan:
        """The plan of the job."""
        return self.job.plan

    def file_name(self, name: str) -> str:
        """Return the name of a file or folder of the bundle, after the model and ``name``."""
        return f"{self.checkpoint.source.id.rpartition('/')[2]}-{name}"


@dataclass(frozen=True, slots=True)
class Maker:
    """What makes the artifacts of one format.

    ``make`` writes and verifies them all, and returns what the manifest says of them.
    ``disk_bytes`` of a plan: those that the artifacts take, and those kept in the cache.
    """

    make: Callable[[Work], list[Artifact]]
    disk_bytes: Callable[[Checkpoint, ConvertPlan], tuple[int, int]]
