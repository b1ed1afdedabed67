"""The same benchmark on several boards at once, over ssh, with the pitool installed there.

Rows come one by one: a board that is lost on the way, or Ctrl-C, costs only what was not measured.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from pitool.bench.rows import BenchRow
from pitool.catalog import reading
from pitool.remote.ssh import LOST, Host, RemoteCommand

NOT_FOUND = 127

Say = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Answer:
    """What one host gave: its rows, and why there are none or not all."""

    host: str
    rows: tuple[BenchRow, ...]
    problem: str = ""
    interrupted: bool = False


def bench(names: Sequence[str], arguments: Sequence[str], say: Say) -> list[Answer]:
    """Return each host's answer, in the order of ``names``; one that fails spoils no other.

    ``arguments`` are those of ``pitool bench`` without an output format. Ctrl-C ends all of them.
    """
    hosts = [Host(name) for name in dict.fromkeys(names)]
    words = shlex.join(["pitool", "bench", *arguments, "-o", "jsonl"])
    # A login shell has the PATH of the person who installed pitool.
    command = f"bash -lc {shlex.quote(words)}"
    started = [(host.name, host.start(command)) for host in hosts]
    with ThreadPoolExecutor(max_workers=len(started)) as pool:
        running = [pool.submit(_collect, host, remote, say) for host, remote in started]
        stopped = _wait(running, [remote for _, remote in started])
    answers = [future.result() for future in running]
    if not stopped:
        return answers
    return [Answer(a.host, a.rows, a.problem, interrupted=bool(a.problem)) for a in answers]


def _wait(running: list[Future[Answer]], commands: Iterable[RemoteCommand]) -> bool:
    """Wait for all; return whether Ctrl-C ended them."""
    try:
        for _ in as_completed(running):
            pass
    except KeyboardInterrupt:
        for command in commands:
            command.end()
        return True
    return False


def _collect(host: str, command: RemoteCommand, say: Say) -> Answer:
    """Read rows and talk of a host until it ends."""
    rows: list[BenchRow] = []
    last = ""

    def take(line: str) -> None:
        if row := _row(line):
            rows.append({**row, "host": host})  # after all other fields

    def pass_on(line: str) -> None:
        nonlocal last
        if line.strip():
            last = line.strip()
            say(f"{host}: {last}")

    code = command.run(take, pass_on)
    last = last.removeprefix("pitool: ")
    problem = _problem(code, rows, last)
    if not problem or problem != last:  # which was passed on already
        say(f"{host}: {problem or f'{len(rows)} tests'}")
    return Answer(host, tuple(rows), problem)


def _row(line: str) -> BenchRow | None:
    """Return the row of a line; a profile may print lines of its own."""
    try:
        row = reading.parse_json(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and "samples_ts" in row else None


def _problem(code: int, rows: Sequence[BenchRow], last: str) -> str:
    if code == 0:
        return "" if rows else "returned no results"
    if code == LOST:
        return last or "ssh failed"
    if code == NOT_FOUND:
        return "pitool is not installed"
    if code < 0:
        return "stopped"
    return last or f"exited with code {code}"


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
