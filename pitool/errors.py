"""The one error tree: what happened, what to do next, and the exit code.

    PitoolError        1  a fault: something that should have worked did not
    ├─ UsageError      2  the command was called with something it cannot take
    ├─ DoesNotFit      3  memory or disk is too small for what was asked
    ├─ BadInput        4  a file is missing, damaged or of an unsupported kind
    ├─ MissingPart     5  an optional component is not installed
    ├─ WorkerDied      1  the process that holds the model ended by itself
    └─ Interrupted   130  the user stopped it

Raised anywhere, caught once, in ``cli.main``. Never prints, never exits.
"""

from __future__ import annotations


class PitoolError(Exception):
    """An error a user can act on.

    ``what`` says what happened, ``do`` what to do next; both without a final full stop.
    """

    exit_code = 1

    def __init__(self, what: str, do: str = "") -> None:
        self.what = what
        self.do = do
        super().__init__(f"{what}: {do}" if do else what)

    @property
    def sentence(self) -> str:
        """What happened and what to do next, without a final full stop."""
        return f"{self.what}; {self.do}" if self.do else self.what

    @property
    def statement(self) -> str:
        """The sentence on one line, with the mark that ends it."""
        return ended(self.sentence)


def ended(text: str) -> str:
    """Return a text on one line, with a full stop unless it ends with a question."""
    sentence = " ".join(text.split()).rstrip(".")
    return sentence if sentence.endswith("?") else f"{sentence}."


class UsageError(PitoolError):
    """The command was called with something it cannot take."""

    exit_code = 2


class DoesNotFit(PitoolError):  # noqa: N818 - the name reads as the verdict
    """Memory or disk is too small for what was asked."""

    exit_code = 3


class BadInput(PitoolError):  # noqa: N818
    """A file is missing, damaged or of an unsupported kind."""

    exit_code = 4


class MissingPart(PitoolError):  # noqa: N818
    """An optional component is not installed."""

    exit_code = 5


class WorkerDied(PitoolError):  # noqa: N818
    """The process that holds the model ended by itself."""


class Interrupted(PitoolError):  # noqa: N818
    """The user stopped it."""

    exit_code = 130
