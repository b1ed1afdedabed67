"""Progress where stderr is no terminal: plain lines, each once, and none on stdout."""

from __future__ import annotations

import re

import pytest

from pitool.report import progress
from pitool.report.progress import Hosts, Silent, Stages, StatusLine, counting, stage_of


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    out, err = capsys.readouterr()
    assert out == ""
    return [re.sub(r"\d+\.\d+ s", "N s", line) for line in err.splitlines()]


def test_a_stage_has_a_line_at_its_begin_and_one_at_its_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Stages() as stages:
        stages.stage("quantising", 3)
        stages.advance(1)
        stages.stage("hashing", 10, bytes_=True)
    assert lines(capsys) == ["quantising ...", "quantising: N s", "hashing ...", "hashing: N s"]


def test_a_stage_that_failed_is_not_called_done(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="broken"), Stages() as stages:
        stages.stage("quantising", 3)
        raise ValueError("broken")
    assert lines(capsys) == ["quantising ..."]


def test_a_job_of_items_has_a_line_an_item(capsys: pytest.CaptureFixture[str]) -> None:
    with Stages() as stages:
        stages.stage("hashing", 1)
        stages.begin("q4_0", 0, 2)
        stages.stage("measuring", 2)
        stages.end()
        stages.begin("gptq", 1, 2)
        stages.end("not made: no torch")
    assert lines(capsys) == [
        "hashing ...", "hashing: N s", "1/2 q4_0: N s", "2/2 gptq: not made: no torch",
    ]  # fmt: skip


class Recorded(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def stage(self, title: str, total: int, *, bytes_: bool = False) -> None:
        self.told.append((title, total, bytes_))

    def advance(self, count: int) -> None:
        self.told.append(count)


def test_counts_of_what_is_done_become_steps() -> None:
    recorded = Recorded()
    on_unit = counting(recorded)
    for done in (2, 3, 7):
        on_unit(done, 7)
    assert recorded.told == [2, 1, 4]
    recorded = Recorded()
    on_bytes = stage_of(recorded, "checking", bytes_=True)
    assert recorded.told == []
    on_bytes(5, 9)
    on_bytes(9, 9)
    assert recorded.told == [("checking", 9, True), 5, 4]


def test_hosts_say_each_quarter_once(capsys: pytest.CaptureFixture[str]) -> None:
    with Hosts(["pi@a", "pi@b"]) as hosts:
        hosts.say("pi@b", "copying")
        for count in (10, 30, 40, 55, 100):
            hosts.arrived("pi@a", count, 100)
    assert lines(capsys) == [
        "pi@b: copying", "pi@a: 30% copied", "pi@a: 55% copied",
        "pi@a: 100% copied",
    ]  # fmt: skip


def test_a_status_line_is_a_line_each_without_a_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status = StatusLine()
    status.show("warm-up")
    status.out("a row")
    status.clear()
    out, err = capsys.readouterr()
    assert (out, err) == ("a row\n", "warm-up\n")


def test_a_status_line_is_overwritten_and_never_wraps_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "moves", lambda: True)
    monkeypatch.setenv("COLUMNS", "20")
    status = StatusLine()
    status.show("a status that is longer than the terminal is wide")
    status.out("a row")
    out, err = capsys.readouterr()
    assert out == "a row\n"
    shown = err.split(progress.ERASE)
    assert [len(part) for part in shown] == [0, 19, 0]
