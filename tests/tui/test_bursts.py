"""What is typed in one burst, on every screen: each key does what it would do typed slowly.

All keys of a line arrive in one write, as over a slow SSH connection: through a real terminal, and
by Textual's own pilot, which is quicker to look into.
"""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from textual._xterm_parser import XTermParser
from textual.widgets import Input

from pitool.catalog.bundles import Bundle
from pitool.planning.catalogue import Entry, catalogue
from pitool.planning.report import find_places
from pitool.report.progress import Progress
from pitool.store.conversation import Answer, Conversation, Question
from pitool.store.database import FILE_NAME, Database
from pitool.tui import demo
from pitool.tui.app import PitoolApp
from tests.chat.helpers import until
from tests.cli.conftest import environment

from .helpers import shown

ROOT = Path(__file__).parents[2]
F1, F3, F5, F8, RIGHT, CTRL_N, CTRL_P, CTRL_S, CTRL_U = (
    "\x1bOP", "\x1bOR", "\x1b[15~", "\x1b[19~", "\x1b[C", "\x0e", "\x10", "\x13", "\x15",
)  # fmt: skip
QUESTION = "Does daily bread count, and is 2/3 a lot?"


def state(app: PitoolApp) -> dict[str, Any]:
    """Return where a burst led to."""
    fields = [field.value for field in app.screen.query(Input)]
    rows = app.session.conversation.rows
    return {
        "screen": type(app.screen).__name__,
        "field": fields[0] if fields else None,
        "prompt": app.screen.query_one("Prompt").text if app.screen.query("Prompt") else None,  # type: ignore[attr-defined]
        "asked": [row.text for row in rows if isinstance(row, Question)],
        "kept": sorted(each.name for each in app.database.list()) if app.database else [],
        "bundles": len(app.context.bundles()[0]),
        "system": app.session.conversation.system,
    }


def prepared(folder: Path) -> PitoolApp:
    """Return the demonstration with two conversations."""
    database = Database(folder / FILE_NAME)
    for text in ("Daily bread", "Weekly news"):
        made = Conversation(rows=[Question(text), Answer("m", f"about {text}", finish="stop")])
        database.save(made, made.rows, ())
    database.close()
    app = demo.demo_app(folder)
    bundles = app.context.bundles

    def there() -> tuple[list[Bundle], list[Any]]:
        return [bundle for bundle in bundles()[0] if bundle.path.exists()], []

    object.__setattr__(app.context, "bundles", there)
    object.__setattr__(app.context, "market", Catalogue)
    return app


class Catalogue:
    """Ready models, of which none can be downloaded here."""

    def entries(self) -> list[Entry]:
        (place,) = find_places("2gb", "pi5")
        return [entry for entry in catalogue(place) if entry.fits]

    def pull(self, entry: Entry, progress: Progress) -> Bundle:
        raise AssertionError(entry.name)


