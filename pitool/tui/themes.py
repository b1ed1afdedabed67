"""The colours: raspberry and leaf, on dark and on light; and black on which everything stands out.

The user's choice is kept in pitool's home.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from textual.theme import Theme

DARK = Theme(
    name="pitool-dark",
    primary="#e0457b",
    secondary="#8fbf5a",
    accent="#8fbf5a",
    success="#7fb950",
    warning="#e5a445",
    error="#e5534b",
    foreground="#e4e2e6",
    background="#141217",
    surface="#1c1920",
    panel="#28242e",
    dark=True,
)

LIGHT = Theme(
    name="pitool-light",
    primary="#b0174c",
    secondary="#4f7f1f",
    accent="#4f7f1f",
    success="#3f7a1d",
    warning="#9a6200",
    error="#b3261e",
    foreground="#221f26",
    background="#fbf9fb",
    surface="#f3f0f4",
    panel="#e8e3ea",
    dark=False,
)

CONTRAST = Theme(
    name="pitool-contrast",
    primary="#ffff00",
    secondary="#00ff00",
    accent="#00ffff",
    success="#00ff00",
    warning="#ffaf00",
    error="#ff5f5f",
    foreground="#ffffff",
    background="#000000",
    surface="#000000",
    panel="#303030",
    dark=True,
)

THEMES = (DARK, LIGHT, CONTRAST)
FILE_NAME = "theme"


def remembered(folder: Path | None) -> str:
    """Return the name of the theme that was chosen last, else the terminal's kind, else dark."""
    if folder is not None:
        with suppress(OSError, UnicodeDecodeError):
            return (folder / FILE_NAME).read_text(encoding="utf-8").strip()
    return LIGHT.name if _terminal_is_light() else DARK.name


def _terminal_is_light() -> bool:
    """Tell whether the terminal says that it is: ``COLORFGBG`` is ``0;15`` in rxvt and Konsole."""
    return os.environ.get("COLORFGBG", "").rpartition(";")[2] in ("7", "15")


def remember(folder: Path | None, name: str) -> None:
    """Keep the name of a theme; a disk that refuses is no reason to complain about colours."""
    if folder is not None:
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / FILE_NAME).write_text(f"{name}\n", encoding="utf-8")
