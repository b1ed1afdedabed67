"""The log of what failed: private, bounded, and never a failure of its own."""

from __future__ import annotations

import logging
import stat
import sys
from pathlib import Path

import pytest

from pitool.catalog import fault_log


def test_an_entry_says_when_what_and_why(
    private_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["pitool", "run", "What is my name?"])
    path = fault_log.record("it\nbroke", "first\n  second\x1b[2J\n")
    assert path == private_home / "fault.log"
    head, *details = fault_log.tail(10).splitlines()
    assert head.endswith(" run: it broke")
    assert details == ["    first", "      second\ufffd[2J"]
    assert "name" not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert fault_log.tail(1) == details[1]


def test_it_stays_small_and_keeps_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fault_log, "LARGEST", 4096)
    path = fault_log.record("number 0")
    assert path is not None
    for number in range(1, 300):
        fault_log.record(f"number {number}")
        assert path.stat().st_size < 4096 + 200
    lines = path.read_text().splitlines()
    assert [line.rpartition(" ")[2] for line in lines] == [
        str(number) for number in range(300 - len(lines), 300)
    ]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_where_nothing_can_be_written_nothing_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    for home in (str(tmp_path / "file" / "x"), "~nosuch-user/x"):
        monkeypatch.setenv("PITOOL_HOME", home)
        assert fault_log.record("it broke") is None
    monkeypatch.setenv("PITOOL_HOME", str(tmp_path))
    assert fault_log.tail(10) == ""


def test_warnings_of_our_modules_are_kept_once(private_home: Path) -> None:
    fault_log.keep_warnings()
    fault_log.keep_warnings()
    logger = logging.getLogger("pitool.chat.session")
    logger.info("all is well")
    logger.warning("dropped a file\nits details")
    logger.error("a fault", exc_info=ZeroDivisionError("once"))
    text = (private_home / "fault.log").read_text()
    assert text.count("dropped a file") == 1
    assert "    its details" in text
    assert "    ZeroDivisionError: once" in text
    assert "all is well" not in text
