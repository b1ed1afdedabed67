"""Making an artifact in a child: what is raised there is raised here."""

from __future__ import annotations

from pathlib import Path

import pytest

from pitool.checkpoint.source import Source
from pitool.errors import UsageError
from pitool.lab import making
from pitool.report.progress import Silent
from tests.tiny import write_checkpoint


def test_an_error_of_the_child_keeps_its_kind_and_its_advice(tmp_path: Path) -> None:
    source = Source("tiny", None, write_checkpoint(tmp_path / "tiny", num_hidden_layers=1))
    (tmp_path / "windows.json").write_text("[]")
    order = making.Order(source, "q8_1", tmp_path, tmp_path, tmp_path / "windows.json", 1)
    with pytest.raises(UsageError, match=r"'q8_1'.*did you mean 'q8_0'"):
        making.make(order, Silent())
