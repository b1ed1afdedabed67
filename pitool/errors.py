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

# What a disk says that has no room, and what gives room.
_FULL = {
    errno.ENOSPC: ("the disk is full", "free some space"),
    errno.EDQUOT: ("the disk quota is used up", "free some of it"),
    errno.EFBIG: ("a file exceeds the limit on file sizes", "raise the limit (ulimit -f)"),
}


class PitoolError(Exception):
    """An error that a user can act on.

    ``what`` says what happened, ``do`` what to do next, both without a full stop at the end.
    """

    exit_code = 1

    def __init__(self, what: str, do: str = "") -> None:
        self.what = what
        self.do = do
        super().__init__(f"{what}: {do}" if do else what)

    @property
    def sentence(self) -> str:
        """What happened and what to do next, without a full stop at the end."""
        return f"{self.what}; {self.do}" if self.do else self.what

    @property
    def statement(self) -> str:
        """The sentence on one line, with its full stop."""
        return ended(self.sentence)


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


def cannot_write(
    path: object, error: OSError | ValueError, otherwise: str = "choose another file"
) -> PitoolError:
    """Return what a refused write ends in: DoesNotFit on a full disk, a fault else."""
    what = f"cannot write to {path} ({getattr(error, 'strerror', None) or error})"
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
