"""Boards of a cluster on this machine: ``pitool cluster serve`` in processes of their own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
READY = "serving"


@dataclass
class ServedBoard:
    """A board that serves; ``log``: what it said so far."""

    port: int
    process: subprocess.Popen[str]
    home: Path

    @property
    def host(self) -> str:
        """As ``pitool cluster add`` takes it."""
        return f"127.0.0.1:{self.port}"

    @property
    def server(self) -> int:
        """The process of llama.cpp's server."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return int(children.split()[-1])

    def die(self) -> None:
        """End all of it at once, as a power cut does."""
        server = self.server
        self.process.kill()
        os.kill(server, signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            if stream:
                stream.close()


def free_port() -> int:
    """Return a port that is free, as the one above it."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            return int(port)


def serve(home: Path, environment: dict[str, str], *words: str) -> ServedBoard:
    """Start a board with a home and a cache of its own; returns when it serves."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "pitool", "cluster", "serve", "--host", "127.0.0.1",
         "--port", str(port), "--threads", "1", *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        env={**os.environ, **environment, "PITOOL_HOME": str(home / "home"),
             "PITOOL_CACHE": str(home / "cache"), "OMP_WAIT_POLICY": "passive"},
    )  # fmt: skip
    assert process.stderr
    said = []
    for line in process.stderr:
        said.append(line)
        if line.startswith(READY):
            return ServedBoard(port, process, home)
    raise AssertionError("".join(said))
