"""A program that is followed line by line, and ended with what it started."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from pitool.process.program import follow


def test_lines_of_both_streams_and_the_code() -> None:
    lines: list[str] = []
    script = "echo one; echo two >&2; echo $EXTRA; exit 3"
    assert follow(["sh", "-c", script], lines.append, environment={"EXTRA": "three"}) == 3
    assert lines == ["one\n", "two\n", "three\n"]


@pytest.mark.timeout(120)
def test_leaving_early_ends_it_and_its_children() -> None:
    said: list[str] = []

    def stop(line: str) -> None:
        said.append(line)
        raise KeyboardInterrupt

    # The shell's child, which holds the pipe open, is another process.
    with pytest.raises(KeyboardInterrupt):
        follow(["sh", "-c", "sleep 3600 & echo $!; wait"], stop)
    child = int(said[0])
    while Path(f"/proc/{child}/stat").exists() and not _is_zombie(child):
        time.sleep(0.01)


@pytest.mark.timeout(120)
def test_one_that_takes_no_sigterm_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pitool.process.program.END_SECONDS", 0.1)
    code = (
        "import os, signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print(os.getpid(), flush=True)\ntime.sleep(3600)\n"
    )
    said: list[str] = []

    def stop(line: str) -> None:
        said.append(line)
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        follow([sys.executable, "-c", code], stop)
    with pytest.raises(ProcessLookupError):
        os.kill(int(said[0]), 0)


def _is_zombie(pid: int) -> bool:
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
