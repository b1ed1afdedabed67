"""Standard streams that are terminals: what others wrote is shown there, and never obeyed.

Answers of models, names in their files, messages of servers and boards hold what they like:
sequences that move the cursor, rename the window, fill the clipboard. All that is printed loses
them here, in one place; what pitool itself moves and colours is written past it by ``write_own``.
A stream that is no terminal has every byte as it is.
"""

from __future__ import annotations

import io
import sys
from contextlib import suppress
from typing import TextIO

from pitool.errors import harmless


class _Terminal(io.TextIOWrapper):
    """A stream on the same terminal as ``own``, which stays in use for what is pitool's own."""

    def __init__(self, own: io.TextIOWrapper) -> None:
        super().__init__(own.buffer, own.encoding, own.errors, write_through=True)
        self.own = own

    def __del__(self) -> None:
        """Leave the file open: it is that of ``own``."""
        with suppress(OSError, ValueError):
            self.detach()

    def write(self, text: str) -> int:
        """Write a text without what a terminal would obey; a line ends as it does elsewhere."""
        super().write(harmless(text.replace("\r", "")))
        self.flush()
        return len(text)


def guard() -> None:
    """Have stdout and stderr show what they would obey, where they are terminals."""
    sys.stdout, sys.stderr = _guarded(sys.stdout), _guarded(sys.stderr)


def _guarded(stream: TextIO) -> TextIO:
    if isinstance(stream, io.TextIOWrapper) and stream.isatty():
        return stream if isinstance(stream, _Terminal) else _Terminal(stream)
    return stream


def own_stream(stream: TextIO | None = None) -> TextIO:
    """Return what obeys on the terminal behind ``stream`` (stdout): for sequences of pitool's."""
    stream = stream or sys.stdout
    return stream.own if isinstance(stream, _Terminal) else stream


def write_own(text: str, stream: TextIO | None = None) -> None:
    """Write a text to ``stream`` (stdout) as it is; what others wrote in it is harmless already."""
    stream = own_stream(stream)
    stream.write(text)
    stream.flush()
