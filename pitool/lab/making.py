"""The parent's side of making an artifact; see ``maker``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from pitool.checkpoint.source import Source
from pitool.convert.progress import Progress
from pitool.convert.techniques.assemble import Assembled
from pitool.convert.techniques.base import ArtifactFiles
from pitool.engine import wire
from pitool.errors import PitoolError, WorkerDied

END_SECONDS = 5


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
    environment = {**os.environ, "OMP_NUM_THREADS": str(order.threads), "GGML_NO_BACKTRACE": "1"}
    with tempfile.TemporaryFile() as talk:
        process = subprocess.Popen(
            [sys.executable, "-m", "pitool.lab.maker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=talk,
            start_new_session=True,  # Ctrl-C belongs to the parent
            env=environment,
        )
        connection = wire.Wire(cast("BinaryIO", process.stdout), cast("BinaryIO", process.stdin))
        try:
            connection.send(order.to_json())
            found = _listen(connection, progress)
        except BrokenPipeError:
            found = None
        finally:
            _end(process)
            connection.close()
        if found is None:
            raise _died(process.returncode, talk)
    return _outcome(found)


def _listen(connection: wire.Wire, progress: Progress) -> dict[str, Any] | None:
    """Pass progress on until there is a result; None when the child ended without one."""
    while (received := connection.receive()) is not None:
        message, _ = received
        if "stage" in message:
            progress.stage(message["stage"], message["total"], bytes_=message["bytes"])
        elif "advance" in message:
            progress.advance(message["advance"])
        elif "error" in message:
            raise wire.error_from_json(message["error"])
        else:
            result: dict[str, Any] = message["result"]
            return result
    return None


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the child, and let it end what it started."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _died(code: int, talk: Any) -> PitoolError:
    """Return why the child ended, in one sentence: its last line, or its signal."""
    talk.seek(0)
    lines = talk.read().decode(errors="replace").strip().splitlines()
    if code == -signal.SIGKILL:
        return WorkerDied("it was killed, most likely because memory ran out")
    if code < 0:
        return WorkerDied(f"it was ended by signal {-code}")
    return WorkerDied(f"an unforeseen fault: {lines[-1] if lines else f'exit code {code}'}")


def _outcome(found: Mapping[str, Any]) -> Outcome:
    made = ArtifactFiles(found["made"]["format"], Path(found["made"]["entry"]))
    names = ("bytes", "weight_bytes", "parameters", "planned", "kernel", "note")
    assembled = Assembled(made, **{name: found[name] for name in names})
    return Outcome(assembled, found["seconds"], found["memory"])
