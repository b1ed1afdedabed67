"""A text file that goes with a question."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pitool.errors import BadInput

LIMIT_BYTES = 256 * 1024
"""More text than any context of a board holds."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """The name and the text of a file."""

    name: str
    text: str

    @property
    def bytes(self) -> int:
        """The size of the text in UTF-8."""
        return len(self.text.encode())

    def before(self, question: str) -> str:
        """Return the question after the file, in a fence that nothing in it can close."""
        longest = max((len(run) for run in re.findall("`{3,}", self.text)), default=2)
        fence = "`" * (longest + 1)
        return f"{self.name}:\n\n{fence}\n{self.text.rstrip()}\n{fence}\n\n{question}"


def attach(path: Path) -> Attachment:
    """Read a text file; BadInput where it is none, or has no place in a context."""
    try:
        with path.open("rb") as file:
            data = file.read(LIMIT_BYTES + 1)
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror})", "name a text file") from None
    if len(data) > LIMIT_BYTES:
        raise BadInput(f"{path} is larger than {LIMIT_BYTES // 1024} KiB", "attach a part of it")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise BadInput(f"{path} is no text", "attach a text file in UTF-8")
    return Attachment(path.name, text)
