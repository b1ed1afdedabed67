"""The parent's side of making an artifact; see ``maker``."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pitool.checkpoint.source import Source
from pitool.convert.techniques.assemble import Assembled
from pitool.convert.techniques.base import ArtifactFiles
from pitool.process.child import Child
from pitool.report.progress import Progress


@dataclass(frozen=True, slots=True)
class Order:
    """What a child is to make.

    ``calibration``: a JSON file of token windows; ``folder`` is the technique's own, ``shared``
    that of all.
    """

    source: Source
    technique: str
    folder: Path
    shared: Path
    calibration: Path
    threads: int

    def to_json(self) -> dict[str, Any]:
        """Return the order as JSON values."""
        source = self.source
        return {
            "source": {
                "id": source.id,
                "revision": source.revision,
                "folder": str(source.folder),
                "adapters": [str(a.folder) for a in source.adapters],
                "scales": [a.scale for a in source.adapters],
            },
            "technique": self.technique,
            "folder": str(self.folder),
            "shared": str(self.shared),
            "calibration": str(self.calibration),
            "threads": self.threads,
        }


@dataclass(frozen=True, slots=True)
class Outcome:
    """An artifact, the seconds it took and the peak memory in bytes, None where unknown."""

    assembled: Assembled
    seconds: float
    memory: int | None


def make(order: Order, progress: Progress) -> Outcome:
    """Run a technique in a child; what goes wrong there is raised here."""

    def tell(event: dict[str, Any]) -> None:
        if "stage" in event:
            progress.stage(event["stage"], event["total"], bytes_=event["bytes"])
        else:
            progress.advance(event["advance"])

    with Child(
        "pitool.lab.maker",
        name=f"the process that runs {order.technique}",
        advice="run the command again to resume",
        remedies={signal.SIGKILL: "close other programs, or choose a smaller model"},
        environment={"OMP_NUM_THREADS": str(order.threads)},
    ) as child:
        return _outcome(child.call("make", tell, **order.to_json()).value)


def _outcome(found: Mapping[str, Any]) -> Outcome:
    made = ArtifactFiles(found["made"]["format"], Path(found["made"]["entry"]))
    names = ("bytes", "weight_bytes", "parameters", "planned", "kernel", "note")
    assembled = Assembled(made, **{name: found[name] for name in names})
    return Outcome(assembled, found["seconds"], found["memory"])
