"""OpenSSH underneath: scripts, files and running commands on one host.

Keys, agents, jump hosts and ``~/.ssh/config`` work as in the shell; nothing here asks for a
password or stores one.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv6Address
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from pitool.errors import DoesNotFit, MissingPart, PitoolError, UsageError

# A host that does not answer for a minute is lost.
OPTIONS = (
    "BatchMode=yes",
    "ConnectTimeout=15",
    "ServerAliveInterval=15",
    "ServerAliveCountMax=4",
)
RSYNC = "rsync"
NAME = re.compile(
    r"""(?:[^\s@:/-][^\s@:/]*@)?  # the user
    (?:\[(?P<inside>[^\s\[\]@/]+)\](?::(?P<after>\d{1,5}))?
    |(?P<ipv6>[^\s\[\]@:/]*:[^\s\[\]@/]*:[^\s\[\]@/]*)
    |(?P<host>[^\s\[\]@:/-][^\s\[\]@:/]*)(?::(?P<port>\d{1,5}))?)""",
    re.VERBOSE,
)
WATCH = 'while sleep 1; do stat -c %s "$HOME/{target}" 2>/dev/null || echo 0; done'
LOST = 255  # what ssh ends with when the connection is the trouble
# ssh's messages when a connection fails: what happened, and what to do (with the host's name).
LOOK = "check that the board is powered on and connected to this network"
REFUSALS = {
    "HOST IDENTIFICATION HAS CHANGED": (
        "the host key has changed",
        "if you flashed a new card, remove the old key: {forget}, then connect once: ssh {name}",
    ),
    "Host key verification failed": (
        "the host key is unknown",
        "make sure that it is your board, then connect once: ssh {name}",
    ),
    "Permission denied": ("permission denied", "copy your key to it: ssh-copy-id {name}"),
    "Could not resolve hostname": ("unknown host", f"{LOOK}, or use its IP address"),
    "Connection refused": (
        "connection refused",
        "enable SSH on it: sudo raspi-config nonint do_ssh 0, or in Raspberry Pi Imager",
    ),
    "Connection timed out": ("connection timed out", LOOK),
    "No route to host": ("no route to host", LOOK),
}
# What ssh advises after a changed host key; right for aliases and ports as well.
FORGET = re.compile(r"ssh-keygen -f .* -R .*\S")


class RemoteCommand:
    """A command that runs on a host: what it writes, line by line, and its end."""

    def __init__(self, words: list[str]) -> None:
        self._process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C is for this process, which says when it ends
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._output, self._talk = self._process.stdout, self._process.stderr

    def run(self, output: Callable[[str], object], talk: Callable[[str], object]) -> int:
        """Hand on each line of stdout and, from another thread, of stderr; return the exit code.

        255 is ssh's own, below 0 is a signal that ended ssh here.
        """
        listener = threading.Thread(target=_hand_on, args=(self._talk, talk), daemon=True)
        listener.start()
        try:
            _hand_on(self._output, output)
            return self._process.wait()
        finally:
            self.end()
            listener.join()
            for stream in (self._output, self._talk):
                stream.close()

    def end(self) -> None:
        """End it from any thread; ``run`` returns then."""
        self._process.terminate()


def _hand_on(lines: IO[str], take: Callable[[str], object]) -> None:
    for line in lines:
        take(line)


@dataclass(frozen=True, slots=True)
class Host:
    """A host as its user names it: ``[USER@]HOST[:PORT]``; ``config`` as for ``ssh -F``.

    HOST is a name of ssh's configuration or of the network, or an address. An IPv6 address may
    have a zone (``fe80::1%eth0``), and stands in brackets where a port follows.
    """

    name: str
    config: Path | None = None

    def __post_init__(self) -> None:
        found = NAME.fullmatch(self.name)
        if found is None or (":" in self._address and not _is_ipv6(self._address)):
            raise UsageError(
                f"{self.name!r} is not a host",
                "use a name such as pi@raspberrypi.local, pi@raspberrypi.local:2222 or"
                " pi@[fe80::1%eth0]:2222",
            )
        if not 0 < int(self._port or 22) < 65536:
            raise UsageError(f"{self._port} is not a port", "choose one from 1 to 65535")

    @property
    def _address(self) -> str:
        """The host's name alone, an address without brackets."""
        found = NAME.fullmatch(self.name)
        assert found
        return found["inside"] or found["ipv6"] or found["host"]

    @property
    def _port(self) -> str | None:
        found = NAME.fullmatch(self.name)
        assert found
        return found["port"] or found["after"]

    def _named(self, address: str) -> str:
        user, at, _ = self.name.rpartition("@")
        return f"{user}{at}{address}"

    @property
    def _for_files(self) -> str:
        """The host as rsync and sftp name it: a colon in it would begin the path."""
        return self._named(f"[{self._address}]" if ":" in self._address else self._address)

    @property
    def _options(self) -> list[str]:
        words = [word for option in OPTIONS for word in ("-o", option)]
        words += ["-o", f"Port={self._port}"] if self._port else []
        return [*words, *(["-F", str(self.config)] if self.config else [])]

    def _ssh(self, command: str) -> list[str]:
        return [_program("ssh"), *self._options, "--", self._named(self._address), command]

    def forwarding(self, forwards: Iterable[str], command: str) -> list[str]:
        """Return ssh's words for a command that runs while ports are forwarded (``ssh -L``)."""
        asked = [word for forward in forwards for word in ("-L", forward)]
        program, *words = self._ssh(command)
        return [program, "-o", "ExitOnForwardFailure=yes", *asked, *words]

    def run(self, script: str) -> str:
        """Run a shell script there and return its output.

        Raises PitoolError with its last words; its exit codes 3 and 5 are pitool's.
        """
        done = subprocess.run(
            self._ssh("sh -s"), input=script.encode(), capture_output=True, check=False
        )
        if done.returncode:
            raise self.failure(done.returncode, done.stderr.decode(errors="replace"))
        return done.stdout.decode(errors="replace")

    def start(self, command: str) -> RemoteCommand:
        """Start a command of the shell there."""
        return RemoteCommand(self._ssh(command))

    def send(
        self,
        source: Path,
        target: str,
        *,
        rsync: bool,
        there: bool,
        arrived: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Copy a file to ``target`` below the home; goes on where an earlier copy was cut.

        ``there``: a part of it has arrived already; ``arrived`` hears now and then how many bytes.
        """
        # Under a name that means nothing to anyone: a:b is a host to rsync, and sftp's batches have
        # no way to write a line feed.
        with TemporaryDirectory(prefix="pitool-") as folder, self._watching(target, arrived):
            sent = Path(folder) / "sent"
            sent.symlink_to(source.absolute())
            if rsync and shutil.which(RSYNC):
                shell = shlex.join([_program("ssh"), *self._options])
                words = [RSYNC, "--append-verify", "--inplace", "--copy-links", "--timeout=60"]
                words += ["-e", shell, "--", str(sent), f"{self._for_files}:{target}"]
                batch = ""
            else:
                words = [_program("sftp"), *self._options, "-b", "-", "--", self._for_files]
                batch = f'{"reput" if there else "put"} "{sent}" "{target}"\n'
            done = subprocess.run(words, input=batch.encode(), capture_output=True, check=False)
        if done.returncode:
            raise self.failure(LOST, done.stderr.decode(errors="replace"))

    @contextmanager
    def _watching(self, target: str, arrived: Callable[[int], None]) -> Iterator[None]:
        """Ask the host for the size of a file each second: sftp tells nobody but a terminal."""

        def hear(line: str) -> None:
            with suppress(ValueError):
                arrived(int(line))

        watch = self.start(WATCH.format(target=target))
        listener = threading.Thread(target=watch.run, args=(hear, lambda _: None), daemon=True)
        listener.start()
        try:
            yield
        finally:
            watch.end()
            listener.join()

    def failure(self, code: int, said: str) -> PitoolError:
        """Return what an exit code of ssh means, and what was written to stderr."""
        words = (said.strip().splitlines() or [f"exit code {code}"])[-1].rstrip(".")
        if "No space left on device" in said:
            return DoesNotFit(
                f"{self.name}: the disk is full", "free some space on it, then push again"
            )
        if code != LOST:
            kinds = {DoesNotFit.exit_code: DoesNotFit, MissingPart.exit_code: MissingPart}
            return kinds.get(code, PitoolError)(f"{self.name}: {words}", "")
        for mark, (what, do) in REFUSALS.items():
            if mark in said:
                found = FORGET.search(said)
                known = f"'[{self._address}]:{self._port}'" if self._port else self._address
                forget = found[0] if found else f"ssh-keygen -R {known}"
                port = f"-p {self._port} " if self._port else ""
                advice = do.format(name=f"{port}{self._named(self._address)}", forget=forget)
                return PitoolError(f"{self.name}: {what}", advice)
        return PitoolError(
            f"{self.name}: the connection failed ({words})",
            "push again to resume",
        )


def _is_ipv6(address: str) -> bool:
    try:
        IPv6Address(address)
    except ValueError:
        return False
    return True


def _program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise MissingPart(f"{name} is not installed", "sudo apt-get install openssh-client")
    return path
