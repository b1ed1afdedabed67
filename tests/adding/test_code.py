"""A file and a row each: a technique, a command, a screen of the terminal interface."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.adding.conftest import Extended

TECHNIQUE = '''
"""Test: every row is scaled by its largest magnitude."""

from pitool.convert.techniques.absmax import quantise
from pitool.convert.techniques.base import Technique
from pitool.convert.techniques.workbench import per_matrix

TECHNIQUE = Technique(
    name="test-int8",
    title="Test INT8",
    effect="Rounds as AbsMax does.",
    source="this test",
    make=per_matrix(quantise),
    bits=8,
    kernel="onnxruntime",
)
'''

COMMAND = '''
"""``pitool greet``: says hello."""

import click


@click.command()
@click.argument("name")
def command(name: str) -> None:
    """Say hello."""
    click.echo(f"hello, {name}")
'''

SCREEN = '''
"""A screen that shows a word."""

from textual.app import ComposeResult
from textual.widgets import Static

from pitool.tui.context import Context
from pitool.tui.screens.base import BaseScreen
from pitool.tui.widgets.keys import Keys


class WordScreen(BaseScreen[None]):
    """Shows the word it is opened with."""

    def __init__(self, context: Context, word: str = "") -> None:
        super().__init__(context)
        self._word = word

    def compose(self) -> ComposeResult:
        """Lay out the word above the footer."""
        yield Static(f"the word is {self._word or 'missing'}", id="word")
        yield Keys()
'''

# Opens the chat of the demonstration; the screen by its key, by its slash command, in the help.
DRIVE = """
import asyncio, pathlib, sys
from pitool.tui.demo import demo_app
from pitool.tui.screens.chat import ChatScreen
from textual.widgets import Static, TextArea

async def main() -> None:
    app = demo_app(pathlib.Path(sys.argv[1]))
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.pause()
        await pilot.press("enter")
        while not isinstance(app.screen, ChatScreen) or app.session.status.busy:
            await pilot.pause(0.05)
        await pilot.press("f9")
        await pilot.pause()
        print("by key:", app.screen.query_one("#word", Static).render())
        app.screen.dismiss()
        await pilot.pause()
        app.screen.query_one(TextArea).text = "/word abc"
        await pilot.press("enter")
        await pilot.pause()
        print("by command:", app.screen.query_one("#word", Static).render())
        names = [command.title for command in app.get_system_commands(app.screen)]
        print("in the palette:", "A word" in names)

asyncio.run(main())
"""


@pytest.mark.thorough
def test_a_technique(extended: Extended, tiny_checkpoint: Path) -> None:
    extended.module("pitool.convert.techniques", "test_int8", TECHNIQUE)
    extended.row("from pitool.convert.techniques import TECHNIQUES")
    extended.row('TECHNIQUES["test-int8"] = (".test_int8", "TECHNIQUE")')
    found = extended.json("compare", tiny_checkpoint, "--techniques", "test-int8,absmax-int8")
    rows = {row["technique"]: row for row in found["rows"]}
    ours, theirs = (rows[name]["quality"]["mean_kl"] for name in ("test-int8", "absmax-int8"))
    assert ours == theirs > 0
    assert "Rounds as AbsMax does." in extended.run("compare", "--list")


def test_a_command(extended: Extended) -> None:
    extended.module("pitool.cli", "greet", COMMAND)
    extended.row("from pitool.cli.commands import SECTIONS")
    extended.row('list(SECTIONS.values())[1]["greet"] = "pitool.cli.greet"')
    assert extended.run("greet", "you").strip() == "hello, you"
    assert "Say hello." in extended.run("--help")
    assert "greet" in extended.run("gret", code=2)


def test_a_screen(extended: Extended) -> None:
    extended.module("pitool.tui.screens", "word", SCREEN)
    extended.row("import pitool.tui.screens as screens")
    extended.row(
        "screens.SCREENS += (screens.ScreenEntry('word', 'pitool.tui.screens.word:WordScreen',"
        " 'A word', 'show a word', 'f9', arguments='[WORD]'),)"
    )
    said = extended.python(DRIVE, extended.folder)
    assert "by key: the word is missing" in said
    assert "by command: the word is abc" in said
    assert "in the palette: True" in said
