"""The programs that ``benchmarks.tui`` runs in a terminal: a bare Textual app, and growing answers.

    python -m benchmarks.tui_sides bare
    python -m benchmarks.tui_sides frames ours|markdown FILE

``frames`` grows an answer token by token and writes the CPU milliseconds of a frame, at each of
``LENGTHS`` tokens, to a file as JSON: in pitool's chat, or in Textual's own Markdown widget.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from textual.app import App, ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Markdown, Static

READY = "a bare app"
LENGTHS = (1000, 10000)
FRAMES = 60
TOKENS_A_FRAME = 2
TOKEN_CHARACTERS = 4

_PARAGRAPH = (
    "A prompt is **read many tokens at a time**, so each weight that comes from memory is used "
    "often; an answer is written one token at a time, and `each` is used once.\n\n"
)
_REST = (
    "- one of *three*\n- another\n- the last\n\n"
    "```python\ndef rate(x: float) -> float:\n    return 1 / x\n```\n\n"
)

Show = Callable[[str], Awaitable[None]]


def text() -> str:
    """Return an answer that is as long as the longest one of ``LENGTHS``, and a little more."""
    section = "## A section\n\n" + _PARAGRAPH * 3 + _REST
    length = (max(LENGTHS) + FRAMES * TOKENS_A_FRAME + 1) * TOKEN_CHARACTERS
    return (section * (length // len(section) + 1))[:length]


class Bare(App[None]):
    """The least that Textual shows."""

    BINDINGS = [("ctrl+q", "quit", "Quit")]  # noqa: RUF012 - as Textual's documentation writes it

    def compose(self) -> ComposeResult:
        """Lay out one line."""
        yield Static(READY)


class TextualMarkdown(App[None]):
    """Textual's own widget for Markdown, which is appended to."""

    def compose(self) -> ComposeResult:
        """Lay out a document that scrolls."""
        with VerticalScroll():
            yield Markdown()

    def on_mount(self) -> None:
        """Begin."""
        self.query_one(VerticalScroll).anchor()
        self.run_worker(measure(self, self._append), exit_on_error=True)

    async def _append(self, new: str) -> None:
        await self.query_one(Markdown).append(new)


async def measure(app: App[Any], show: Show) -> None:
    """Grow the text, note what a frame costs at each length, and end the app."""
    whole, place = text(), 0
    found = {}
    for length in LENGTHS:
        while (step := min(length * TOKEN_CHARACTERS - place, 400)) > 0:
            await show(whole[place : place + step])
            place += step
            await drawn(app)
        start = time.process_time()
        for _ in range(FRAMES):
            step = TOKENS_A_FRAME * TOKEN_CHARACTERS
            await show(whole[place : place + step])
            place += step
            await drawn(app)
        found[str(length)] = (time.process_time() - start) / FRAMES * 1000
    Path(sys.argv[3]).write_text(json.dumps(found), encoding="utf-8")
    app.exit()


async def drawn(app: App[Any]) -> None:
    """Return when what was changed is on the screen."""
    done = asyncio.Event()
    app.screen.call_after_refresh(done.set)
    await done.wait()
    await asyncio.sleep(1 / 60)  # the screen draws in its own time


def ours() -> App[Any]:
    """Return the chat with an answer that a test hand grows."""
    from pitool.catalog.bundles import choose
    from pitool.store.conversation import Answer, Question
    from pitool.tui import demo
    from pitool.tui.app import PitoolApp
    from pitool.tui.messages import SessionChanged

    folder = Path(tempfile.mkdtemp())
    bundles = demo.write_bundles(folder)

    class Growing(PitoolApp):
        def on_mount(self) -> None:
            super().on_mount()
            self.run_worker(self._grow(), exit_on_error=True)

        async def _grow(self) -> None:
            while not self.screen.query("ConversationView"):
                await asyncio.sleep(0.05)
            answer = Answer("demo")
            self.session.conversation.rows += [Question("Why?"), answer]

            async def show(new: str) -> None:
                answer.text += new
                self.post_message(SessionChanged())

            await measure(self, show)

    return Growing(
        load=demo.scripted_load(),
        bundles=lambda: (bundles, []),
        memory=lambda _: demo.MEMORY,
        runnable=choose(bundles[0]),
    )


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["bare"]:
            Bare().run()
        case ["frames", "ours", _]:
            ours().run()
        case ["frames", "markdown", _]:
            TextualMarkdown().run()
        case _:
            raise SystemExit(__doc__)
