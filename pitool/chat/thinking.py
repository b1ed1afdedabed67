"""Where the thinking of a reasoning model ends and its answer begins."""

from __future__ import annotations

from dataclasses import dataclass

OPEN, CLOSE = "<think>", "</think>"


@dataclass(frozen=True, slots=True)
class Parts:
    """``thinking`` is empty for most models; ``thought``: whether it has come to its end."""

    thinking: str
    answer: str
    thought: bool


def split(text: str) -> Parts:
    """Return thinking and answer apart, also of a text that still grows.

    Some chat templates write the opening mark into the prompt: then only the closing one is seen.
    """
    start = text.lstrip()
    before, closed, after = text.partition(CLOSE)
    if closed and (start.startswith(OPEN) or OPEN not in before):
        return Parts(before.replace(OPEN, "", 1).strip(), after.lstrip("\n"), True)
    if start.startswith(OPEN):
        return Parts(start.removeprefix(OPEN).strip(), "", False)
    if start and OPEN.startswith(start):
        return Parts("", "", False)  # the mark itself may still be on its way
    return Parts("", text, True)
