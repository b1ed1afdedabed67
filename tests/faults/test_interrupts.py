"""Ctrl-C anywhere: one sentence and one exit code, and nobody stays behind.

The moment is drawn, so that it may lie in the start of a thread, in an import or in a library.
``--long``: 400 interrupts.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pitool.errors import Interrupted
from tests.faults.commands import COMMANDS
from tests.faults.programs import PATIENCE, ROOT, draws, environment, prepared, wait_until_alone

# The others are written in a terminal, or are no program of their own.
NAMES = [n for n, c in COMMANDS.items() if not c.typed and n != "install"]
SHORT, LONG = 2, int(os.environ.get("PITOOL_INTERRUPTS") or 400) // len(NAMES) + 1
EARLIEST = 0.02
"""Seconds from where signals are heeded."""


def wait_until_heeded(process: subprocess.Popen[bytes]) -> None:
    """Wait until a program minds SIGTERM, which Python by itself leaves alone."""
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        caught = re.search(r"^SigCgt:\s*(\w+)", status.read_text(), re.MULTILINE)
        if caught and int(caught[1], 16) >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.005)


@pytest.mark.thorough
@pytest.mark.engine
@pytest.mark.timeout(7200)  # of the long round
@pytest.mark.parametrize("name", NAMES)
def test_interrupts(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    command = prepared(name, tmp_path)
    long = request.config.getoption("--long")
    draw = draws(name, long=long)
    seconds, met = 2.0, 0
    for _ in range(LONG if long else SHORT):
        process = subprocess.Popen(
            [sys.executable, "-m", *command.words(tmp_path)], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=ROOT, start_new_session=True,
            env=environment(tmp_path),
        )  # fmt: skip
        wait_until_heeded(process)
        begun = time.monotonic()
        moment = draw.uniform(EARLIEST, seconds)
        try:
            _, err = process.communicate(timeout=moment)
            seconds = time.monotonic() - begun
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=PATIENCE)
        said = err.decode()
        assert "Traceback" not in said, (moment, said)
        # The last one: all was said, and Python was about to end.
        codes = (0, Interrupted.exit_code, -signal.SIGINT)
        assert process.returncode in codes, (moment, said)
        if process.returncode == Interrupted.exit_code:
            met += 1
            assert said.splitlines()[-1].startswith("pitool: "), (moment, said)
        wait_until_alone(tmp_path)
        command.check(tmp_path)
    print(f"{name}: {met} interrupts in runs of {seconds:.1f} s")
    assert met > 0 or not long
