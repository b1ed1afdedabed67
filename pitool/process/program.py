"""Runs another program and hands on what it writes, line by line; it never outlives the call."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

END_SECONDS = 5.0


def follow(
    command: Sequence[str],
    on_line: Callable[[str], object],
    *,
    environment: Mapping[str, str] | None = None,
) -> int:
    """Return the exit code of a program; each line of its stdout and stderr goes to ``on_line``.

    What it started ends with it when this is left early, as by Ctrl-C. ``environment`` is added to
    this process's own.
    """
    process = subprocess.Popen(
        command,
        env={**os.environ, **(environment or {})},
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # Ctrl-C belongs to this process
    )
    assert process.stdout
    try:
        for line in process.stdout:
            on_line(line)
        return process.wait()
    finally:
        _end(process)
        process.stdout.close()


def _end(process: subprocess.Popen[str]) -> None:
    """End the program and its own children, unless it has ended by itself."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(END_SECONDS)
