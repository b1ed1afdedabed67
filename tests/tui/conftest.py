"""Demonstration bundles, in colours."""

from __future__ import annotations

from pathlib import Path

import pytest

from pitool.catalog.bundles import Runnable, choose
from pitool.tui import demo


@pytest.fixture(autouse=True)
def colours(private_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Show colours, which the tests of other rooms switch off."""
    monkeypatch.delenv("NO_COLOR", raising=False)


@pytest.fixture
def runnable(tmp_path: Path) -> Runnable:
    return choose(demo.write_bundles(tmp_path)[0])
