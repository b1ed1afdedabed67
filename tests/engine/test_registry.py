"""An engine from outside: one module and one row, and every command can run its artifacts."""

from __future__ import annotations

from pathlib import Path

import pytest

from pitool.catalog.bundles import Runnable
from pitool.device.detect import detect
from pitool.device.settings import planned_bytes, untuned
from pitool.engine import worker
from pitool.engine.base import Sampling
from pitool.engine.registry import ENGINES, find_engine
from pitool.errors import BadInput, MissingPart
from pitool.planning.formats import FORMATS, find_format
from pitool.planning.memory import Load

MODULE = """
from pitool.engine.scripted import Scripted


class Echo(Scripted):
    def __init__(self, entry, settings, on_progress=None):
        super().__init__([entry.read_text()], settings=settings)
"""


@pytest.fixture
def echo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runnable:
    """An artifact of a format that pitool does not know, with the row of its engine."""
    (tmp_path / "echo_engine.py").write_text(MODULE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setitem(ENGINES, "echo", "echo_engine:Echo")
    entry = tmp_path / "model.echo"
    entry.write_text("said by the file")
    return Runnable("m", "echo", "F32", entry, 1000, 512)


def test_an_engine_from_outside_runs_in_the_worker(echo: Runnable) -> None:
    settings = untuned(echo, None, detect())
    assert settings.load_mode == "mmap"
    assert planned_bytes(echo, settings) == echo.bytes
    with worker.start(echo.format, echo.entry, settings) as engine:
        assert "".join(t.text for t in engine.stream("go", Sampling())) == "said by the file"


def test_of_a_format_without_a_row_nothing_is_predicted(tmp_path: Path) -> None:
    form = find_format("echo")
    assert (form.title, form.runtime) == ("echo", "echo")
    assert form.memory_of(tmp_path, Load(512), frozenset()) is None
    assert form.streamed_bytes(tmp_path) is None
    assert not form.planned_by_header
    assert form.tunable


def test_every_planned_format_has_an_engine() -> None:
    assert set(FORMATS) <= set(ENGINES)


def test_an_unknown_format_names_the_nearest() -> None:
    with pytest.raises(BadInput, match="unknown model format 'ggufs': did you mean 'gguf'"):
        find_engine("ggufs")


def test_a_runtime_that_is_not_there(echo: Runnable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENGINES, "echo", "no_such_runtime:Echo")
    with pytest.raises(MissingPart, match=r"run \./install\.sh again"):
        worker.start(echo.format, echo.entry, untuned(echo, None, detect()))
