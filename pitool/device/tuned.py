"""Settings that were measured to be the fastest for an artifact on this machine.

One JSON file in pitool's home; ``pitool tune`` writes it, whoever loads a model reads it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pitool.catalog import tables
from pitool.catalog.bundles import Runnable, home
from pitool.catalog.files import write_atomically
from pitool.device.detect import Machine
from pitool.engine.base import Settings
from pitool.errors import BadInput

FILE_NAME = "tuned.json"
# What tuning may change; the context and the rows of logits belong to the task.
TUNABLE = (
    "decode_threads",
    "prefill_threads",
    "batch",
    "micro_batch",
    "kv_type",
    "value_type",
    "load_mode",
    "repack",
    "flash_attention",
)


@dataclass(frozen=True, slots=True)
class Tuned:
    """What won: ``changes`` to the settings, when, and how many times faster it made each phase."""

    changes: dict[str, Any]
    date: str
    prefill_gain: float
    decode_gain: float

    def apply(self, settings: Settings) -> Settings:
        """Return ``settings`` with the changes."""
        return replace(settings, **self.changes)

    @property
    def words(self) -> str:
        """What is used, for people."""
        values = ", ".join(f"{name.replace('_', ' ')} {v}" for name, v in self.changes.items())
        return f"settings tuned on {self.date}: {values or 'the defaults'}"


def key(runnable: Runnable, machine: Machine) -> str:
    """Return what a result holds for: the machine, and the artifact by its hash or its file."""
    artifact = runnable.artifact
    model = artifact.files[0].sha256 if artifact else f"{runnable.entry.name}:{runnable.bytes}"
    board = machine.board_id or machine.board_name
    return f"{board}/{machine.cores}/{','.join(machine.features)}/{model}"


def find(runnable: Runnable, machine: Machine, path: Path | None = None) -> Tuned | None:
    """Return what was kept for an artifact on a machine; None also when it cannot be read."""
    try:
        return _read(path or _path()).get(key(runnable, machine))
    except BadInput:
        return None  # a model still runs with a broken file of hints; tune says what is wrong


def keep(tuned: Tuned, runnable: Runnable, machine: Machine, path: Path | None = None) -> None:
    """Keep a result in the place of an earlier one; BadInput when the file is not ours."""
    path = path or _path()
    known = {**_read(path), key(runnable, machine): tuned}
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({name: asdict(entry) for name, entry in known.items()}, indent=2)
    write_atomically(path, f"{text}\n".encode())


def changes(before: Settings, after: Settings) -> dict[str, Any]:
    """Return the tunable settings in which two differ, as ``after`` has them."""
    return {n: getattr(after, n) for n in TUNABLE if getattr(after, n) != getattr(before, n)}


def _path() -> Path:
    return home() / FILE_NAME


def _read(path: Path) -> dict[str, Tuned]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        entries = {name: tables.build(Tuned, entry, name) for name, entry in data.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError) as error:
        raise BadInput(f"cannot read {path} ({error})", "delete it and tune again") from None
    if any(not set(entry.changes) <= set(TUNABLE) for entry in entries.values()):
        raise BadInput(
            f"{path} was written by another version of pitool", "delete it and tune again"
        )
    return entries
