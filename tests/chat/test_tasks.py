"""Tasks are done in order, each cancelled by an event of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from pitool.catalog.bundles import Runnable
from pitool.chat.session import Session
from pitool.chat.status import Phase
from pitool.chat.tasks import TasksAtOnce, TaskThread
from pitool.engine.base import Engine
from pitool.errors import PitoolError

from .helpers import SECONDS, Halting, Loader, Tracked, wait

Make = Callable[..., Session]


class Blocking:
    """A task that waits until it is cancelled or let go, and notes which of both it was."""

    def __init__(self) -> None:
        self.began, self.go = threading.Event(), threading.Event()
        self.interrupts = 0
        self.cancelled: bool | None = None

    def __call__(self, cancel: threading.Event) -> None:
        self.began.set()
        assert self.go.wait(SECONDS)
        self.cancelled = cancel.is_set()

    def interrupt(self) -> None:
        self.interrupts += 1
        self.go.set()


@pytest.fixture
def tasks() -> Iterator[TaskThread]:
    made = TaskThread(lambda _: None)
    yield made
    made.close(SECONDS)


def test_stop_reaches_the_task_that_runs_whatever_was_handed_in_since(tasks: TaskThread) -> None:
    first, later = Blocking(), threading.Event()
    tasks.add(first, first.interrupt)
    assert first.began.wait(SECONDS)
    tasks.add(lambda _: later.set())
    tasks.stop()
    assert later.wait(SECONDS)
    assert (first.cancelled, first.interrupts) == (True, 1)


def test_a_task_that_is_named_is_cancelled_and_no_other(tasks: TaskThread) -> None:
    first, second = Blocking(), Blocking()
    tasks.add(first, first.interrupt)
    waiting = tasks.add(second, second.interrupt)
    assert first.began.wait(SECONDS)
    waiting.cancel()
    assert (first.interrupts, second.interrupts) == (0, 0)  # what waits blocks nowhere
    first.go.set()
    second.go.set()
    wait(lambda: second.cancelled is not None)
    assert (first.cancelled, second.cancelled) == (False, True)


def test_a_task_that_is_over_interrupts_nothing(tasks: TaskThread) -> None:
    over = Blocking()
    over.go.set()
    task = tasks.add(over, over.interrupt)
    wait(lambda: over.cancelled is not None)
    done = threading.Event()
    tasks.add(lambda _: done.set())
    assert done.wait(SECONDS)
    task.cancel()
    assert over.interrupts == 0


def test_a_fault_is_told_of_and_the_next_task_follows() -> None:
    told: list[Exception] = []
    done = threading.Event()
    tasks = TaskThread(told.append)
    error = PitoolError("no")

    def fail(_: threading.Event) -> None:
        raise error

    tasks.add(fail)
    tasks.add(lambda _: done.set())
    assert done.wait(SECONDS)
    tasks.close(SECONDS)
    assert told == [error]


def test_at_once_means_before_it_returns() -> None:
    told: list[Exception] = []
    tasks = TasksAtOnce(told.append)
    seen: list[bool] = []

    def work(cancel: threading.Event) -> None:
        tasks.stop()  # as a signal handler does in the middle of it
        seen.append(cancel.is_set())

    tasks.add(work)
    tasks.add(lambda cancel: seen.append(cancel.is_set()))
    assert (seen, told) == ([True, False], [])


def loading(started: threading.Event, go: threading.Event) -> Callable[..., Engine]:
    """Return a loader that waits, and then reports progress once more."""

    def load(_: Runnable, on_progress: Callable[[float], None]) -> Engine:
        on_progress(0.1)
        started.set()
        assert go.wait(SECONDS)
        on_progress(0.9)
        return Tracked()

    return load


def test_a_load_is_stopped_after_a_new_conversation_was_begun(
    make_session: Make, runnable: Runnable
) -> None:
    started, go = threading.Event(), threading.Event()
    session = make_session(loading(started, go))
    session.load(runnable)
    assert started.wait(SECONDS)
    session.new()
    session.stop()
    go.set()
    wait(lambda: session.status.phase is Phase.UNLOADED)
    assert session.status.info is None
    assert session.conversation.rows == []


def test_a_load_that_waits_behind_an_answer_is_not_stopped_by_a_new_conversation(
    make_session: Make, runnable: Runnable
) -> None:
    first = Halting()
    loader = Loader(first, Tracked())
    session = make_session(loader)
    session.load(runnable)
    wait(lambda: session.status.phase is Phase.READY)
    session.ask("Count")
    wait(lambda: session.status.timings and session.status.timings.decoded_tokens == 2)
    session.load(runnable)
    session.new()
    wait(lambda: len(loader.loads) == 2 and session.status.phase is Phase.READY)
    assert first.closed


def test_work_in_the_engines_place_is_interrupted_after_a_new_conversation(
    make_session: Make, runnable: Runnable
) -> None:
    session = make_session(Loader(Tracked()))
    session.choose(runnable)
    work = Blocking()
    assert session.step_aside(work, work.interrupt)
    assert work.began.wait(SECONDS)
    assert session.step_aside(work, work.interrupt) is None
    session.new()
    assert work.interrupts == 0
    session.stop()
    wait(lambda: session.status.phase is Phase.UNLOADED)
    assert (work.cancelled, work.interrupts) == (True, 1)
