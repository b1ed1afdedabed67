"""The error tree, with the exit code of each: what happened, and what to do next.

    PitoolError        1  a fault: something that should have worked did not
    ├─ UsageError      2  the command was called with invalid arguments
    ├─ DoesNotFit      3  not enough memory or disk space
    ├─ BadInput        4  a file is missing, damaged or of an unsupported kind
    ├─ MissingPart     5  an optional component is not installed
    ├─ WorkerDied      1  the process that holds the model ended unexpectedly
    └─ Interrupted   130  the user interrupted the command

Exit code 0 is success; 141 a closed pipe on stdout, which is no error of pitool's. Errors are
raised anywhere and caught once, in ``cli.main``. Never prints, never exits.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

# What a disk says that has no room, and what gives room.
_FULL = {
    errno.ENOSPC: ("the disk is full", "free some space"),
    errno.EDQUOT: ("the disk quota is used up", "free some of it"),
    errno.EFBIG: ("a file exceeds the limit on file sizes", "raise the limit (ulimit -f)"),
}
# What a terminal would obey or could not show: control characters but tab and line feed, ends of
# lines that only some obey, what turns the direction of a text around, halves of characters.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
MOST_CHARACTERS = 1000


class PitoolError(Exception):
    """An error that a user can act on.

    ``what`` says what happened, ``do`` what to do next, both without a full stop at the end. Names
    and values from files of others stand in them, so that both are made readable. ``details`` is
    for the log: what a process wrote before it died.
    """

    exit_code = 1
    details = ""

    def __init__(self, what: str, do: str = "") -> None:
        self.what = readable(what)
        self.do = readable(do)
        super().__init__(f"{self.what}: {self.do}" if do else self.what)

    @property
    def sentence(self) -> str:
        """What happened and what to do next, without a full stop at the end."""
        return f"{self.what}; {self.do}" if self.do else self.what

    @property
    def statement(self) -> str:
        """The sentence on one line, with its full stop."""
        return ended(self.sentence)


def readable(text: str) -> str:
    """Return a text of bounded length that any terminal shows and none obeys."""
    if len(text) > MOST_CHARACTERS:
        text = f"{text[: MOST_CHARACTERS // 2]} … {text[-MOST_CHARACTERS // 2 :]}"
    return harmless(text)


def harmless(text: str, sign: str = "\ufffd") -> str:
    """Return a text with ``sign`` for each character that a terminal would obey instead of show."""
    return text if text.isprintable() else _OBEYED.sub(sign, text)


def ended(text: str) -> str:
    """Return a text on one line with a full stop, unless it is a question."""
    sentence = " ".join(text.split()).rstrip(".")
    return sentence if sentence.endswith("?") else f"{sentence}."


class UsageError(PitoolError):
    """The command was called with invalid arguments."""

    exit_code = 2


class DoesNotFit(PitoolError):  # noqa: N818 - the name reads as the verdict
    """Not enough memory or disk space."""

    exit_code = 3


def disk_full(error: OSError, otherwise: str) -> DoesNotFit | None:
    """Return what a disk without room ends in, None for another error.

    ``otherwise``: what to do where no room can be made.
    """
    if error.errno not in _FULL:
        return None
    what, do = _FULL[error.errno]
    return DoesNotFit(what, f"{do}, or {otherwise}")


def no_memory() -> DoesNotFit:
    """Return what a lack of memory ends in that nobody foresaw."""
    return DoesNotFit("memory ran out", "close other programs, or choose a smaller model")


def reason(error: OSError | ValueError) -> str:
    """Return what the system or a library says of an error, such as ``Permission denied``."""
    if isinstance(error, OSError) and error.errno:
        return error.strerror or os.strerror(error.errno)
    return str(error)


def cannot_write(
    path: object, error: OSError | ValueError, otherwise: str = "choose another file"
) -> PitoolError:
    """Return what a refused write ends in: DoesNotFit on a full disk, a fault else."""
    what = f"cannot write to {path} ({reason(error)})"
    full = disk_full(error, otherwise) if isinstance(error, OSError) else None
    return DoesNotFit(what, full.do) if full else PitoolError(what, otherwise)


class BadInput(PitoolError):  # noqa: N818
    """A file is missing, damaged or of an unsupported kind."""

    exit_code = 4


class MissingPart(PitoolError):  # noqa: N818
    """An optional component is not installed."""

    exit_code = 5


class WorkerDied(PitoolError):  # noqa: N818
    """The process that holds the model ended unexpectedly."""


class Interrupted(PitoolError):  # noqa: N818
    """The user interrupted the command."""

    exit_code = 130


@contextmanager
def panics_raised() -> Iterator[None]:
    """Have a panic of a library in Rust raised as a RuntimeError: its own class passes by all."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise RuntimeError(str(error)) from None


# What the system refuses, by what is to be done about it.
_LIMITS = {
    errno.EMFILE: ("too many files are open", "raise the limit with ulimit -n"),
    errno.ENFILE: ("the system has too many open files", "close other programs"),
    errno.EAGAIN: ("the system starts no more processes", "close other programs"),
}
# Said with the name of the file.
_REMEDIES = {
    errno.EACCES: "check its permissions",
    errno.EPERM: "check its permissions",
    errno.EROFS: "choose a folder on another disk",
    errno.EIO: "check the disk",
    errno.ENAMETOOLONG: "use a shorter name",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path",
    errno.EISDIR: "use a file",
    errno.ELOOP: "check its symbolic links",
    errno.ETXTBSY: "end the program that runs it",
}


def error_of_system(error: OSError, otherwise: str) -> PitoolError | None:
    """Return the error that a user can act on for one of the system; None for an unforeseen one.

    ``otherwise``: what to do where a disk is full and no room can be made.
    """
    number = error.errno or 0
    if full := disk_full(error, otherwise):
        return full
    if number == errno.ENOMEM:
        return no_memory()
    if number in _LIMITS:
        return PitoolError(*_LIMITS[number])
    if number in _REMEDIES and error.filename is not None:
        name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else "a file"
        return BadInput(f"cannot use {name} ({os.strerror(number)})", _REMEDIES[number])
    if number == errno.ENOENT and _folder_is_gone():
        return BadInput("the current folder no longer exists", "change to another folder")
    return None


def _folder_is_gone() -> bool:
    try:
        os.getcwd()  # noqa: PTH109 - nothing of it is used
    except FileNotFoundError:
        return True
    return False
