"""The same bench on several boards at once, over the OpenSSH client and the pitool that is there.

Keys, agents, jump hosts and ``~/.ssh/config`` are ssh's affair; a password is never asked for.
"""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from pitool.bench.history import Row
from pitool.errors import MissingPart, UsageError

CONNECT_SECONDS = 15
SSH_FAILED = 255
NOT_FOUND = 127
INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Answer:
    """What one host gave: its rows, and why there are none or not all."""

    host: str
    rows: tuple[Row, ...]
    problem: str = ""


def bench(
    hosts: Sequence[str], arguments: Sequence[str], say: Callable[[str], object]
) -> list[Answer]:
    """Return each host's answer, in the order of ``hosts``; one that fails spoils no other.

    ``arguments`` are those of ``pitool bench`` without an output format.
    """
    for host in hosts:
        if not host or host.startswith("-"):  # ssh would take it for an option
            raise UsageError(f"{host!r} is no host", "write user@host, separated by commas")
    answers = {}
    with ThreadPoolExecutor(max_workers=len(hosts)) as pool:
        running = [pool.submit(_ask, host, arguments) for host in dict.fromkeys(hosts)]
        for future in as_completed(running):
            answer = future.result()
            answers[answer.host] = answer
            say(f"{answer.host}: {answer.problem or f'{len(answer.rows)} tests'}")
    return [answers[host] for host in dict.fromkeys(hosts)]


def _ask(host: str, arguments: Sequence[str]) -> Answer:
    remote = shlex.join(["pitool", "bench", *arguments, "--json"])
    options = ["-o", "BatchMode=yes", "-o", f"ConnectTimeout={CONNECT_SECONDS}"]
    try:
        done = subprocess.run(
            # A login shell has the PATH of the person who installed pitool.
            ["ssh", *options, host, "--", f"bash -lc {shlex.quote(remote)}"],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError:
        raise MissingPart("there is no ssh on this machine", "install openssh-client") from None
    last = (done.stderr.strip().splitlines() or [""])[-1].removeprefix("pitool: ")
    try:
        rows = tuple({"host": host, **row} for row in json.loads(done.stdout))
    except (ValueError, TypeError):
        rows = ()
    if done.returncode == 0:
        return Answer(host, rows, "" if rows else "gave no results")
    if done.returncode == SSH_FAILED:
        return Answer(host, rows, last or "ssh failed")
    if done.returncode == NOT_FOUND:
        return Answer(host, rows, "there is no pitool")
    return Answer(host, rows, last or f"ended with code {done.returncode}")


def without_output(arguments: Iterable[str]) -> list[str]:
    """Return bench's arguments without those that are for this machine: hosts, output, card."""
    taking = {"--hosts", "-o", "--output", "--card"}
    kept: list[str] = []
    skip = False
    for argument in arguments:
        if skip:
            skip = False
        elif argument in taking:
            skip = True
        elif argument != "--json" and not argument.startswith(tuple(f"{f}=" for f in taking)):
            kept.append(argument)
    return kept
