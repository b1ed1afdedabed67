"""kill -9 anywhere: what is there is whole, nothing stays behind, and the next run works.

Half of the kills come before a change of a file that is drawn, the others at a moment that is
drawn, which may lie in the middle of a write or of an answer. ``--long``: 200 kills.
"""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.faults.commands import COMMANDS, Command, left
from tests.faults.programs import PATIENCE, ROOT, draws, environment, prepared, wait_until_alone

SHORT, LONG = 2, int(os.environ.get("PITOOL_KILLS") or 200) // len(COMMANDS) + 1
# What a short round supposes of every command: changes of files, and seconds.
CHANGES, SECONDS = 12, 3.0
CHAT_SECONDS = 8.0


@contextmanager
def started(command: Command, folder: Path, last: int) -> Iterator[subprocess.Popen[bytes]]:
    """Start a command that dies before its change number ``last``, 0 for no such end."""
    order = [sys.executable, "-m", "tests.faults.dying", str(folder), str(last)]
    order += command.words(folder)
    ours, theirs = pty.openpty() if command.typed else (None, subprocess.DEVNULL)
    with (folder / "output").open("wb") as output:
        said = theirs if command.typed else output
        process = subprocess.Popen(
            order, stdin=theirs, stdout=said, stderr=said, cwd=ROOT, env=environment(folder),
            start_new_session=True,
        )  # fmt: skip
    typist = threading.Thread(target=_type, args=(ours, command.typed, process), daemon=True)
    if ours is not None:
        os.close(theirs)
        typist.start()
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if ours is not None:
            typist.join()
            os.close(ours)


def _type(terminal: int, text: bytes, process: subprocess.Popen[bytes]) -> None:
    """Write into a terminal twice a second, and take what is drawn there."""
    reader = threading.Thread(target=_drain, args=(terminal,), daemon=True)
    reader.start()
    while process.poll() is None:
        with suppress(OSError):
            os.write(terminal, text)
        time.sleep(0.5)
    reader.join()


def _drain(terminal: int) -> None:
    with suppress(OSError):  # the end of the other side
        while os.read(terminal, 1 << 16):
            pass


def finish(command: Command, folder: Path) -> None:
    """Run a command to its end; it works, and leaves nothing unfinished."""
    with started(command, folder, 0) as process:
        if command.typed:
            with suppress(subprocess.TimeoutExpired):
                process.wait(CHAT_SECONDS)
            assert process.poll() is None, "the chat ended by itself"
            os.kill(process.pid, signal.SIGTERM)
            process.wait(PATIENCE)
        else:
            code = process.wait(PATIENCE * 2)
            assert code == 0, (folder / "output").read_text()
    wait_until_alone(folder)
    command.check(folder)
    assert not (found := left(folder)), found


@pytest.mark.thorough
@pytest.mark.engine
@pytest.mark.timeout(7200)  # of the long round
@pytest.mark.parametrize("name", COMMANDS)
def test_kills(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    command = prepared(name, tmp_path)
    long = request.config.getoption("--long")
    changes, seconds = CHANGES, SECONDS
    if long:
        begun = time.monotonic()
        finish(command, tmp_path)
        seconds = time.monotonic() - begun
        changes = 0 if command.typed else int((tmp_path / "changes").read_text())
    draw = draws(name, long=long)
    killed = 0
    for number in range(LONG if long else SHORT):
        last = draw.randint(1, changes) if changes and number % 2 == 0 else 0
        with started(command, tmp_path, last) as process:
            with suppress(subprocess.TimeoutExpired):
                moment = draw.uniform(0.1, 1.0) * seconds
                process.wait(PATIENCE * 2 if last and not command.typed else moment)
            killed += process.poll() in (None, -signal.SIGKILL)
        wait_until_alone(tmp_path)
        command.check(tmp_path)
    finish(command, tmp_path)
    print(f"{name}: {killed} kills, {changes} changes of files in a whole run")
    assert killed > 0 or not long


def test_the_changes_of_a_program_are_counted(tmp_path: Path) -> None:
    """The harness itself: a program of three changes is killed before its second."""
    (tmp_path / "three.py").write_text(
        f"from pathlib import Path\nfor n in 'abc': Path({str(tmp_path)!r}, n).write_text(n)\n"
    )
    order = [sys.executable, "-m", "tests.faults.dying", str(tmp_path)]
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    for last, code, names in (("2", -signal.SIGKILL, "a"), ("0", 0, "abc")):
        done = subprocess.run(
            [*order, last, "three"], env={**os.environ, "PYTHONPATH": path}, check=False, cwd=ROOT
        )
        assert done.returncode == code
        assert "".join(sorted(p.name for p in tmp_path.glob("?"))) == names
    assert (tmp_path / "changes").read_text() == "3"
