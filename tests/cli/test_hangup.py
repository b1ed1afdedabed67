"""A terminal that goes away without a signal ends the program, and its last words are kept."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pitool.cli.hangup import CODE

PROGRAM = """
import sys, threading
from pathlib import Path
from pitool.cli.hangup import end_without
end_without(0, lambda: Path(sys.argv[1]).write_text("kept"))
print("ready", flush=True)
threading.Event().wait()  # as Textual does that cannot write
"""


def test_the_process_ends_and_keeps_what_there_is(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "kept")],
        stdin=theirs,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    os.close(theirs)
    assert program.stdout
    assert program.stdout.readline() == b"ready\n"
    assert program.poll() is None
    os.close(ours)
    assert program.wait(120) == CODE
    assert (tmp_path / "kept").read_text() == "kept"
    program.stdout.close()


@pytest.mark.engine
def test_the_chat_ends_with_its_terminal(private_home: Path) -> None:
    ours, theirs = pty.openpty()
    program = subprocess.Popen(
        [sys.executable, "-m", "pitool", "chat"],
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        env={**os.environ, "TERM": "xterm-256color", "PITOOL_HOME": str(private_home)},
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    deadline = time.monotonic() + 120
    while b"pitool" not in seen and time.monotonic() < deadline:
        seen += os.read(ours, 65536)
    os.close(ours)
    assert program.wait(120) == CODE
