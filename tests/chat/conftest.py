"""A file to load, and sessions on engines of the test's choice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pitool.catalog.bundles import Runnable
from pitool.chat.engine_slot import Load
from pitool.chat.session import Session


@pytest.fixture
def runnable(tmp_path: Path) -> Runnable:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"weights")
    return Runnable("Raspberry-1.7B", "gguf", "Q4_K_M", file, 7, 4096)


@pytest.fixture
def make_session() -> Iterator[Callable[..., Session]]:
    made: list[Session] = []

    def make(load: Load, notify: Callable[[], None] = lambda: None, **more: Any) -> Session:
        made.append(Session(load, lambda _: 1000, notify, **more))
        return made[-1]

    yield make
    for session in made:
        session.close()
