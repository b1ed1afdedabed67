"""A child for the tests: it answers, and it can be as stuck as a child can be."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from pathlib import Path

from pitool.errors import DoesNotFit
from pitool.process.service import Call, serve

STATE = {"cancels": 0}
COUNTING: list[Call] = []


def cancel() -> None:
    STATE["cancels"] += 1


def echo(call: Call) -> None:
    call.result(call.arguments["value"], bytes(call.arguments.get("size", 0)))


def fail(call: Call) -> None:
    raise DoesNotFit("it is too large", "take a smaller one")


def crash(call: Call) -> None:
    raise ValueError("never foreseen")


def talk(call: Call) -> None:
    """Send numbers until the call is cancelled."""
    number = 0
    while not call.cancelled:
        call.event(number=number)
        number += 1
        time.sleep(0.01)
    call.result("late")


def count(call: Call) -> None:
    """Count up to ``most``, side by side with others that count."""
    call.arguments["at"] = 0
    COUNTING.append(call)


def work() -> bool:
    for call in list(COUNTING):
        at, most = call.arguments["at"], call.arguments["most"]
        if call.cancelled or at == most:
            call.result(at)
            COUNTING.remove(call)
            continue
        call.event(number=at, others=len(COUNTING) - 1, padding="x" * call.arguments["size"])
        call.arguments["at"] = at + 1
    return bool(COUNTING)


def cancels(call: Call) -> None:
    call.result([STATE["cancels"], call.cancelled])


def stick(call: Call) -> None:
    """Sleep in native code that never lets another thread of Python run."""
    call.event(stuck=True)
    ctypes.PyDLL(None).sleep(3600)


def deaf(call: Call) -> None:
    """Do nothing, and take no SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    call.event(deaf=True)
    while True:
        time.sleep(3600)


def compute(call: Call) -> None:
    """Compute for so long, and say nothing."""
    end = time.process_time() + call.arguments["seconds"]
    while time.process_time() < end:
        pass
    call.result("done")


def die(call: Call) -> None:
    print(call.arguments["words"], file=sys.stderr, flush=True)
    os.kill(os.getpid(), call.arguments["signal"])


def abandon() -> None:
    if marker := os.environ.get("ABANDONED"):
        Path(marker).touch()
    if "STAYS" not in os.environ:
        os._exit(0)


if __name__ == "__main__":
    methods = (echo, fail, crash, talk, count, cancels, stick, deaf, die, compute)
    named = {method.__name__: method for method in methods}
    serve(named, work=work, cancel=cancel, abandon=abandon)
