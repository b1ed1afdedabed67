"""Damaged files of every kind: a value or one sentence, in bounded memory and time.

``pytest tests/fuzz --long`` reads many more, and keeps each that it finds a fault with in
``found``, where every run reads it again.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.fuzz.limits import Confined
from tests.fuzz.readers import BROKEN, READERS

FOUND = Path(__file__).parent / "found"
SHORT, LONG = 60, int(os.environ.get("PITOOL_FUZZ_CASES") or 3200)
EVERY = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole folders of all readers."""
    folder = tmp_path_factory.mktemp("fuzz")
    for name, reader in (READERS | BROKEN).items():
        (folder / name).mkdir()
        reader.make(folder / name)
    return folder


@pytest.fixture(scope="module")
def seeds(place: Path) -> dict[str, bytes]:
    return {name: (place / name / reader.victim).read_bytes() for name, reader in READERS.items()}


@pytest.fixture(scope="module")
def confined(place: Path, seeds: dict[str, bytes]) -> Iterator[Confined]:
    started = Confined(place)
    yield started
    started.close()


class Case(bytes):
    """A damaged file that is not written out when hypothesis tells of it: some are megabytes."""

    def __repr__(self) -> str:
        return f"<{len(self)} bytes>"


def check(outcome: str) -> str:
    """Return how a case ended; AssertionError unless it is a value or a sentence."""
    assert not outcome.startswith("fault"), outcome
    assert re.fullmatch(r"read|refused [2-5]: [^\x00-\x1f\x7f\ud800-\udfff]{1,2500}[.?]", outcome)
    return outcome.partition(":")[0]


@pytest.mark.thorough
@pytest.mark.parametrize("name", READERS)
def test_what_is_whole_is_read(name: str, confined: Confined, seeds: dict[str, bytes]) -> None:
    assert confined.read(name, seeds[name]) == "read"


@pytest.mark.thorough
@pytest.mark.timeout(7200)  # of the long round
@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisWarning")  # of long reprs
@pytest.mark.parametrize("name", READERS)
def test_what_is_damaged_ends_in_a_sentence(
    name: str, confined: Confined, seeds: dict[str, bytes], request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:  # fmt: skip
    long = request.config.getoption("--long")
    folder = FOUND if long else tmp_path
    ends: Counter[str] = Counter()

    @settings(
        max_examples=LONG if long else SHORT, deadline=None, database=None, derandomize=not long,
        suppress_health_check=EVERY, report_multiple_bugs=False,
        phases=(Phase.generate, Phase.shrink),
    )  # fmt: skip
    @given(data=READERS[name].damage(seeds[name]).map(Case))
    def every(data: bytes) -> None:
        outcome = confined.read(name, data)
        if outcome.startswith("fault"):
            keep(folder, name, data)
        ends[check(outcome)] += 1

    every()
    print(f"{name}: {ends.total()} cases, {dict(ends)}")


def keep(folder: Path, name: str, data: bytes) -> None:
    """Keep a case that a reader failed at; the last one that is kept is the smallest."""
    path = folder / name / "last"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def found() -> list[Path]:
    return sorted(FOUND.glob("*/*"))


@pytest.mark.parametrize("path", found(), ids=lambda p: f"{p.parent.name}-{p.name}")
def test_what_was_found_once_stays_mended(path: Path, confined: Confined) -> None:
    check(confined.read(path.parent.name, path.read_bytes()))


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("name", "what"), [("memory", "MemoryError"), ("time", "ended with"), ("fault", "KeyError")]
)
def test_a_broken_reader_would_be_found(name: str, what: str, confined: Confined) -> None:
    outcome = confined.read(name, b"")
    assert outcome.startswith("fault") and what in outcome
