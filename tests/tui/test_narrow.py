"""A terminal of 40 columns: what matters most is still there, and nothing is cut in the middle."""

from __future__ import annotations

from pathlib import Path

from textual.pilot import Pilot

from pitool.chat.status import Phase
from pitool.tui import demo
from pitool.tui.app import PitoolApp
from tests.chat.helpers import until

from .helpers import shown, type_in

NARROW = (40, 24)


def text_of(screen: str) -> str:
    """Return the words on a screen without the frames around them."""
    return " ".join(screen.translate(dict.fromkeys(map(ord, "│╭╮╰╯─"), " ")).split())


async def open_chat(app: PitoolApp, pilot: Pilot[None]) -> None:
    """Load the first model of the list."""
    await until(lambda: "Leaf" in shown(app))
    await pilot.press("enter")
    await until(lambda: app.session.status.phase is Phase.READY)


async def test_the_commands_have_their_words_below_them(tmp_path: Path) -> None:
    app = demo.demo_app(tmp_path)
    async with app.run_test(size=NARROW) as pilot:
        await open_chat(app, pilot)
        await pilot.press("f1")
        await until(lambda: "Commands" in shown(app))
        assert "/model [NAME [QUANT]] switch the model [F2]" in text_of(shown(app))
        lines = [line.strip("│ ╭╮╰╯─▁▂▃▄▅▆▇█").strip() for line in shown(app).splitlines()]
        assert "/persona [NAME]" in lines  # alone: what it does begins on the next line


async def test_words_that_are_wrapped_stay_in_their_column(tmp_path: Path) -> None:
    app = demo.demo_app(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await open_chat(app, pilot)
        await pilot.press("f1")
        await until(lambda: "Commands" in shown(app))
        lines = shown(app).splitlines()
        at = next(i for i, line in enumerate(lines) if "/persona [NAME]" in line)
        column = lines[at].index("use a named")
        assert lines[at + 1].index("keeps one") == column


async def test_the_model_goes_before_the_sensors(tmp_path: Path) -> None:
    app = demo.demo_app(tmp_path)
    async with app.run_test(size=NARROW) as pilot:
        await open_chat(app, pilot)
        await until(lambda: "Q4_K_M" in shown(app).splitlines()[0])
        assert "°C" not in shown(app).splitlines()[0]


async def test_a_completion_has_one_line(tmp_path: Path) -> None:
    app = demo.demo_app(tmp_path)
    async with app.run_test(size=NARROW) as pilot:
        await open_chat(app, pilot)
        type_in(app, "/s")
        await until(lambda: "/stats" in shown(app))
        found = [line for line in shown(app).splitlines() if line.lstrip("› ").startswith("/s")]
        assert len(found) >= 5
        assert "do when full" not in shown(app)


async def test_a_title_of_the_device_is_whole(tmp_path: Path) -> None:
    app = demo.demo_app(tmp_path)
    async with app.run_test(size=NARROW) as pilot:
        await until(lambda: "Leaf" in shown(app))
        await pilot.press("f8")
        await until(lambda: "to fix in 4 checks" in text_of(shown(app)))
        assert "to fix in 4 checks, Enter copies a fix" in text_of(shown(app))
