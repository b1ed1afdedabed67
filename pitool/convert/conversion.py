"""What a conversion is asked to do, and the state that its artifact makers share.

Owns no step of the way: ``pipeline`` does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pitool.catalog.manifest import Artifact, Source
from pitool.checkpoint.source import Checkpoint
from pitool.convert.effort import EFFORTS, FAST, Effort
from pitool.convert.engines import Engines
from pitool.convert.gguf.importance import NONE
from pitool.convert.plan import ConvertPlan
from pitool.convert.tokens import Tokens
from pitool.convert.verify import Certifier
from pitool.report.progress import Progress


@dataclass(frozen=True, slots=True)
class Job:
    """What a conversion is asked to do: the plan, and where and how to write the bundle.

    ``worst_kl``: mean KL divergence above which the conversion fails; ``calibration``: a file,
    ``self`` or ``none``, see ``gguf.calibrate``; ``effort``: how much time rounding may take.
    """

    plan: ConvertPlan
    target: Path
    replace: bool
    threads: int
    worst_kl: float | None = None
    calibration: str = NONE
    effort: Effort = EFFORTS[FAST]


@dataclass(frozen=True, slots=True)
class Conversion:
    """A conversion in progress, which writes its artifacts into ``folder``.

    ``source``: the checkpoint's files with their hashes; ``tokens``: how the artifacts are
    tokenized; ``texts``: the calibration windows by
    ``Job.calibration``, once they were read or generated.
    """

    checkpoint: Checkpoint
    source: Source
    job: Job
    folder: Path
    engines: Engines
    progress: Progress
    certifier: Certifier
    tokens: Tokens
    texts: dict[str, list[list[int]]] = field(default_factory=dict)

    @property
    def plan(self) -> ConvertPlan:
        """The plan of the job."""
        return self.job.plan

    def file_name(self, name: str) -> str:
        """Return the name of a file or folder in the bundle: the model's, then ``name``."""
        return f"{self.checkpoint.source.id.rpartition('/')[2]}-{name}"


@dataclass(frozen=True, slots=True)
class Maker:
    """Makes the artifacts of one format.

    ``make`` writes and verifies them, and returns their entries in the manifest. ``disk_bytes``
    returns the disk space that a plan's artifacts need, and the space needed in the cache.
    """

    make: Callable[[Conversion], list[Artifact]]
    disk_bytes: Callable[[Checkpoint, ConvertPlan], tuple[int, int]]
