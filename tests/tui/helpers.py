"""What is on the screen, and what a user does to it."""

from __future__ import annotations

from pitool.tui.app import PitoolApp
from pitool.tui.widgets.notice import NoticeLine
from pitool.tui.widgets.prompt import Prompt


def shown(app: PitoolApp) -> str:
    """Return the text of the screen."""
    strips = app.screen._compositor.render_strips()
    return "\n".join(strip.text.rstrip() for strip in strips)


def said(app: PitoolApp) -> str:
    """Return what is said in the line above the keys, on whatever screen."""
    lines = [line for screen in app.screen_stack for line in screen.query(NoticeLine)]
    return "\n".join(line.text for line in lines if line.display)


def type_in(app: PitoolApp, text: str) -> None:
    """Put a text into the prompt."""
    app.screen.query_one(Prompt).insert(text)
