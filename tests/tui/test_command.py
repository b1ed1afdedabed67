"""The command before anything is drawn."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from contextlib import suppress

import pytest
from click.testing import CliRunner

from pitool.cli.commands import cli
from pitool.errors import UsageError
from tests.cli.conftest import environment


def test_needs_a_terminal() -> None:
    with pytest.raises(UsageError, match="chat needs a terminal: use pitool run for pipes"):
        CliRunner().invoke(cli, ["chat"], catch_exceptions=False)


def test_help_shows_an_example() -> None:
    result = CliRunner().invoke(cli, ["chat", "--help"])
    assert result.exit_code == 0
    assert "pitool chat sample-1gb --context" in result.output


def test_a_terminal_that_cannot_draw_is_told_of_the_chat_line_by_line() -> None:
    ours, theirs = pty.openpty()
    done = subprocess.Popen(
        [sys.executable, "-m", "pitool", "chat"], stdin=theirs, stdout=theirs, stderr=theirs,
        env={**environment(), "TERM": "dumb"},
    )  # fmt: skip
    os.close(theirs)
    said = b""
    with suppress(OSError):  # the terminal is gone with the program
        while piece := os.read(ours, 4096):
            said += piece
    os.close(ours)
    assert done.wait() == 2
    assert b"\x1b" not in said
    assert "chat line by line: pitool run -i" in " ".join(said.decode().split())
