"""A program in a terminal of its own: keys in, what it writes out, the CPU and memory it takes."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

COLUMNS, LINES = 80, 24
OVERLAP = 4000
"""Characters that are looked at again, for a text may come in two parts."""
_ESCAPE = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_].*?(?:\x1b\\|\x07)|[ -/]*[0-~])", re.DOTALL
)


class Terminal:
    """Runs a command in a pseudo-terminal of 80x24 until it is left."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> None:
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        names = {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
        # An installed program is compiled once, whatever the shell of a developer says.
        inherited = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        self._master = master
        self._changed = threading.Condition()
        self._written = ""
        self.started = time.perf_counter()
        self._process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env={**inherited, **names, **(environment or {})},
        )
        os.close(slave)
        self.pid = self._process.pid
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            self.send("\x11")  # Ctrl+Q
            self._process.wait(10)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        os.close(self._master)

    def runs(self) -> bool:
        """Tell whether the program has not ended yet."""
        return self._process.poll() is None

    def _read(self) -> None:
        with suppress(OSError):  # the other side is closed
            while data := os.read(self._master, 65536):
                with self._changed:
                    self._written += data.decode(errors="replace")
                    self._changed.notify_all()

    def send(self, keys: str) -> None:
        """Type; everything that was written before is forgotten."""
        with self._changed:
            self._written = ""
        with suppress(OSError):
            os.write(self._master, keys.encode())

    def wait_for(self, text: str, seconds: float = 60, every: float = 0.0) -> float:
        """Return the seconds from the start until a text was written; SystemExit without it.

        ``every``: seconds to sleep between looks, where looking would disturb what is measured.
        """
        end, seen = time.monotonic() + seconds, 0
        while True:
            with self._changed:
                if len(self._written) == seen and not every:
                    self._changed.wait(max(end - time.monotonic(), 0))
                new, seen = self._written[max(seen - OVERLAP, 0) :], len(self._written)
            if text in _ESCAPE.sub("", new):
                return time.perf_counter() - self.started
            if time.monotonic() > end:
                raise SystemExit(f"{text!r} never came:\n{_ESCAPE.sub('', new)}")
            time.sleep(every)

    def cpu_seconds(self) -> float:
        """Return the CPU time of the program and of the processes it has started."""
        return sum(map(cpu_seconds, [self.pid, *_children(self.pid)]))

    def wakeups(self) -> int:
        """Return how often the threads of the program itself have gone to sleep so far."""
        tasks = Path(f"/proc/{self.pid}/task").glob("*/status")
        lines = (line for path in tasks for line in path.read_text(encoding="utf-8").splitlines())
        return sum(int(line.split()[1]) for line in lines if line.startswith("voluntary"))


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")  # each thread knows what it started
    return [int(word) for path in tasks for word in path.read_text(encoding="ascii").split()]


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of one process."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
