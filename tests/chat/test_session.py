"""The session without any screen."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pitool.catalog.bundles import Runnable
from pitool.chat.session import Session
from pitool.chat.status import Phase
from pitool.engine import worker
from pitool.engine.base import Engine, Message, Settings
from pitool.engine.scripted import Scripted
from pitool.errors import DoesNotFit
from pitool.store.conversation import Answer, Conversation, Notice, Question

from .helpers import KILLED, Dying, Halting, Loader, Tracked, settled, wait

Make = Callable[..., Session]


def answers(session: Session) -> list[Answer]:
    return [row for row in session.conversation.rows if isinstance(row, Answer)]


def notices(session: Session) -> list[Notice]:
    return [row for row in session.conversation.rows if isinstance(row, Notice)]


def load(session: Session, runnable: Runnable) -> None:
    session.load(runnable)
    wait(lambda: session.status.phase is Phase.READY)


def ask(session: Session, text: str) -> Answer:
    assert session.ask(text)
    wait(lambda: settled(session))
    return answers(session)[-1]


def test_answer_with_figures(make_session: Make, runnable: Runnable) -> None:
    session = make_session(Loader(Tracked()))
    load(session, runnable)
    answer = ask(session, "Hi")
    assert (answer.text, answer.finish) == ("Hello from the script.", "stop")
    assert answer.model == "Raspberry-1.7B Q4_K_M"
    timings = session.status.timings
    assert timings is not None
    assert timings == answer.timings
    assert timings.decode_rate == pytest.approx(10)
    assert session.status.memory == 1000


def test_nothing_to_ask_without_a_model(make_session: Make) -> None:
    session = make_session(Loader(Tracked()))
    assert not session.ask("Hi")
    assert session.conversation.rows == []


def test_one_question_at_a_time(make_session: Make, runnable: Runnable) -> None:
    engine = Halting()
    session = make_session(Loader(engine))
    load(session, runnable)
    assert session.ask("first")
    assert not session.ask("second")
    engine.go.set()
    wait(lambda: settled(session))
    assert answers(session)[0].text == "one two three four five"


def test_stop_keeps_the_partial_answer_in_the_prompt(
    make_session: Make, runnable: Runnable
) -> None:
    engine = Halting()
    session = make_session(Loader(engine), system="Be brief.")
    load(session, runnable)
    session.ask("Count")
    wait(lambda: answers(session)[0].text == "one two")
    session.stop()
    wait(lambda: settled(session))
    assert (answers(session)[0].text, answers(session)[0].finish) == ("one two", "cancelled")
    assert session.status.phase is Phase.READY
    ask(session, "Go on")
    assert engine.prompts[-1] == [
        Message("system", "Be brief."),
        Message("user", "Count"),
        Message("assistant", "one two"),
        Message("user", "Go on"),
    ]


def test_worker_that_dies_in_an_answer(make_session: Make, runnable: Runnable) -> None:
    dead, fresh = Dying(after=3), Tracked()
    loader = Loader(dead, fresh)
    session = make_session(loader)
    load(session, runnable)
    broken = ask(session, "Count")
    assert (broken.text, broken.finish) == ("one two three", "failed")
    assert notices(session)[0].what == KILLED
    assert "ask again" in notices(session)[0].do
    assert session.status.phase is Phase.UNLOADED
    assert dead.closed
    assert ask(session, "Again").text == "Hello from the script."
    assert loader.loads == [runnable, runnable]
    assert fresh.prompts[0] == [
        Message("user", "Count"),
        Message("assistant", "one two three"),
        Message("user", "Again"),
    ]


def test_worker_that_died_between_answers_is_no_news(
    make_session: Make, runnable: Runnable
) -> None:
    session = make_session(Loader(Dying(after=0), Tracked()))
    load(session, runnable)
    assert ask(session, "Hi").text == "Hello from the script."
    assert notices(session) == []


def test_worker_that_dies_at_every_start_ends(make_session: Make, runnable: Runnable) -> None:
    loader = Loader(Dying(after=0))
    session = make_session(loader)
    load(session, runnable)
    assert ask(session, "Hi").finish == "failed"
    assert len(loader.loads) == 2
    assert len(notices(session)) == 1


def test_unload_closes_the_engine_and_the_next_question_loads(
    make_session: Make, runnable: Runnable
) -> None:
    engine = Tracked()
    loader = Loader(engine)
    session = make_session(loader)
    load(session, runnable)
    session.unload()
    wait(lambda: session.status.phase is Phase.UNLOADED)
    assert engine.closed
    assert (session.status.info, session.status.memory) == (None, None)
    assert ask(session, "Hi").finish == "stop"
    assert len(loader.loads) == 2


def test_another_model_in_the_middle_of_an_answer(make_session: Make, runnable: Runnable) -> None:
    first, second = Halting(), Tracked()
    session = make_session(Loader(first, second))
    load(session, runnable)
    session.ask("Count")
    wait(lambda: answers(session)[0].text == "one two")
    session.load(runnable)
    wait(lambda: first.closed and session.status.phase is Phase.READY)
    assert answers(session)[0].finish == "cancelled"
    assert ask(session, "Go on").text == "Hello from the script."


def test_new_conversation_in_the_middle_of_an_answer(
    make_session: Make, runnable: Runnable
) -> None:
    session = make_session(Loader(Halting()), system="Be brief.")
    load(session, runnable)
    session.ask("Count")
    old = session.conversation
    wait(lambda: answers(session)[0].text == "one two")
    session.new()
    wait(lambda: session.status.phase is Phase.READY and session.status.timings is None)
    assert session.conversation.rows == []
    assert session.conversation.system == "Be brief."
    assert [type(row) for row in old.rows] == [Question, Answer]


def test_load_that_does_not_fit(make_session: Make, runnable: Runnable) -> None:
    session = make_session(Loader(DoesNotFit("2 GB are needed", "take Q4_0"), Tracked()))
    session.load(runnable)
    wait(lambda: notices(session))
    assert notices(session) == [Notice("2 GB are needed", "take Q4_0")]
    assert session.status.phase is Phase.UNLOADED
    assert ask(session, "Hi").finish == "stop"


def test_stop_in_the_middle_of_a_load(make_session: Make, runnable: Runnable) -> None:
    started, go = threading.Event(), threading.Event()

    def slow(_: Runnable, on_progress: Callable[[float], None]) -> Engine:
        started.set()
        assert go.wait(120)
        on_progress(0.5)
        raise AssertionError("the load went on")

    session = make_session(slow)
    session.load(runnable)
    assert started.wait(120)
    session.stop()
    go.set()
    wait(lambda: session.status.phase is Phase.UNLOADED)
    assert notices(session) == []


def test_a_load_goes_on_when_a_conversation_is_opened(
    make_session: Make, runnable: Runnable
) -> None:
    started, go = threading.Event(), threading.Event()

    def slow(_: Runnable, on_progress: Callable[[float], None]) -> Engine:
        started.set()
        assert go.wait(120)
        on_progress(0.5)
        return Tracked()

    session = make_session(slow)
    session.load(runnable)
    assert started.wait(120)
    session.open(Conversation(rows=[Question("Hi"), Answer("m", "Hello", finish="stop")]))
    go.set()
    wait(lambda: session.status.phase is Phase.READY)
    assert ask(session, "And?").finish == "stop"


def test_full_context_says_what_to_do(make_session: Make, runnable: Runnable) -> None:
    settings = Settings(context=16, decode_threads=1, prefill_threads=1)
    session = make_session(Loader(Scripted(["one two three four five"], settings=settings)))
    load(session, runnable)
    assert ask(session, "Hi there").finish == "context"
    assert notices(session)[0].what == "the context of 16 tokens is full"
    assert "/new" in notices(session)[0].do


def test_fault_of_our_own_is_a_notice(make_session: Make, runnable: Runnable) -> None:
    session = make_session(Loader(ZeroDivisionError("oh"), Tracked()))
    session.load(runnable)
    wait(lambda: notices(session))
    assert "ZeroDivisionError" in notices(session)[0].what
    assert ask(session, "Hi").finish == "stop"


def test_notifications_do_not_grow_with_the_tokens(
    make_session: Make, runnable: Runnable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pitool.chat.status.FRAME_SECONDS", 1e6)
    calls: list[None] = []
    session = make_session(
        Loader(Scripted([" ".join(["word"] * 5000)])), lambda: calls.append(None)
    )
    load(session, runnable)
    assert len(ask(session, "Hi").text.split()) > 1000
    assert len(calls) < 20


def test_real_worker_that_is_killed(
    make_session: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL in the middle of an answer: a notice, the partial answer, and the next one."""
    script = tmp_path / "script.json"
    words = " ".join(f"w{n}" for n in range(400))
    script.write_text(json.dumps({"answers": [words], "decode_rate": 50, "real_time": True}))
    settings = Settings(context=4096, decode_threads=1, prefill_threads=1)
    pids: list[int] = []

    def start(runnable: Runnable, on_progress: Callable[[float], None]) -> Engine:
        engine = worker.start(runnable.format, runnable.entry, settings, on_progress)
        pids.append(engine.pid)
        return engine

    session = make_session(start)
    load(session, Runnable("script", "script", "F32", script, 1, 4096))
    session.ask("Go")
    wait(lambda: "w2" in answers(session)[0].text)
    os.kill(pids[0], signal.SIGKILL)
    wait(lambda: settled(session))
    assert "killed" in notices(session)[0].what
    assert answers(session)[0].text.startswith("w0 w1 w2")
    session.ask("Again")
    wait(lambda: "w2" in answers(session)[1].text)
    session.stop()
    wait(lambda: settled(session))
    assert answers(session)[1].finish == "cancelled"
    session.unload()
    wait(lambda: session.status.phase is Phase.UNLOADED)
    with pytest.raises(ProcessLookupError):
        os.kill(pids[1], 0)
    assert len(set(pids)) == 2


