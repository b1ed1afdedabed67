"""The theme at first: the user's, else what the terminal says of itself; and it can be read."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.color import Color
from textual.theme import Theme

from pitool.tui import themes
from pitool.tui.themes import CONTRAST, DARK, LIGHT
from tests.report.test_canvas import contrast


@pytest.mark.parametrize(
    ("said", "theme"),
    [
        ("", DARK), ("15;0", DARK), ("0;15", LIGHT), ("0;default;15", LIGHT), ("0;7", LIGHT),
        ("7;0", DARK), ("default;default", DARK), ("nonsense", DARK),
    ],
)  # fmt: skip
def test_a_light_terminal_has_light_colours_at_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: str, theme: Theme
) -> None:
    monkeypatch.setenv("COLORFGBG", said)
    assert themes.remembered(tmp_path) == themes.remembered(None) == theme.name
    themes.remember(tmp_path, CONTRAST.name)
    assert themes.remembered(tmp_path) == CONTRAST.name


@pytest.mark.parametrize("theme", themes.THEMES, ids=lambda theme: theme.name)
@pytest.mark.parametrize("behind", ["background", "surface", "panel", "a finding"])
def test_words_and_verdicts_are_read_on_all_that_is_behind_them(theme: Theme, behind: str) -> None:
    background = Color.parse(theme.background or "")
    paper = (
        background.blend(Color.parse(theme.primary), 0.25)
        if behind == "a finding"
        else Color.parse(getattr(theme, behind))
    )
    assert contrast(paper.hex6, theme.foreground or "") >= 7
    for name in ("success", "warning", "error"):
        assert contrast(paper.hex6, getattr(theme, name)) >= 3
