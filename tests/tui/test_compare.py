"""The comparison of two artifacts: what runs in which order, and the screen by the keyboard."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, Select

from pitool.catalog.bundles import Runnable, choose
from pitool.chat.compare import Comparison, SideState, room_for
from pitool.chat.status import Phase
from pitool.device.verdict import Verdict
from pitool.engine.base import Engine, Message, Prompt, Sampling, Token
from pitool.errors import DoesNotFit
from pitool.tui import demo
from pitool.tui.app import PitoolApp
from pitool.tui.screens.chat import ChatScreen
from pitool.tui.screens.compare import CompareScreen
from pitool.tui.screens.models import ModelsScreen
from tests.chat.helpers import Halting, Tracked, until

from .helpers import shown

PROMPT = [Message("user", "Why?")]


class Log:
    """Loads engines that write down what is done with them."""

    def __init__(self, engine: Callable[[], Tracked] = Tracked) -> None:
        self.lines: list[str] = []
        self._engine = engine

    def __call__(self, runnable: Runnable, on_progress: Callable[[float], None]) -> Engine:
        name, lines = runnable.quantisation, self.lines
        lines.append(f"load {name}")
        on_progress(1.0)
        engine = self._engine()
        close, stream = engine.close, engine.stream

        def logged_close() -> None:
            lines.append(f"close {name}")
            close()

        def logged_stream(prompt: Prompt, sampling: Sampling) -> Iterator[Token]:
            lines.append(f"answer {name}")
            return stream(prompt, sampling)

        engine.close, engine.stream = logged_close, logged_stream  # type: ignore[method-assign]
        return engine


@pytest.fixture
def two(tmp_path: Path) -> tuple[Runnable, Runnable]:
    bundle = demo.write_bundles(tmp_path)[0]
    return choose(bundle, "Q4_K_M"), choose(bundle, "Q8_0")


def compare(load: Log, available: int | None, two: tuple[Runnable, Runnable]) -> Comparison:
    comparing = Comparison(
        load, lambda _: 7, lambda r: Verdict(r.planned, available, None), lambda: None
    )
    comparing.run(two, PROMPT, Sampling(), threading.Event())
    return comparing


def test_without_room_the_first_ends_before_the_second(two: tuple[Runnable, Runnable]) -> None:
    load = Log()
    comparing = compare(load, 2_100_000_000, two)
    assert load.lines == [
        "load Q4_K_M",
        "answer Q4_K_M",
        "close Q4_K_M",
        "load Q8_0",
        "answer Q8_0",
        "close Q8_0",
    ]
    assert "one after the other" in comparing.room.why
    assert "3.31 GB" in comparing.room.why
    assert [side.state for side in comparing.sides] == [SideState.DONE, SideState.DONE]
    assert [side.text for side in comparing.sides] == ["Hello from the script."] * 2
    assert [side.memory for side in comparing.sides] == [7, 7]


def test_with_room_both_stay_loaded_for_the_next_prompt(two: tuple[Runnable, Runnable]) -> None:
    load = Log()
    comparing = compare(load, 4_000_000_000, two)
    comparing.run(two, PROMPT, Sampling(), threading.Event())
    answers = ["answer Q4_K_M", "answer Q8_0"]
    assert load.lines == ["load Q4_K_M", answers[0], "load Q8_0", answers[1], *answers]
    comparing.close()
    assert load.lines[-2:] == ["close Q4_K_M", "close Q8_0"]


def test_an_artifact_that_is_not_chosen_any_more_is_closed(
    two: tuple[Runnable, Runnable], tmp_path: Path
) -> None:
    load = Log()
    comparing = compare(load, 4_000_000_000, two)
    other = choose(demo.write_bundles(tmp_path / "other")[1])
    comparing.run((two[0], other), PROMPT, Sampling(), threading.Event())
    assert load.lines[4:6] == ["close Q8_0", "answer Q4_K_M"]


def test_unknown_memory_is_no_room(two: tuple[Runnable, Runnable]) -> None:
    assert not room_for(two, [None, None]).together
    assert not room_for(two, [Verdict(1, None, None), Verdict(1, None, None)]).together


def test_one_that_does_not_fit_leaves_the_other(two: tuple[Runnable, Runnable]) -> None:
    def load(runnable: Runnable, on_progress: Callable[[float], None]) -> Engine:
        if runnable.quantisation == "Q8_0":
            raise DoesNotFit("2 GB are needed", "take Q4_0")
        return Tracked()

    comparing = Comparison(load, lambda _: 7, lambda _: None, lambda: None)
    comparing.run(two[::-1], PROMPT, Sampling(), threading.Event())
    failed, done = comparing.sides
    assert (failed.state, failed.error) == (SideState.FAILED, "2 GB are needed; take Q4_0.")
    assert done.state is SideState.DONE


@asynccontextmanager
async def screen(tmp_path: Path, load: Log, size: tuple[int, int] = (80, 24)):  # type: ignore[no-untyped-def]
    app = demo.demo_app(tmp_path, load=load)
    async with app.run_test(size=size, notifications=True) as pilot:
        await until(lambda: "Leaf-360M" in shown(app))
        await pilot.press("c")
        await until(lambda: isinstance(app.screen, CompareScreen) and app.screen.query(Select))
        yield app, pilot


async def test_screen(tmp_path: Path) -> None:
    load = Log()
    async with screen(tmp_path, load) as (app, pilot):
        await pilot.press(*"Why", "enter")
        await until(lambda: load.lines[-1:] == ["close Q8_0"])
        await until(lambda: shown(app).count("Hello from the script.") == 2)
        await until(lambda: shown(app).count("done · 4 tokens") == 2)
        text = shown(app)
        assert "one after the other" in text
        assert "decode 10.0 t/s" in text
        assert "perplexity 9.10" in text
        assert "size 1.05 GB ▴" in text
        assert "KL 0.0043 ▴" in text
        await pilot.press("ctrl+s")
        await until(lambda: shown(app).index("Q8_0") < shown(app).index("Q4_K_M"))
        await pilot.press("escape")
        await until(lambda: isinstance(app.screen, ModelsScreen))


async def test_screen_refuses_what_cannot_be_compared(tmp_path: Path) -> None:
    load = Log()
    async with screen(tmp_path, load) as (app, pilot):
        await pilot.press("enter")
        await until(lambda: "Write a prompt first." in shown(app))
        first, second = app.screen.query(Select)
        second.value = first.value
        await pilot.press("a", "enter")
        await until(lambda: "Choose two different" in " ".join(shown(app).split()))
        assert load.lines == []


async def test_escape_stops_and_keeps_what_came(tmp_path: Path) -> None:
    load = Log(Halting)
    async with screen(tmp_path, load) as (app, pilot):
        await pilot.press("a", "enter")
        await until(lambda: "one two" in shown(app))
        await pilot.press("escape")
        await until(lambda: "stopped · 2 tokens" in shown(app))
        await until(lambda: app.session.status.phase is Phase.UNLOADED)
        assert "answer Q8_0" not in load.lines


async def test_compare_from_the_chat_takes_its_question_and_gives_the_model_back(
    runnable: Runnable, tmp_path: Path
) -> None:
    load = Log()
    bundles = demo.write_bundles(tmp_path / "bundles")
    app = PitoolApp(load=load, bundles=lambda: (bundles, []), memory=lambda _: 7, runnable=runnable)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(lambda: app.session.status.phase is Phase.READY)
        await ask(app, pilot, "Hi there")
        await ask(app, pilot, "/compare")
        await until(lambda: isinstance(app.screen, CompareScreen) and app.screen.query(Input))
        assert app.screen.query_one(Input).value == "Hi there"
        await pilot.press("enter")
        await until(lambda: load.lines[-1:] == ["close Q8_0"])
        await pilot.press("escape")
        await until(lambda: isinstance(app.screen, ChatScreen))
        await until(lambda: app.session.status.phase is Phase.UNLOADED)
        await ask(app, pilot, "Again")
        assert load.lines[-2:] == ["load Q4_K_M", "answer Q4_K_M"]


async def ask(app: PitoolApp, pilot: Pilot[None], text: str) -> None:
    from tests.chat.helpers import settled

    from .helpers import type_in

    type_in(app, text)
    await pilot.press("enter")
    if not text.startswith("/"):
        await until(lambda: text in str(app.session.conversation.rows) and settled(app.session))
