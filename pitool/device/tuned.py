"""Settings that were measured to be the fastest for an artifact on this machine.

One JSON file in pitool's home; ``pitool tune`` writes it, whoever loads a model reads it.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

from pitool.catalog import reading, tables
from pitool.catalog.bundles import Runnable, home
from pitool.catalog.files import path_kind, write_atomically
from pitool.catalog.kv_types import KV_TYPES
from pitool.device.detect import Machine
from pitool.engine.base import POLLING, FlashAttention, LoadMode, Priority, Settings
from pitool.errors import BadInput

FILE_NAME = "tuned.json"
# More than any board has, and fewer than a runtime refuses.
_THREADS = range(1, 257)
_TOKENS = range(1, (1 << 16) + 1)
# Times its tokens that a pass may cost: more is no measurement.
MOST_EXTRA = 10
# What tuning may change, and to what; the context and the rows of logits belong to the task.
TUNABLE: dict[str, Collection[object]] = {
    "decode_threads": _THREADS,
    "prefill_threads": _THREADS,
    "batch": _TOKENS,
    "micro_batch": _TOKENS,
    "kv_type": KV_TYPES,
    "value_type": (None, *KV_TYPES),
    "load_mode": get_args(LoadMode),
    "repack": (False, True),
    "flash_attention": get_args(FlashAttention),
    "polling": POLLING,
    "pinned": (False, True),
    "priority": get_args(Priority),
}
_SWITCHES = ("repack", "pinned")
_ANEW = "delete it and tune again"


@dataclass(frozen=True, slots=True)
class PassCost:
    """What a pass of ``tokens`` costs, as a multiple of one of one token."""

    tokens: int
    cost: float

    def __post_init__(self) -> None:
        if self.tokens not in _TOKENS or not 0 < self.cost <= self.tokens * MOST_EXTRA:
            raise ValueError(f"a pass of {self.tokens} tokens costs {self.cost!r:.40}")


@dataclass(frozen=True, slots=True)
class Tuned:
    """What won: ``changes`` to the settings, when, and how many times faster it made each phase.

    ``costs``: what a pass of so many tokens costs with them, 1 for one token.
    """

    changes: dict[str, Any]
    date: str
    prefill_gain: float
    decode_gain: float
    costs: tuple[PassCost, ...] = ()

    def __post_init__(self) -> None:
        for name, value in self.changes.items():
            allowed = TUNABLE.get(name, ())
            if isinstance(value, bool) != (name in _SWITCHES) or value not in allowed:
                raise ValueError(f"{name} is {value!r:.40}")

    def apply(self, settings: Settings) -> Settings:
        """Return ``settings`` with the changes."""
        curve = tuple((each.tokens, each.cost) for each in self.costs)
        return replace(settings, **self.changes, costs=curve or settings.costs)

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
        return None  # a model still runs with a broken file of hints


def words(runnable: Runnable, machine: Machine, path: Path | None = None) -> str:
    """Return what is used for an artifact, or why no hint can be; empty where there is none."""
    try:
        known = _read(path or _path()).get(key(runnable, machine))
    except BadInput as error:
        return f"tuned settings are ignored: {error.sentence}"
    return known.words if known else ""


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
    if path_kind(path) is None:
        return {}
    data = reading.read_object(path, _ANEW)
    try:
        return {name: tables.build(Tuned, entry, name) for name, entry in data.items()}
    except BadInput as error:
        raise BadInput(f"cannot read {path} ({error.what})", _ANEW) from None
