"""Ports of a host's loopback interface, brought here through OpenSSH.

A tunnel stays for as long as this program; one that broke is opened anew when it is asked for.
"""

from __future__ import annotations

import atexit
import socket
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from pitool.remote.ssh import Host

READY = "ready"


@dataclass(frozen=True, slots=True)
class Tunnel:
    """``ports``: here, one for each that was asked for."""

    ports: tuple[int, ...]
    process: subprocess.Popen[str]

    @property
    def alive(self) -> bool:
        """Whether ssh still runs."""
        return self.process.poll() is None


_open: dict[tuple[str, tuple[int, ...]], Tunnel] = {}
_lock = threading.Lock()


def open_tunnel(host: Host, ports: Sequence[int]) -> Tunnel:
    """Return a tunnel to ports of a host; PitoolError says why ssh does not get there."""
    key = host.name, tuple(ports)
    with _lock:
        known = _open.get(key)
        if known is not None and not known.alive:
            _end(known.process)
            del _open[key]
            known = None
        if known is None:
            known = _open[key] = _start(host, ports)
        return known


@atexit.register
def close_all() -> None:
    """End every tunnel."""
    for tunnel in _open.values():
        tunnel.process.kill()
        _end(tunnel.process)
    _open.clear()


def _end(process: subprocess.Popen[str]) -> None:
    """Wait for a process that is ending, and close its pipes."""
    with process:
        pass


def _start(host: Host, ports: Sequence[int]) -> Tunnel:
    here = _free_ports(len(ports))
    forwards = [f"127.0.0.1:{mine}:127.0.0.1:{its}" for mine, its in zip(here, ports, strict=True)]
    # The command begins when the ports are forwarded, and ends with the pipe of its input.
    process = subprocess.Popen(
        host.forwarding(forwards, f"echo {READY}; exec cat >/dev/null"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,  # Ctrl-C is for this process
    )
    assert process.stdout and process.stderr
    if process.stdout.readline().strip() != READY:
        _, said = process.communicate()
        raise host.failure(process.returncode, said)
    threading.Thread(target=process.stderr.read, daemon=True).start()  # or it would fill its pipe
    return Tunnel(tuple(here), process)


def _free_ports(count: int) -> list[int]:
    """Return ports that are free now; ssh refuses where one is taken meanwhile."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()
