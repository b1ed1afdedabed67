"""Whether a process does anything: what tells one that computes for minutes from one that is stuck.

A prompt takes minutes on a small board, so that a long answer is no sign of a fault. CPU time that
passes and pages that are read are signs of life which need nothing of the process itself: not that
it can run a thread of its own while native code computes, and not that it is well.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

# Of the fields of /proc/PID/stat after the name (proc(5)): faults without and with a read, and the
# CPU time in user and kernel mode.
_MOVING = (7, 9, 11, 12)


def signs_of_life(pid: int) -> tuple[str, ...] | None:
    """Return figures that change while a process works; None where nothing is known of it."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return _told_by_ps(pid)
    fields = stat.rpartition(b")")[2].split()
    return tuple(fields[place].decode() for place in _MOVING)


def _told_by_ps(pid: int) -> tuple[str, ...] | None:
    """Return the CPU time of a process where there is no /proc, as on macOS (POSIX, ps)."""
    command = ["ps", "-o", "time=", "-p", str(pid)]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except OSError:
        return None
    return tuple(said.split()) or None
