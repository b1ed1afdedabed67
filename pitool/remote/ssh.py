"""OpenSSH underneath: commands and files to one host. Keys, agents, jump hosts and ~/.ssh/config
work as in the shell; nothing here asks for a password or stores one."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pitool.errors import DoesNotFit, MissingPart, PitoolError

ALIVE = ("-o", "BatchMode=yes", "-o", "ConnectTimeout=15", "-o", "ServerAliveInterval=15")
RSYNC = "rsync"
WATCH = 'while sleep 1; do stat -c %s "$HOME/{target}" 2>/dev/null || echo 0; done'
LOST = 255  # what ssh ends with when the connection is the trouble
# What ssh says when it gets no connection: what happened, and what to do (with the host's name).
LOOK = "check that the board is on and in this network"
REFUSALS = {
    "HOST IDENTIFICATION HAS CHANGED": (
        "its host key is not the known one",
        "after a new card forget the old one: {forget}, then connect once: ssh {name}",
    ),
    "Host key verification failed": (
        "its host key is not known yet",
        "check that it is your board, then connect once: ssh {name}",
    ),
    "Permission denied": ("it lets nobody in", "give it your key: ssh-copy-id {name}"),
    "Could not resolve hostname": ("nothing has this name here", f"{LOOK}, or use its address"),
    "Connection refused": (
        "it takes no ssh",
        "switch it on there: sudo raspi-config nonint do_ssh 0, or in Raspberry Pi Imager",
    ),
    "Connection timed out": ("it does not answer", LOOK),
    "No route to host": ("it does not answer", LOOK),
}
# What ssh advises after a changed host key; right for aliases and ports as well.
FORGET = re.compile(r"ssh-keygen -f .* -R .*\S")


@dataclass(frozen=True, slots=True)
class Host:
    """A host as ssh names it (``pi@raspberrypi.local``); ``config`` as for ``ssh -F``."""

    name: str
    config: Path | None = None

    @property
    def _options(self) -> list[str]:
        return [*ALIVE, *(["-F", str(self.config)] if self.config else [])]

    def run(self, script: str) -> str:
        """Run a shell script there and return its output.

        Raises PitoolError with its last words; its exit codes 3 and 5 are pitool's.
        """
        command = [_program("ssh"), *self._options, "--", self.name, "sh -s"]
        done = subprocess.run(command, input=script.encode(), capture_output=True, check=False)
        if done.returncode:
            raise self._failure(done.returncode, done.stderr.decode(errors="replace"))
        return done.stdout.decode(errors="replace")

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
        if rsync and shutil.which(RSYNC):
            shell = shlex.join([_program("ssh"), *self._options])
            words = [RSYNC, "--append-verify", "--inplace", "--timeout=60", "-e", shell]
            command, batch = [*words, str(source), f"{self.name}:{target}"], ""
        else:
            command = [_program("sftp"), *self._options, "-b", "-", "--", self.name]
            verb = "reput" if there else "put"
            batch = f'{verb} "{source}" "{target}"\n'
        with self._watching(target, arrived):
            done = subprocess.run(command, input=batch.encode(), capture_output=True, check=False)
        if done.returncode:
            raise self._failure(LOST, done.stderr.decode(errors="replace"))

    @contextmanager
    def _watching(self, target: str, arrived: Callable[[int], None]) -> Iterator[None]:
        """Ask the host for the size of a file each second: sftp tells nobody but a terminal."""
        command = [_program("ssh"), *self._options, "--", self.name, WATCH.format(target=target)]
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert child.stdout
        lines = child.stdout

        def hear() -> None:
            for line in lines:
                if line.strip().isdigit():
                    arrived(int(line))

        listener = threading.Thread(target=hear, daemon=True)
        listener.start()
        try:
            yield
        finally:
            child.terminate()
            child.wait()
            listener.join()
            lines.close()

    def _failure(self, code: int, said: str) -> PitoolError:
        words = (said.strip().splitlines() or [f"exit code {code}"])[-1].rstrip(".")
        if "No space left on device" in said:
            return DoesNotFit(f"{self.name}: its disk is full", "free some space there, push again")
        if code != LOST:
            kinds = {DoesNotFit.exit_code: DoesNotFit, MissingPart.exit_code: MissingPart}
            return kinds.get(code, PitoolError)(f"{self.name}: {words}", "")
        for mark, (what, do) in REFUSALS.items():
            if mark in said:
                found = FORGET.search(said)
                forget = found[0] if found else f"ssh-keygen -R {self.name.rpartition('@')[2]}"
                advice = do.format(name=self.name, forget=forget)
                return PitoolError(f"{self.name}: {what}", advice)
        return PitoolError(
            f"{self.name}: the connection failed ({words})",
            "push again: it goes on where it was cut",
        )


def _program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise MissingPart(f"{name} is not installed", "sudo apt-get install openssh-client")
    return path
