"""A process with little memory and little time, in which damaged files are read.

What ends it is part of the answer: a reader that takes a gigabyte or five seconds of the processor
is a fault like any exception that is not pitool's own.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pitool.errors import PitoolError

ROOM_BYTES = 1 << 30
CPU_SECONDS = 5
WAIT_SECONDS = 120


def serve(connection: Connection, place: Path, home: Path) -> None:
    """Prepare each reader's folder and read what is sent until the other side hangs up."""
    os.environ["PITOOL_HOME"] = str(home)
    from tests.fuzz.readers import BROKEN, READERS

    _limit()
    while True:
        try:
            name, data = connection.recv()
        except EOFError:
            return
        reader, folder = (READERS | BROKEN)[name], place / name
        for suffix in ("", "-wal", "-shm", "-journal"):
            (folder / f"{reader.victim}{suffix}").unlink(missing_ok=True)
        (folder / reader.victim).write_bytes(data)
        signal.setitimer(signal.ITIMER_VIRTUAL, CPU_SECONDS)  # its default is to end the process
        connection.send(_outcome(reader.call, folder, home))
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def _outcome(call: Any, folder: Path, home: Path) -> str:
    """Return nothing for a value, the sentence of an error, or the traceback of a fault."""
    os.environ["PITOOL_HOME"] = str(home)
    try:
        call(folder)
    except PitoolError as error:
        return f"refused {error.exit_code}: {error.statement}"
    except BaseException:
        return f"fault: {traceback.format_exc(limit=-8)}"
    return "read"


def _limit() -> None:
    with Path("/proc/self/statm").open() as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + ROOM_BYTES, now + ROOM_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class Confined:
    """Reads cases in the process, which is started again after each end."""

    def __init__(self, place: Path) -> None:
        self._place, self._home = place, place / "home"
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, self._place, self._home))
        self._process.start()
        theirs.close()

    def read(self, name: str, data: bytes) -> str:
        """Return what came of a case: ``read``, ``refused ...``, or a fault."""
        self._connection.send((name, data))
        try:
            if self._connection.poll(WAIT_SECONDS):
                return str(self._connection.recv())
            why = "it takes for ever"
        except (EOFError, ConnectionError):
            self._process.join(WAIT_SECONDS)
            why = f"the process ended with {self._process.exitcode}"
        self.close()
        self._start()
        return f"fault: {why}"

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.kill()
        self._process.join()
