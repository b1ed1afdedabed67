"""Signals at any moment: the program ends within its limits, in one sentence, and leaves nobody."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.conftest import environment

# A program that waits for a stuck worker is a failure, not a day of waiting.
pytestmark = [pytest.mark.engine, pytest.mark.timeout(120)]

INTERRUPTED = "pitool: interrupted."


class Program:
    """pitool with its streams in pipes or, where it wants one, in a terminal."""

    def __init__(
        self,
        *words: object,
        terminal: bool = False,
        prepare: Callable[[], object],
        under: Sequence[str] = (),
    ) -> None:
        self._said: list[bytes] = []
        ours, theirs = pty.openpty() if terminal else (-1, subprocess.PIPE)
        self.process = subprocess.Popen(
            [*under, sys.executable, "-m", "pitool", *map(str, words)],
            stdin=theirs, stdout=theirs if terminal else subprocess.DEVNULL, stderr=theirs,
            env={**environment(), "TERM": "xterm-256color"}, start_new_session=True,
            preexec_fn=prepare,
        )  # fmt: skip
        if terminal:
            os.close(theirs)
            self.input = ours
        else:
            assert self.process.stdin and self.process.stderr
            self.input, ours = self.process.stdin.fileno(), self.process.stderr.fileno()
        self._output = ours
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        try:
            while piece := os.read(self._output, 65536):
                self._said.append(piece)
        except OSError:  # the terminal is gone
            pass

    @property
    def said(self) -> str:
        return b"".join(self._said).decode(errors="replace")

    def wait_for(self, text: str) -> None:
        while text not in self.said:
            assert self.process.poll() is None, self.said
            time.sleep(0.02)

    def worker(self, module: str = "pitool.engine.", of: int = 0) -> int:
        """Return the child that runs ``module``, once it does; ``of``: another's than the program.

        Between fork and exec it still has the name of its parent, and all of its files.
        """
        of = of or self.process.pid
        while not (found := [p for p in _children(of) if module in _command(p)]):
            assert self.process.poll() is None, self.said
            time.sleep(0.02)
        return found[0]

    def end(self) -> int:
        code = self.process.wait()
        self._reader.join()
        return code


def _fields(pid: str) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ["Z", "0"]


def _children(pid: int) -> list[int]:
    pids = (path.name for path in Path("/proc").iterdir() if path.name.isdecimal())
    return [int(each) for each in pids if _fields(each)[1] == str(pid)]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def gone(pid: int) -> bool:
    """Tell whether a process has ended, waited for or not."""
    return _fields(str(pid))[0] == "Z"


@contextmanager
def program(
    *words: object,
    terminal: bool = False,
    prepare: Callable[[], object] = int,
    under: Sequence[str] = (),
) -> Iterator[Program]:
    started = Program(*words, terminal=terminal, prepare=prepare, under=under)
    try:
        yield started
    finally:
        started.process.kill()
        started.end()
        for stream in (started.process.stdin, started.process.stderr):
            if stream is not None:
                stream.close()
        if terminal:
            os.close(started.input)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("command", "number"),
    [
        (("run", "-i", "BUNDLE", "Hi"), signal.SIGTERM),
        (("serve", "BUNDLE", "--port", "0"), signal.SIGINT),
        (("bench", "BUNDLE", "--quant", "F16"), signal.SIGHUP),
    ],
    ids=["run", "serve", "bench"],
)
def test_a_stuck_worker_is_not_waited_for(
    bundle: Path, command: tuple[str, ...], number: signal.Signals
) -> None:
    words = [bundle if word == "BUNDLE" else word for word in command]
    with program(*words) as started:
        worker = started.worker()
        stop(worker)
        started.process.send_signal(number)
        assert started.end() == 130
        assert gone(worker)
        assert "Traceback" not in started.said
        assert started.said.rstrip().rpartition("pitool: ")[1]


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("module", "number"),
    [
        ("pitool.engine.worker_main", signal.SIGINT),
        ("pitool.lab.maker", signal.SIGTERM),
        ("pitool.lab.maker", signal.SIGHUP),
    ],
    ids=["measuring-SIGINT", "making-SIGTERM", "making-SIGHUP"],
)
def test_compare_ends_with_a_stuck_child(
    one_layer: Path, tmp_path: Path, module: str, number: signal.Signals
) -> None:
    text = tmp_path / "text"
    text.write_text("A Raspberry Pi has 4 cores. " * 60)
    with program("compare", one_layer, "--techniques", "q8_0", "--text", text) as started:
        child = started.worker(module)
        os.kill(child, signal.SIGSTOP)
        started.process.send_signal(number)
        assert started.end() == 130
        assert gone(child)
        assert started.said.endswith(f"{INTERRUPTED}\n")
        assert not list((tmp_path / "pitool-cache").rglob(".*.partial"))


def stop(process: int) -> None:
    """Stop a process; returns when it stands still, not only when the signal is on its way."""
    os.kill(process, signal.SIGSTOP)
    while Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        time.sleep(0.01)


def test_a_stuck_worker_does_not_outlive_a_killed_program(bundle: Path) -> None:
    with program("run", "-i", bundle) as started:
        worker = started.worker()
        stop(worker)
        started.process.kill()
        started.end()
        while not gone(worker):
            time.sleep(0.02)


@pytest.mark.thorough
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_chat_ends_with_a_stuck_worker(bundle: Path, number: signal.Signals) -> None:
    with program("chat", bundle, terminal=True) as started:
        worker = started.worker()
        stop(worker)
        started.wait_for("Models")
        started.process.send_signal(number)
        assert started.end() == 130
        assert gone(worker)
        assert "Traceback" not in started.said


@pytest.mark.thorough
def test_a_paste_that_is_no_utf_8_does_not_end_the_chat(bundle: Path) -> None:
    with program("chat", bundle, terminal=True) as started:
        started.wait_for("Models")
        os.write(started.input, b"\x1b[200~caf\xe9 \xed\xa0\xbd au lait\x1b[201~")
        started.wait_for("au lait")
        os.write(started.input, b"\x11")
        assert started.end() == 0
        assert "UnicodeDecodeError" not in started.said


ALONE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
"""Has a program be the first process, as one is in a container without an init: a signal that it
does not handle is not delivered there, and nobody else waits for its children."""


@pytest.fixture(scope="module")
def alone() -> tuple[str, ...]:
    try:
        subprocess.run([*ALONE, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("unshare --pid is missing or not permitted")
    return ALONE


@pytest.mark.thorough
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize(
    ("words", "ready"),
    [
        (("serve", "--port", "0"), "/v1"),
        (("run", "-i", "--max-tokens", "4"), "load"),
        (("bench", "-p", "256", "-n", "256", "-r", "999"), "1/999"),
        (("chat",), "Models"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_the_first_process_ends_and_leaves_nobody(
    bundle: Path, alone: tuple[str, ...], words: tuple[str, ...], ready: str, number: int
) -> None:
    command, *options = words
    terminal = command == "chat"
    with program(command, bundle, *options, terminal=terminal, under=alone) as started:
        if command == "run":
            os.write(started.input, b"Hi\n")
        started.wait_for(ready)
        first = started.worker("pitool")
        worker = started.worker(of=first)
        os.kill(first, number)
        assert started.end() == 130
        assert gone(first) and gone(worker)
        assert "Traceback" not in started.said


def test_the_first_process_outlives_its_worker(bundle: Path, alone: tuple[str, ...]) -> None:
    with program("run", "-i", bundle, "--max-tokens", "4", under=alone) as started:
        os.write(started.input, b"Hi\n")
        started.wait_for("load")
        first = started.worker("pitool")
        worker = started.worker(of=first)
        os.kill(worker, signal.SIGKILL)
        os.write(started.input, b"Hi\n")
        while started.said.count("decode") < 2:
            assert started.process.poll() is None, started.said
            time.sleep(0.02)
        assert not Path(f"/proc/{worker}").exists()  # and was waited for
        os.kill(first, signal.SIGTERM)
        assert started.end() == 130


def test_ctrl_c_while_modules_are_imported_is_one_sentence(tmp_path: Path) -> None:
    # The first import after the entry's own tells when.
    (tmp_path / "click.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nwhile True: pass\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pitool", "list"],
        capture_output=True, text=True, check=False,
        env={**environment(), "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert (done.returncode, done.stderr, done.stdout) == (130, f"{INTERRUPTED}\n", "")


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_a_second_signal_while_the_first_is_reported(number: str) -> None:
    code = f"""
import os, signal
from pitool.cli import main as entry

def again(*_):
    os.kill(os.getpid(), signal.{number})
    raise AssertionError

entry._say = again
entry._command = lambda: os.kill(os.getpid(), signal.SIGTERM)
entry.main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_what_is_ignored_from_the_start_stays_ignored(bundle: Path) -> None:
    """As the background of a shell has it for Ctrl-C, and nohup for a terminal that closes."""

    def ignore() -> None:
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)

    with program("run", "-i", bundle, prepare=ignore) as started:
        started.worker()
        for number in (signal.SIGINT, signal.SIGHUP):
            started.process.send_signal(number)
        os.write(started.input, b"Hi\n")
        started.wait_for("decode")
        started.process.send_signal(signal.SIGTERM)
        assert started.end() == 130
        assert started.said.endswith(f"{INTERRUPTED}\n")