def test_a_slow_screen_is_told_less_often(
    make_session: Make, runnable: Runnable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pitool.chat.status.SLOWEST_SECONDS", 1e6)
    calls: list[None] = []
    session = make_session(
        Loader(Scripted([" ".join(["word"] * 5000)])), lambda: calls.append(None)
    )
    load(session, runnable)
    session.pace(1e4)
    assert len(ask(session, "Hi").text.split()) > 1000
    assert len(calls) < 20


def texts(session: Session) -> list[str]:
    return [getattr(row, "text", "") for row in session.conversation.rows]


def test_answers_and_questions_are_kept_as_variants(make_session: Make, runnable: Runnable) -> None:
    engine = Tracked(["one", "two", "three", "four"])
    session = make_session(Loader(engine))
    load(session, runnable)
    ask(session, "A number?")
    assert session.again()
    wait(lambda: settled(session))
    assert texts(session) == ["A number?", "two"]
    assert session.conversation.variant(session.conversation.rows[1]) == (2, 2)
    assert session.turn(session.conversation.rows[1], 1)
    assert texts(session) == ["A number?", "one"]
    ask(session, "And then?")
    assert texts(session) == ["A number?", "one", "And then?", "three"]
    assert engine.prompts[-1] == [
        Message("user", "A number?"),
        Message("assistant", "one"),
        Message("user", "And then?"),
    ]
    question = session.conversation.rows[0]
    assert isinstance(question, Question)
    assert session.ask("A letter?", instead=question)
    wait(lambda: settled(session))
    assert texts(session) == ["A letter?", "four"]
    assert session.turn(session.conversation.rows[0], -1)
    assert texts(session) == ["A number?", "one", "And then?", "three"]
    assert session.turn(session.conversation.rows[1], 1)
    assert texts(session) == ["A number?", "two"]
    assert session.turn(session.conversation.rows[1], 1)
    assert texts(session) == ["A number?", "one", "And then?", "three"]


def test_an_answer_without_a_word_is_no_variant(make_session: Make, runnable: Runnable) -> None:
    dead, fresh = Dying(after=0), Tracked()
    session = make_session(Loader(dead, DoesNotFit("too large"), fresh))
    load(session, runnable)
    ask(session, "Hi")
    assert session.again()
    wait(lambda: settled(session))
    assert texts(session) == ["Hi", "Hello from the script."]
    assert session.conversation.forks == {}


def test_a_question_that_is_too_long_drops_nothing(make_session: Make, runnable: Runnable) -> None:
    session = make_session(Loader(Tracked(["short"] * 3)))
    load(session, runnable)
    ask(session, "first")
    ask(session, "second")
    broken = ask(session, "word " * 3000)
    assert (broken.text, broken.finish) == ("", "failed")
    (told,) = notices(session)
    assert "tokens, and the context has 2048" in told.what
    assert "nothing was dropped" in told.do
    assert session.conversation.dropped == session.status.dropped == 0
    question = session.conversation.last_question()
    assert question is not None
    assert session.ask("third", instead=question)
    wait(lambda: settled(session))
    assert answers(session)[-1].text == "short"
