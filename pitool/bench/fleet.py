"""The same bench on several boards at once, over the OpenSSH client and the pitool that is there.

Keys, agents, jump hosts and ``~/.ssh/config`` are ssh's affair; a password is never asked for. Rows
come one by one, so a board that is lost on the way, or Ctrl-C, costs only what was not measured.
"""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import IO

from pitool.bench.rows import BenchRow
from pitool.errors import MissingPart, UsageError

# A board that does not answer for a minute is lost.
OPTIONS = (
    "BatchMode=yes",
    "ConnectTimeout=15",
    "ServerAliveInterval=15",
    "ServerAliveCountMax=4",
)
SSH_FAILED = 255
NOT_FOUND = 127

Say = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Answer:
    """What one host gave: its rows, and why there are none or not all."""

    host: str
    rows: tuple[BenchRow, ...]
    problem: str = ""
    interrupted: bool = False


def bench(hosts: Sequence[str], arguments: Sequence[str], say: Say) -> list[Answer]:
    """Return each host's answer, in the order of ``hosts``; one that fails spoils no other.

    ``arguments`` are those of ``pitool bench`` without an output format. Ctrl-C ends all of them.
    """
    names = list(dict.fromkeys(hosts))
    for host in names:
        if not host or host.startswith("-"):  # ssh would take it for an option
            raise UsageError(f"{host!r} is no host", "write user@host, separated by commas")
    started = [(host, _start(host, arguments)) for host in names]
    with ThreadPoolExecutor(max_workers=len(names)) as pool:
        running = [pool.submit(_collect, host, process, say) for host, process in started]
        stopped = _wait(running, [process for _, process in started])
    answers = [future.result() for future in running]
    if not stopped:
        return answers
    return [Answer(a.host, a.rows, a.problem, interrupted=bool(a.problem)) for a in answers]


def _wait(running: list[Future[Answer]], processes: Iterable[subprocess.Popen[str]]) -> bool:
    """Wait for all; return whether Ctrl-C ended them."""
    try:
        for _ in as_completed(running):
            pass
    except KeyboardInterrupt:
        for process in processes:
            process.terminate()
        return True
    return False


def _start(host: str, arguments: Sequence[str]) -> subprocess.Popen[str]:
    remote = shlex.join(["pitool", "bench", *arguments, "-o", "jsonl"])
    options = [word for option in OPTIONS for word in ("-o", option)]
    try:
        return subprocess.Popen(
            # A login shell has the PATH of the person who installed pitool.
            ["ssh", *options, host, "--", f"bash -lc {shlex.quote(remote)}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for this process, which keeps what has come
        )
    except FileNotFoundError:
        raise MissingPart("there is no ssh on this machine", "install openssh-client") from None


def _collect(host: str, process: subprocess.Popen[str], say: Say) -> Answer:
    """Read rows and talk of a host until it ends."""
    assert process.stdout is not None
    assert process.stderr is not None
    with process, ThreadPoolExecutor(max_workers=1) as pool:
        talk = pool.submit(_listen, host, process.stderr, say)
        rows = tuple(_rows(host, process.stdout))
        last = talk.result().removeprefix("pitool: ")
    problem = _problem(process.wait(), rows, last)
    if not problem or problem != last:  # which was passed on already
        say(f"{host}: {problem or f'{len(rows)} tests'}")
    return Answer(host, rows, problem)


def _rows(host: str, lines: Iterable[str]) -> Iterable[BenchRow]:
    """Yield the rows, the host after all other fields; a profile may print lines of its own."""
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and "samples_ts" in row:
            yield {**row, "host": host}


def _listen(host: str, lines: IO[str], say: Say) -> str:
    """Pass on what a host says; return its last line."""
    last = ""
    for line in lines:
        if line.strip():
            last = line.strip()
            say(f"{host}: {last}")
    return last


def _problem(code: int, rows: Sequence[BenchRow], last: str) -> str:
    if code == 0:
        return "" if rows else "gave no results"
    if code == SSH_FAILED:
        return last or "ssh failed"
    if code == NOT_FOUND:
        return "there is no pitool"
    if code < 0:
        return "stopped"
    return last or f"ended with code {code}"


def without_output(arguments: Iterable[str]) -> list[str]:
    """Return bench's arguments without those that are for this machine: hosts, output, card."""
    taking = ("--hosts", "-o", "--output", "--card")
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
