"""A child process: answers are not mixed up, a death is one sentence, a close never blocks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from pitool.errors import DoesNotFit, PitoolError, WorkerDied
from pitool.process.child import Child, Result

ROOT = Path(__file__).parents[2]
# A close that blocks is a failure, not a day of waiting; what takes how long is not asserted.
pytestmark = pytest.mark.timeout(120)


def start(
    silence: float | None = None,
    explain: Callable[[], WorkerDied | None] | None = None,
    **environment: str,
) -> Child:
    return Child(
        "tests.process.obstinate",
        name="the test's child",
        advice="start it again",
        remedies={signal.SIGKILL: "take a smaller test"},
        close_seconds=1.0,
        silence_seconds=silence,
        explain=explain,
        environment={"PYTHONPATH": str(ROOT), **environment},
    )


@pytest.fixture
def child() -> Iterator[Child]:
    with start() as started:
        yield started


def gone(child: Child) -> bool:
    """Tell whether a child has ended and was waited for."""
    try:
        os.kill(child.pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_one_that_dies_while_nothing_is_asked_is_no_zombie(child: Child) -> None:
    child.call("echo", value="here")
    os.kill(child.pid, signal.SIGKILL)
    while not gone(child):
        time.sleep(0.01)
    with pytest.raises(WorkerDied, match="take a smaller test"):
        child.call("echo", value="there")


class Waiting:
    """A thread that uses the child and keeps what was raised there."""

    def __init__(self, work: Callable[[], object]) -> None:
        self.error: PitoolError | None = None

        def run() -> None:
            try:
                work()
            except PitoolError as error:
                self.error = error

        self.thread = threading.Thread(target=run)
        self.thread.start()

    @property
    def sentence(self) -> str:
        self.thread.join()
        assert isinstance(self.error, WorkerDied)
        return self.error.sentence


# -- requests ------------------------------------------------------------------------------


def test_values_bytes_events_and_errors_come_back(child: Child) -> None:
    value, payload = child.call("echo", value={"é": [1, None]}, size=300_000)
    assert (value, payload) == ({"é": [1, None]}, bytes(300_000))
    with pytest.raises(DoesNotFit) as caught:
        child.call("fail")
    assert (caught.value.what, caught.value.do) == ("it is too large", "take a smaller one")
    assert child.call("echo", value="it lives").value == "it lives"


def test_a_late_answer_is_not_that_of_the_next_request(child: Child) -> None:
    talk = child.stream("talk")
    assert [next(talk)["number"] for _ in range(3)] == [0, 1, 2]
    talk.close()
    for value in ("first", "second"):
        assert child.call("echo", value=value).value == value


def test_what_raises_at_an_event_gives_the_request_up(child: Child) -> None:
    def refuse(_: object) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        child.call("talk", refuse)
    assert child.call("cancels").value == [1, False]


def test_a_cancel_reaches_the_running_request_only(child: Child) -> None:
    child.cancel()
    events = child.stream("talk")
    next(events)
    child.cancel()
    with pytest.raises(StopIteration) as end:
        while True:
            next(events)
    assert end.value.value == ("late", b"")
    child.cancel()
    assert child.call("cancels").value == [1, False]


def test_requests_of_several_threads_take_turns(child: Child) -> None:
    found: list[tuple[int, int]] = []

    def ask(number: int) -> None:
        found.extend((number, child.call("echo", value=number).value) for _ in range(20))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 80
    assert all(asked == answered for asked, answered in found)


# -- several at once -----------------------------------------------------------------------


def counted(child: Child, most: int, size: int = 0) -> Generator[dict[str, Any], None, Result]:
    return child.stream("count", most=most, size=size)


def test_requests_run_side_by_side_each_with_its_own_events(child: Child) -> None:
    first, second = counted(child, 10_000_000), counted(child, 40)
    next(first)
    numbers = [event["number"] for event in second]
    assert numbers == list(range(40))
    again = [next(first) for _ in range(20)]
    assert [event["number"] for event in again] == list(range(1, 21))
    assert child.call("echo", value="between").value == "between"
    first.close()


def test_one_that_is_read_slowly_holds_up_no_other(child: Child) -> None:
    slow = counted(child, 200, size=20_000)  # 4 MB, more than any pipe holds
    next(slow)
    quick = list(counted(child, 300))
    assert len(quick) == 300
    assert [event["number"] for event in slow] == list(range(1, 200))


def test_giving_one_up_leaves_the_others_alone(child: Child) -> None:
    kept, left = counted(child, 300), counted(child, 10_000_000)
    assert next(kept)["number"] == 0
    next(left)
    left.close()
    rest = list(kept)
    assert [event["number"] for event in rest] == list(range(1, 300))
    while next(last := counted(child, 5))["others"]:
        last.close()


@pytest.mark.parametrize("leave", [True, False], ids=["one that is left", "all"])
def test_a_cancel_is_not_lost_while_another_request_is_sent(child: Child, leave: bool) -> None:
    events = counted(child, 10_000_000)
    next(events)
    with child._wire._sending:
        events.close() if leave else child.cancel()
    if not leave:
        assert len(list(events)) < 10_000_000
    while next(last := counted(child, 5))["others"]:
        last.close()


def test_a_cancel_reaches_all_that_are_open(child: Child) -> None:
    events = [counted(child, 10_000_000) for _ in range(3)]
    for each in events:
        next(each)
    child.cancel()
    for each in events:
        with pytest.raises(StopIteration) as end:
            while True:
                next(each)
        assert end.value.value.value < 10_000_000


def test_a_death_is_told_to_all_who_wait(child: Child) -> None:
    waiting = []
    for _ in range(3):
        events = counted(child, 10_000_000)
        next(events)
        waiting.append(Waiting(lambda events=events: list(events)))  # type: ignore[misc]
    os.kill(child.pid, signal.SIGKILL)
    sentence = f"the test's child was {DEATHS[signal.SIGKILL]}"
    assert [each.sentence for each in waiting] == [sentence] * 3


def test_what_raises_while_nothing_comes_gives_the_request_up(child: Child) -> None:
    class EnoughError(Exception):
        pass

    def refuse() -> None:
        raise EnoughError

    with pytest.raises(EnoughError):
        child.call("deaf", on_wait=refuse)
    child.close()
    assert gone(child)


def test_a_cancel_waits_for_nobody(child: Child) -> None:
    events = child.stream("talk")
    next(events)
    os.kill(child.pid, signal.SIGSTOP)
    for _ in range(10_000):  # more than the pipe holds
        child.cancel()
    waiting = Waiting(events.close)
    child.close()
    waiting.thread.join()
    assert gone(child)


# -- deaths --------------------------------------------------------------------------------


DEATHS = {
    signal.SIGKILL: "killed, most likely because memory ran out (SIGKILL); take a smaller test",
    signal.SIGILL: (
        "stopped by an instruction that this CPU does not have (SIGILL);"
        " install a wheel that is built for this board"
    ),
    signal.SIGABRT: (
        "aborted by the runtime (SIGABRT) after printing: GGML_ASSERT(x); start it again"
    ),
    signal.SIGUSR1: "terminated by a signal (SIGUSR1); start it again",
}


@pytest.mark.parametrize("number", DEATHS)
def test_a_death_by_a_signal(child: Child, number: signal.Signals) -> None:
    with pytest.raises(WorkerDied) as caught:
        child.call("die", words="loading\nGGML_ASSERT(x)", signal=number)
    assert caught.value.sentence == f"the test's child was {DEATHS[number]}"
    assert caught.value.details == "loading\nGGML_ASSERT(x)"
    with pytest.raises(WorkerDied):
        child.call("echo", value="dead for good")


def test_an_unforeseen_fault_ends_it_with_its_last_words(child: Child) -> None:
    with pytest.raises(WorkerDied) as caught:
        child.call("crash")
    assert caught.value.sentence == (
        "the test's child exited with code 1 after printing: ValueError: never foreseen;"
        " start it again"
    )
    assert caught.value.details.startswith("Traceback")


@pytest.mark.thorough
@pytest.mark.parametrize("size", [0, 2_000_000], ids=["reading", "writing"])
def test_one_that_does_nothing_is_given_up(size: int) -> None:
    with start(silence=0.5) as child:
        assert child.call("echo", value=1).value == 1
        os.kill(child.pid, signal.SIGSTOP)
        for _ in range(2):  # dead for good
            with pytest.raises(WorkerDied) as caught:
                child.call("echo", value="x" * size)
            assert caught.value.sentence == (
                "the test's child did nothing for 0.5 seconds; start it again"
            )
    assert gone(child)


@pytest.mark.thorough
def test_one_that_waits_for_others_is_given_up_when_they_are_gone() -> None:
    """As a model over several boards, whose process computes nothing meanwhile."""
    asked = 0

    def explain() -> WorkerDied | None:
        nonlocal asked
        asked += 1
        return WorkerDied("the board is gone", "go on without it") if asked > 2 else None

    with start(silence=0.5, explain=explain) as child:
        with pytest.raises(WorkerDied, match="the board is gone: go on without it"):
            child.call("stick")
        assert asked == 3
    assert gone(child)


@pytest.mark.parametrize(
    ("known", "said"), [(WorkerDied("the board is gone", "go on"), "the board"), (None, "SIGABRT")]
)
def test_a_death_that_others_explain_is_told_in_their_words(
    known: WorkerDied | None, said: str
) -> None:
    with start(explain=lambda: known) as child, pytest.raises(WorkerDied, match=said):
        child.call("die", words="GGML_ASSERT(x)", signal=signal.SIGABRT)


@pytest.mark.thorough
def test_one_that_computes_without_a_word_is_waited_for() -> None:
    # Long enough for a busy machine to let it compute at all.
    with start(silence=1.5) as child:
        assert child.call("compute", seconds=2.5).value == "done"


def test_one_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nothing"))
    with pytest.raises(PitoolError, match="cannot start"):
        start()


# -- the end -------------------------------------------------------------------------------


def test_a_close_ends_it_and_may_be_repeated(child: Child) -> None:
    assert child.call("echo", value=1).value == 1
    child.close()
    assert gone(child)
    child.close()
    with pytest.raises(WorkerDied, match="the test's child was closed"):
        child.call("echo", value=2)


def test_one_that_was_stopped_while_idle_is_gone(child: Child) -> None:
    assert child.call("echo", value=1).value == 1
    os.kill(child.pid, signal.SIGSTOP)
    child.close()
    assert gone(child)


def test_one_that_was_stopped_while_a_thread_reads_is_gone(child: Child) -> None:
    events = child.stream("talk")
    next(events)
    os.kill(child.pid, signal.SIGSTOP)
    waiting = Waiting(lambda: list(events))
    child.close()
    assert gone(child)
    assert waiting.sentence == "the test's child was closed; start it again"


def test_one_that_does_not_read_while_a_thread_writes_is_gone(child: Child) -> None:
    assert child.call("echo", value=1).value == 1
    os.kill(child.pid, signal.SIGSTOP)
    writing = Waiting(lambda: child.call("echo", value="x" * 2_000_000))
    while not child._wire._sending.locked():
        pass
    child.close()
    assert gone(child)
    assert writing.sentence == "the test's child was closed; start it again"


@pytest.mark.parametrize("method", ["stick", "deaf"])
def test_one_that_is_stuck_is_gone(method: str) -> None:
    with start(STAYS="1") as child:
        events = child.stream(method)
        next(events)
        waiting = Waiting(lambda: list(events))
        child.close()
        assert gone(child)
        assert waiting.sentence == "the test's child was closed; start it again"


def test_closing_from_two_threads_at_once(child: Child) -> None:
    os.kill(child.pid, signal.SIGSTOP)
    closing = [threading.Thread(target=child.close) for _ in range(2)]
    for thread in closing:
        thread.start()
    for thread in closing:
        thread.join()
    assert gone(child)


def test_a_kill_frees_who_waits(child: Child) -> None:
    events = child.stream("talk")
    next(events)
    os.kill(child.pid, signal.SIGSTOP)
    waiting = Waiting(lambda: list(events))
    child.kill()
    assert waiting.sentence == "the test's child was closed; start it again"


STARTS = """
import os, signal, sys, threading
from pitool.process.child import kill_all
from tests.process.test_child import start
child = start()
talk = child.stream("talk")
next(talk)
os.kill(child.pid, int(sys.argv[1]))
threading.Thread(target=lambda: list(talk), daemon=True).start()
print(child.pid, flush=True)
exec(sys.argv[2])
"""
ENDS = {
    "exit": (signal.SIGSTOP, "sys.exit()"),
    "fault": (signal.SIGSTOP, "raise KeyboardInterrupt"),
    "at once": (signal.SIGSTOP, "kill_all(); os._exit(0)"),
    "killed": (0, "os.kill(os.getpid(), signal.SIGKILL)"),
    "killed while it is stopped": (
        signal.SIGSTOP,
        (
            "while ') T ' not in open(f'/proc/{child.pid}/stat').read(): pass\n"
            "os.kill(os.getpid(), signal.SIGKILL)"
        ),
    ),
}


@pytest.mark.thorough
@pytest.mark.parametrize(("number", "end"), ENDS.values(), ids=ENDS)
def test_none_is_left_by_a_program_that_ends(number: int, end: str) -> None:
    program = subprocess.run(
        [sys.executable, "-c", STARTS, str(int(number)), end],
        cwd=ROOT, capture_output=True, check=False, start_new_session=True,
    )  # fmt: skip
    child = Path(f"/proc/{int(program.stdout)}/stat")
    while child.exists() and ") Z " not in child.read_text():
        pass


def test_a_busy_one_abandons_its_work_when_the_parent_hangs_up(tmp_path: Path) -> None:
    marker = tmp_path / "abandoned"
    with start(ABANDONED=str(marker)) as child:
        events = child.stream("talk")
        next(events)
        waiting = Waiting(lambda: list(events))
    assert waiting.sentence
    assert marker.exists()


def test_an_idle_one_has_nothing_to_abandon(tmp_path: Path) -> None:
    marker = tmp_path / "abandoned"
    with start(ABANDONED=str(marker)) as child:
        assert child.call("echo", value=1).value == 1
    assert gone(child)
    assert not marker.exists()
