"""What may go wrong around a conversation, and that it is still there afterwards."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from textual.pilot import Pilot

from pitool.catalog.bundles import Runnable
from pitool.chat.status import Phase
from pitool.store.conversation import Answer, Notice
from pitool.store.database import FILE_NAME, Database
from pitool.tui import demo
from pitool.tui.app import PitoolApp
from tests.chat.helpers import Loader, Tracked, settled, until, wait

from .helpers import shown, type_in

PROGRAM = """
import sys
from pathlib import Path
from pitool.tui import demo
words = " ".join(f"w{n}" for n in range(2000))
folder = Path(sys.argv[1])
load = demo.scripted_load((words,), real_time=True, decode_rate=50)
demo.demo_app(folder, load=load).run()
"""


def last_text(path: Path) -> str:
    """Return the last answer that is on the disk."""
    database = Database(path)
    try:
        found = database.list()
        answer = database.open(found[0].key).last_answer() if found else None
        return answer.text if answer else ""
    finally:
        database.close()


def read_on(terminal: int, seen: list[bytes]) -> None:
    with suppress(OSError):
        while data := os.read(terminal, 65536):
            seen.append(data)


@pytest.mark.thorough
async def test_killed_in_the_middle_of_an_answer(tmp_path: Path) -> None:
    """SIGKILL of the whole program: a new one shows the answer as far as it was written."""
    ours, theirs = pty.openpty()
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        env={**os.environ, "TERM": "xterm-256color"},
    )
    os.close(theirs)
    seen: list[bytes] = []
    reader = threading.Thread(target=read_on, args=(ours, seen), daemon=True)
    reader.start()
    try:
        wait(lambda: b"Leaf-360M" in b"".join(seen))
        os.write(ours, b"\r")
        wait(lambda: b"Ready." in b"".join(seen))
        os.write(ours, b"Count\r")
        wait(lambda: (tmp_path / FILE_NAME).exists() and "w9" in last_text(tmp_path / FILE_NAME))
    finally:
        os.kill(program.pid, signal.SIGKILL)
        program.wait()
        reader.join(5)
        os.close(ours)
    app = PitoolApp(
        load=Loader(Tracked()),
        bundles=lambda: ([], []),
        memory=lambda _: None,
        database=Database(tmp_path / FILE_NAME),
    )
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: "No bundles in" in shown(app))
        await pilot.press("escape")
        await until(lambda: "No model is chosen" in shown(app))
        await pilot.press("f3")
        await until(lambda: "Count" in shown(app))
        await pilot.press("enter")
        await until(lambda: "w0 w1 w2 w3 w4" in shown(app) and "failed" in shown(app))


async def ask(app: PitoolApp, pilot: Pilot[None], text: str) -> None:
    count = len(app.session.conversation.rows)
    type_in(app, text)
    await pilot.press("enter")
    await until(lambda: len(app.session.conversation.rows) > count and settled(app.session))


async def test_artifact_that_changes_while_it_is_loaded(runnable: Runnable) -> None:
    first, second = Tracked(), Tracked(["From the new file."])
    load = Loader(first, second)
    app = PitoolApp(load=load, bundles=lambda: ([], []), memory=lambda _: 1, runnable=runnable)
    async with app.run_test(size=(100, 30)) as pilot:
        await until(lambda: app.session.status.phase is Phase.READY)
        await ask(app, pilot, "one")
        assert len(load.loads) == 1
        os.utime(runnable.entry, (1, 1))
        await ask(app, pilot, "two")
        await until(lambda: "changed on disk; reloading the model." in shown(app))
        await until(lambda: "From the new file." in shown(app))
        assert first.closed
        assert "Hello from the script." in shown(app)
        runnable.entry.unlink()
        await ask(app, pilot, "three")
        await until(lambda: "was deleted; the loaded model keeps working" in shown(app))
        await ask(app, pilot, "four")
        assert len(notices(app)) == 2
        assert not second.closed


def notices(app: PitoolApp) -> list[str]:
    """Return what stands between the messages of the chat."""
    return [row.what for row in app.session.conversation.rows if isinstance(row, Notice)]


async def test_full_disk_is_said_and_tried_again(runnable: Runnable, tmp_path: Path) -> None:
    database = Database(tmp_path / "c.db")
    connection = database._connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    answer = " ".join(["word"] * 3000)
    app = PitoolApp(
        load=Loader(Tracked([answer, "short"])),
        bundles=lambda: ([], []),
        memory=lambda _: 1,
        runnable=runnable,
        database=database,
    )
    async with app.run_test(size=(100, 30)) as pilot:
        await until(lambda: app.session.status.phase is Phase.READY)
        await ask(app, pilot, "Tell me")
        # The answer goes on, and may carry the notice out of sight.
        await until(lambda: any("is not saved" in text for text in notices(app)))
        (said,) = (text for text in notices(app) if "is not saved" in text)
        assert "disk is full" in said
        connection.execute("PRAGMA max_page_count = 1000000")
        await ask(app, pilot, "more")
    kept = Database(tmp_path / "c.db")
    rows = kept.open(kept.list()[0].key).rows
    texts = [row.text for row in rows if isinstance(row, Answer)]
    assert texts[0] == " ".join(["word"] * len(texts[0].split()))
    assert len(texts[0]) > 5000
    assert texts[1] == "short"


async def test_palette_has_every_screen_and_command(runnable: Runnable, tmp_path: Path) -> None:
    app = demo.demo_app(tmp_path / "demo")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: "Leaf-360M" in shown(app))
        titles = [command.title for command in app.get_system_commands(app.screen)]
        assert {"Models", "Conversations", "Compare"} <= set(titles)
        await pilot.press("enter")
        await until(lambda: app.session.status.phase is Phase.READY)
        titles = [command.title for command in app.get_system_commands(app.screen)]
        assert any(title.startswith("/compare") for title in titles)


@pytest.mark.thorough
async def test_resize_at_any_moment(tmp_path: Path) -> None:
    """Every screen at sizes down to almost nothing and back: nothing raises, all comes back."""
    app = demo.demo_app(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: "Leaf-360M" in shown(app))
        for keys in (["c"], ["escape"], ["enter"], ["f1"], ["escape"], ["f3"], ["escape"]):
            await pilot.press(*keys)
            for size in ((200, 60), (20, 5), (1, 1), (80, 24)):
                await pilot.resize_terminal(*size)
                await pilot.pause()
        await until(lambda: "Ask something" in shown(app))