BOTH = ["Daily bread", "Weekly news"]
# What is typed on the list of models, and what must have come of it.
BURSTS: dict[str, tuple[str, dict[str, Any]]] = {
    "a search": (f"{F3}/daily", {"screen": "ChatsScreen", "field": "daily", "kept": BOTH}),
    "letters on the list of conversations": (
        f"{F3}daily\r", {"screen": "ChatsScreen", "field": "", "kept": BOTH},
    ),
    "a deletion that is meant": (
        f"{F3}d{RIGHT}\r", {"screen": "ChatsScreen", "kept": ["Daily bread"]},
    ),
    "a new name": (
        f"{F3}r{CTRL_U}Yearly\r", {"screen": "ChatsScreen", "kept": ["Daily bread", "Yearly"]},
    ),
    "letters on the models": ("daily\r", {"screen": "ModelsScreen", "bundles": 2}),
    "a question while it loads": (f"\r{QUESTION}", {"screen": "ChatScreen", "prompt": QUESTION}),
    "a line that is cleared": (
        f"\rdaily{CTRL_U}weekly", {"screen": "ChatScreen", "prompt": "weekly", "asked": []},
    ),
    "a command that opens a screen": (
        "\r/chats daily\r/more", {"screen": "ChatsScreen", "field": "more", "kept": BOTH},
    ),
    "a comparison": ("cDaily?", {"screen": "CompareScreen", "field": "Daily?"}),
    "a benchmark": (f"{F5}daily", {"screen": "BenchScreen"}),
    "the name of a log": (f"{F8}l{CTRL_U}daily.csv", {"screen": "AskText", "field": "daily.csv"}),
    "letters on the sensors": (f"{F8}quartz", {"screen": "DeviceScreen"}),
    "letters on the catalogue": ("gdaily", {"screen": "PullScreen"}),
    "a line on the catalogue asks first": ("gdaily\r", {"screen": "Confirm", "bundles": 2}),
    "letters on a question": ("ddaily", {"screen": "Confirm", "bundles": 2}),
    "a line on a question": ("ddaily\r", {"screen": "ModelsScreen", "bundles": 2}),
    "letters on a page of help": (f"\r{F1}daily", {"screen": "Page", "prompt": None, "asked": []}),
    "a system prompt": (
        f"\r/system\rBe brief.{CTRL_S}Daily?",
        {"screen": "ChatScreen", "system": "Be brief.", "prompt": "Daily?"},
    ),
    "the palette": (f"{CTRL_P}Bench", {"screen": "CommandPalette", "field": "Bench"}),
    "a way through four screens": (
        f"\r{F3}/daily\r\r{CTRL_N}Next", {"screen": "ChatScreen", "prompt": "Next"},
    ),
}  # fmt: skip


@pytest.mark.thorough
@pytest.mark.parametrize("burst", BURSTS)
async def test_by_pilot(tmp_path: Path, burst: str) -> None:
    typed, expected = BURSTS[burst]
    app = prepared(tmp_path)
    async with app.run_test(size=(80, 24)):
        await until(lambda: "Leaf-360M" in shown(app) and "quality" in shown(app))
        for event in XTermParser().feed(typed):
            app.post_message(event)
        await until(lambda: app._keys.idle and not app._message_queue.qsize())
        await until(lambda: expected.items() <= state(app).items())


PROGRAM = """
import json, sys
from pathlib import Path
from tests.tui.test_bursts import prepared, state

app = prepared(Path(sys.argv[1]))
leave = app.exit

def leaving(*arguments, **options):
    Path(sys.argv[2]).write_text(json.dumps(state(app)))
    leave(*arguments, **options)

app.exit = leaving
app.run()
"""


def seen(ours: int, condition: Callable[[bytes], bool]) -> None:
    """Read what a terminal shows until it shows something."""
    text = b""
    with suppress(OSError):  # the program has ended
        while not condition(text):
            text += os.read(ours, 65536)


@pytest.mark.thorough
@pytest.mark.parametrize("burst", BURSTS)
def test_through_a_terminal(tmp_path: Path, burst: str) -> None:
    typed, expected = BURSTS[burst]
    ours, theirs = pty.openpty()
    left = tmp_path / "left.json"
    folder = tmp_path / "home"
    folder.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder), str(left)],
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, cwd=ROOT,
        env={**environment(), "TERM": "xterm-256color", "PYTHONPATH": str(ROOT),
             "COLUMNS": "80", "LINES": "24", "PITOOL_HOME": str(folder)},
    )  # fmt: skip
    os.close(theirs)
    try:
        seen(ours, lambda text: b"quality" in text)
        os.write(ours, f"{typed}\x11".encode())  # Ctrl+Q ends it, in the same write
        seen(ours, lambda _: left.exists())
        end = time.monotonic() + 60
        while not left.exists() or not left.read_text():
            assert time.monotonic() < end
            time.sleep(0.01)
        assert expected.items() <= json.loads(left.read_text()).items()
    finally:
        process.kill()
        process.wait()
        os.close(ours)
