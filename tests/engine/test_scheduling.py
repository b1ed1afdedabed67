"""Whose turn it is at an engine that answers one prompt at a time."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from pitool.engine import worker
from pitool.engine.base import Sampling, Token
from pitool.engine.scheduling import Heard, InTurn
from pitool.engine.scripted import Scripted
from pitool.errors import PitoolError
from tests.engine.test_worker import SETTINGS, script


def run(scheduler: InTurn) -> None:
    while scheduler.busy:
        scheduler.step()


def text(heard: Heard) -> str:
    return "".join(token.text for token in heard.take())


def test_answers_follow_each_other_in_the_order_of_the_questions() -> None:
    scheduler = InTurn(Scripted(["one two", "three", "four five"], settings=SETTINGS))
    heard = [Heard() for _ in range(3)]
    for number, each in enumerate(heard):
        scheduler.add(f"question {number}", Sampling(), each)
    done: list[int] = []
    while scheduler.busy:
        scheduler.step()
        done += [i for i, each in enumerate(heard) if each.done and i not in done]
    assert done == [0, 1, 2]
    assert [text(each) for each in heard] == ["one two", "three", "four five"]


def test_one_that_is_cancelled_ends_and_the_next_is_answered() -> None:
    scheduler = InTurn(Scripted(["a " * 50, "next"], settings=SETTINGS))
    running, waiting, last = Heard(), Heard(), Heard()
    for each in (running, waiting, last):
        scheduler.add("go", Sampling(), each)
    for _ in range(5):
        scheduler.step()
    waiting.cancelled = running.cancelled = True
    scheduler.look()
    run(scheduler)
    assert [list(each.take())[-1].finish for each in (running, waiting)] == ["cancelled"] * 2
    assert text(last) == "next"


def test_a_cancel_is_not_for_the_answer_after_it() -> None:
    """One that ended by itself may be cancelled late; the engine then works for another."""
    scheduler = InTurn(Scripted(["short", "a much longer answer"], settings=SETTINGS))
    first, second = Heard(), Heard()
    for each in (first, second):
        scheduler.add("go", Sampling(), each)
    while not first.done:
        scheduler.step()
    scheduler.step()
    first.cancelled = True
    scheduler.look()
    run(scheduler)
    assert text(second) == "a much longer answer"


def test_a_fault_ends_its_own_answer_only() -> None:
    scheduler = InTurn(Scripted(["a b c d"], fail_after=2, settings=SETTINGS))
    first, second = Heard(), Heard()
    for each in (first, second):
        scheduler.add("go", Sampling(max_tokens=2), each)
    failing = Heard()
    scheduler.add("go", Sampling(), failing)
    run(scheduler)
    assert [text(first), text(second)] == ["a b", "a b"]
    with pytest.raises(PitoolError, match="told to fail"):
        list(failing.take())


def test_threads_share_a_worker_and_each_gets_a_whole_answer(tmp_path: Path) -> None:
    answers = [f"answer {number} " + "word " * number for number in range(8)]
    found: list[str] = []

    def ask() -> None:
        tokens: list[Token] = list(engine.stream("go", Sampling()))
        found.append("".join(token.text for token in tokens))

    with worker.start("script", script(tmp_path, answers=answers), SETTINGS) as engine:
        threads = [threading.Thread(target=ask) for _ in answers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(found) == sorted(answers)


def test_a_request_for_the_whole_cache_waits_for_the_answers(tmp_path: Path) -> None:
    """And an answer that was asked for after it comes after it; the tokenizer waits for nobody."""
    talk = script(
        tmp_path, answers=["word " * 20], decode_rate=50.0, real_time=True, prefill_rate=1e6
    )
    order: list[str] = []

    def cleared() -> None:
        engine.clear()
        order.append("cleared")

    with worker.start("script", talk, SETTINGS) as engine:
        stream = engine.stream("go on", Sampling())
        next(t for t in stream if t.text)
        clearing = threading.Thread(target=cleared)
        clearing.start()
        assert engine.tokenize("ab") == [97, 98]
        order.append("tokenized")
        assert list(stream)[-1].finish == "stop"
        clearing.join()
        assert next(iter(engine.stream("go on", Sampling()))).timings.reused_tokens == 0
    assert order == ["tokenized", "cleared"]
