"""What a test does to an engine, and its statistics."""

from __future__ import annotations

import re
import statistics
import subprocess
import sys

import pytest

from pitool.bench.run import Result, Workload, measure
from pitool.device.activity import Look
from pitool.device.sensors import Reading
from tests.bench.conftest import Recorder

PROMPT, GENERATE = Workload(prompt=512), Workload(generate=128)


def last(results: list[Result], workload: Workload) -> Result:
    return [result for result in results if result.workload == workload][-1]


def test_a_prompt_is_warmed_up_whole_and_cleared_before_each_repetition() -> None:
    engine = Recorder()
    list(measure(engine, [PROMPT], 3))
    warm_up, repetition = [("clear", 0), ("pp", 512)], [("clear", 0), ("pp", 512)]
    assert engine.calls == warm_up + repetition * 3


def test_a_generation_is_warmed_up_with_one_token() -> None:
    engine = Recorder()
    list(measure(engine, [GENERATE], 2))
    assert engine.calls == [("clear", 0), ("tg", 1)] + [("clear", 0), ("tg", 128)] * 2


def test_each_test_has_its_own_warm_up() -> None:
    engine = Recorder()
    list(measure(engine, [PROMPT, GENERATE], 1))
    assert [call for call in engine.calls if call[0] != "clear"] == [
        ("pp", 512),
        ("pp", 512),
        ("tg", 1),
        ("tg", 128),
    ]


def test_five_repetitions_are_the_default() -> None:
    results = list(measure(Recorder(), [PROMPT]))
    assert [len(result.samples_ns) for result in results] == [0, 1, 2, 3, 4, 5]


def test_the_warm_up_is_not_counted() -> None:
    results = list(measure(Recorder([100.0, 2.0, 4.0]), [PROMPT], 2))
    assert last(results, PROMPT).samples_ns == (2_000_000_000, 4_000_000_000)


def test_mean_and_deviation_are_of_the_rates_and_of_a_sample() -> None:
    seconds = [2.0, 1.9, 2.3, 2.05, 2.2]
    result = last(list(measure(Recorder([9.0, *seconds]), [PROMPT])), PROMPT)
    rates = [512 / s for s in seconds]
    assert result.samples_ts == pytest.approx(rates)
    assert result.avg_ts == pytest.approx(statistics.mean(rates))
    assert result.stddev_ts == pytest.approx(statistics.stdev(rates))
    assert result.avg_ts != pytest.approx(512 / statistics.mean(seconds), rel=1e-4)
    assert result.avg_ns == pytest.approx(statistics.mean(seconds) * 1e9)
    assert result.stddev_ns == pytest.approx(statistics.stdev(seconds) * 1e9, abs=1)


def test_one_repetition_has_no_deviation() -> None:
    result = last(list(measure(Recorder(), [GENERATE], 1)), GENERATE)
    assert (result.avg_ts, result.stddev_ts, result.stddev_ns) == (128.0, 0.0, 0)


def test_a_clock_that_stood_still_is_no_division_by_zero() -> None:
    result = last(list(measure(Recorder([0.0]), [GENERATE], 1)), GENERATE)
    assert result.samples_ns == (1,)


def test_tokens_are_random_within_the_vocabulary() -> None:
    engine = Recorder()
    list(measure(engine, [PROMPT], 2))
    assert all(0 <= i < 256 for ids in engine.ids for i in ids)
    assert all(len(set(ids)) > 100 for ids in engine.ids)
    assert engine.ids[1] != engine.ids[2]


def test_tokens_are_the_same_in_every_run() -> None:
    first, second = Recorder(), Recorder()
    for engine in (first, second):
        list(measure(engine, [PROMPT, GENERATE], 2))
    assert first.ids == second.ids


def test_a_model_that_begins_with_a_token_gets_it_first() -> None:
    engine = Recorder(bos=1)
    list(measure(engine, [PROMPT, GENERATE], 2))
    assert all(ids[0] == 1 for ids in engine.ids)
    assert [len(ids) for ids in engine.ids] == [512, 512, 512, 1, 128, 128]


def test_depth_is_filled_once_and_kept_where_the_model_can() -> None:
    deep = Workload(prompt=16, depth=64)
    engine = Recorder()
    engine.keeps = 100
    list(measure(engine, [deep], 3, warm_up=False))
    filled = [("clear", 0), ("clear", 0), ("pp", 64), ("pp", 16)]
    assert engine.calls == [*filled, *[("rewind", 64), ("pp", 16)] * 2]
    engine = Recorder()
    list(measure(engine, [deep], 2, warm_up=False))
    assert engine.calls == [*filled, ("clear", 0), *filled[1:]]


def test_depth_is_filled_before_each_repetition_and_not_timed() -> None:
    engine = Recorder([5.0, 100.0, 2.0])
    deep = Workload(prompt=16, depth=64)
    results = list(measure(engine, [deep], 1))
    assert engine.calls == [("clear", 0), ("pp", 16), ("clear", 0), ("pp", 64), ("pp", 16)]
    assert last(results, deep).samples_ns == (2_000_000_000,)
    assert deep.name == "pp16 @ d64"
    assert deep.context == 80


def test_both_together_are_one_time() -> None:
    both = Workload(prompt=512, generate=128)
    results = list(measure(Recorder([9.0, 9.0, 2.0, 3.0]), [both], 1))
    assert last(results, both).samples_ns == (5_000_000_000,)
    assert last(results, both).samples_ts == (640 / 5,)
    assert both.name == "pp512+tg128"


def test_the_board_is_looked_at_between_repetitions_only() -> None:
    engine = Recorder()

    def look() -> Look:
        engine.calls.append(("look", 0))
        return Look(0.0, Reading(None, None, None))

    result = list(measure(engine, [GENERATE], 2, look))[-1]
    repetition = [("clear", 0), ("tg", 128), ("look", 0)]
    assert engine.calls == [("clear", 0), ("tg", 1), ("look", 0), *repetition, *repetition]
    assert len(result.looks) == 3


def test_stopping_leaves_what_was_measured() -> None:
    results = measure(Recorder(), [PROMPT, GENERATE], 3)
    seen = [next(results) for _ in range(3)]
    assert len(seen[-1].samples_ns) == 2


def test_threads_are_those_of_the_kind_of_work() -> None:
    results = list(measure(Recorder(), [PROMPT, GENERATE], 1))
    assert last(results, PROMPT).threads == 4
    assert last(results, GENERATE).threads == 3


def test_the_time_is_iso_8601_in_utc() -> None:
    (begun, *_) = measure(Recorder(), [PROMPT], 1)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", begun.test_time)


def test_the_command_and_the_library_load_no_engine() -> None:
    code = (
        "import sys, pitool.cli.bench, pitool.bench.run, pitool.bench.rows;"
        "print(*({'numpy', 'llama_cpp', 'textual', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
