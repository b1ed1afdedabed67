"""Ends the program when its terminal is gone.

A hang-up signal does that by itself, but not every broken connection sends one: then Textual
waits forever to write, and the model would stay in the board's memory.
"""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Callable

from pitool.process.child import kill_all

CODE = 128 + signal.SIGHUP


def end_without(terminal: int, last: Callable[[], object]) -> threading.Thread:
    """Watch the descriptor of a terminal from a thread of its own; return it, begun.

    When the terminal hangs up, ``last`` is called and the process ends, whatever the main thread
    waits for.
    """

    def watch() -> None:
        hangups = select.poll()
        hangups.register(terminal, 0)  # a hang-up is reported without being asked for
        hangups.poll()
        try:
            last()
        finally:
            kill_all()
            os._exit(CODE)

    thread = threading.Thread(target=watch, name="hangup", daemon=True)
    thread.start()
    return thread
