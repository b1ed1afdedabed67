"""Demonstration bundles, and apps and sessions on engines of the test's choice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pitool.catalog.bundles import Runnable, choose
from pitool.chat.loaded import Load
from pitool.chat.session import Session
from pitool.tui import demo


@pytest.fixture(autouse=True)
def colours(private_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Show colours, which the tests of other rooms switch off."""
    monkeypatch.delenv("NO_COLOR", raising=False)


@pytest.fixture
def runnable(tmp_path: Path) -> Runnable:
    return choose(demo.write_bundles(tmp_path)[0])


@pytest.fixture
def make_session() -> Iterator[Callable[..., Session]]:
    made: list[Session] = []

    def make(load: Load, notify: Callable[[], None] = lambda: None, *, system: str = "") -> Session:
        made.append(Session(load, lambda _: 1000, notify, system=system))
        return made[-1]

    yield make
    for session in made:
        session.close()
