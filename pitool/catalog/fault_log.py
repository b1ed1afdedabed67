"""The log of what failed: one file below ``home``, for its user alone, of bounded size.

Written only where something failed that should have worked, so that a board's card is left alone:
by ``record``, and by Python's logging once ``keep_warnings`` was called. No prompt and no answer is
ever given to it, but the words of an unforeseen error may quote one.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import sys
from pathlib import Path

from pitool import __version__
from pitool.catalog.bundles import home
from pitool.catalog.files import make_private, write_atomically
from pitool.errors import PitoolError, readable

FILE_NAME = "fault.log"
LARGEST = 256 * 1024
LONGEST_DETAILS = 16 * 1024


def record(what: str, details: str = "") -> Path | None:
    """Add a line and what explains it, such as a traceback; return the log, None without one.

    Raises nothing: a failure is worth more than its place in a log.
    """
    time = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    lines = [f"{time} pitool {__version__}{_command()}: {' '.join(readable(what).split())}"]
    lines += (f"    {line}" for line in details[-LONGEST_DETAILS:].rstrip().splitlines())
    entry = "".join(f"{readable(line)}\n" for line in lines).encode("utf-8", "replace")
    with contextlib.suppress(OSError, PitoolError):
        path = home() / FILE_NAME
        make_private(path)
        _make_room(path)
        with path.open("ab", buffering=0) as file:
            file.write(entry)
        return path
    return None


def tail(lines: int) -> str:
    """Return the last lines of the log; empty where there is none."""
    try:
        with (home() / FILE_NAME).open("rb") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - LARGEST, 0))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def keep_warnings() -> None:
    """Have warnings of pitool's own modules recorded, for programs that live long."""
    import logging

    class Recorder(logging.Handler):
        def emit(self, entry: logging.LogRecord) -> None:
            traceback = (
                logging.Formatter().formatException(entry.exc_info) if entry.exc_info else ""
            )
            what, _, details = entry.getMessage().partition("\n")
            record(what, f"{details}\n{traceback}".strip())

    logger = logging.getLogger("pitool")
    if not any(handler.name == FILE_NAME for handler in logger.handlers):
        recorder = Recorder(logging.WARNING)
        recorder.name = FILE_NAME
        logger.addHandler(recorder)


def _command() -> str:
    """Return which command this process runs; the other words are the user's."""
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    return f" {word}" if word.isascii() and word.isalpha() and word.islower() else ""


def _make_room(path: Path) -> None:
    """Keep the newer half of a log that has become too large."""
    if path.stat().st_size <= LARGEST:
        return
    kept = path.read_bytes()[-LARGEST // 2 :]
    write_atomically(path, kept[kept.index(b"\n") + 1 :] if b"\n" in kept else kept, 0o600)
