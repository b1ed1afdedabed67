"""The comparison of two artifacts: what runs in which order."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pitool.catalog.bundles import Runnable
from pitool.catalog.manifest import Artifact, FileEntry, MemoryLine
from pitool.chat.compare import Comparison, SideState, room_for
from pitool.device.forecast import Forecast
from pitool.engine.base import Engine, Message, Sampling
from pitool.errors import DoesNotFit

from .helpers import LoadLog, Tracked

PROMPT = [Message("user", "Why?")]


def one(folder: Path, quantisation: str, needed: int) -> Runnable:
    """Return a runnable that needs so many bytes by its plan."""
    file = FileEntry(f"{quantisation}.gguf", 7, "0" * 64)
    artifact = Artifact(
        "gguf", quantisation, (file,), "llama", 1000, 4096, 4.5, (MemoryLine("all", needed),), ()
    )
    return Runnable("Model", "gguf", quantisation, folder / file.path, 7, 4096, artifact)


@pytest.fixture
def two(tmp_path: Path) -> tuple[Runnable, Runnable]:
    return one(tmp_path, "Q4_K_M", 1_265_000_000), one(tmp_path, "Q8_0", 2_045_000_000)


def compare(load: LoadLog, available: int | None, two: tuple[Runnable, Runnable]) -> Comparison:
    comparing = Comparison(
        load, lambda _: 7, lambda r: Forecast(r.planned, available, None), lambda: None
    )
    comparing.run(two, PROMPT, Sampling(), threading.Event())
    return comparing


def test_without_room_the_first_ends_before_the_second(two: tuple[Runnable, Runnable]) -> None:
    load = LoadLog()
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
    load = LoadLog()
    comparing = compare(load, 4_000_000_000, two)
    comparing.run(two, PROMPT, Sampling(), threading.Event())
    answers = ["answer Q4_K_M", "answer Q8_0"]
    assert load.lines == ["load Q4_K_M", answers[0], "load Q8_0", answers[1], *answers]
    comparing.close()
    assert load.lines[-2:] == ["close Q4_K_M", "close Q8_0"]


def test_an_artifact_that_is_not_chosen_any_more_is_closed(
    two: tuple[Runnable, Runnable], tmp_path: Path
) -> None:
    load = LoadLog()
    comparing = compare(load, 4_000_000_000, two)
    other = one(tmp_path, "Q4_0", 423_000_000)
    comparing.run((two[0], other), PROMPT, Sampling(), threading.Event())
    assert load.lines[4:6] == ["close Q8_0", "answer Q4_K_M"]


def test_unknown_memory_is_no_room(two: tuple[Runnable, Runnable]) -> None:
    assert not room_for(two, [None, None]).together
    assert not room_for(two, [Forecast(1, None, None), Forecast(1, None, None)]).together


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
