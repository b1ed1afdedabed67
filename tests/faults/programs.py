"""Commands as programs of their own: their environment, their end, and the moments of it."""

from __future__ import annotations

import os
import random
import time
from contextlib import suppress
from pathlib import Path

from tests.faults.commands import COMMANDS, Command, home, temporary

ROOT = Path(__file__).parents[2]
PATIENCE = 60
"""Seconds after which a program does not end any more."""


def prepared(name: str, folder: Path) -> Command:
    """Make what a command needs in a folder, and return it."""
    command = COMMANDS[name]
    temporary(folder).mkdir()
    command.prepare(folder)
    return command


def draws(name: str, *, long: bool) -> random.Random:
    """Return what moments are drawn by: always the same in a short round, never in a long one."""
    return random.Random(time.time_ns() if long else name)


def environment(folder: Path) -> dict[str, str]:
    return {
        **os.environ, "PITOOL_HOME": str(home(folder)), "PITOOL_CACHE": str(folder / "cache"),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "HOME": str(folder), "TMPDIR": str(temporary(folder)),
        "PYTHONDONTWRITEBYTECODE": "1", "TERM": "xterm-256color",
        "OMP_WAIT_POLICY": "passive",
    }  # fmt: skip


def orphans(folder: Path) -> list[str]:
    """Return the command lines of processes that belong to a folder's commands."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"PITOOL_HOME={home(folder)}\0".encode() in (path / "environ").read_bytes():
                found.append((path / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


def wait_until_alone(folder: Path) -> None:
    end = time.monotonic() + PATIENCE
    while found := orphans(folder):
        assert time.monotonic() < end, found
        time.sleep(0.05)
