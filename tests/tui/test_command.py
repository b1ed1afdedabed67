"""The command before anything is drawn."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from pitool.cli.commands import cli
from pitool.errors import UsageError


def test_needs_a_terminal() -> None:
    with pytest.raises(UsageError, match="chat needs a terminal: use pitool run for pipes"):
        CliRunner().invoke(cli, ["chat"], catch_exceptions=False)


def test_help_shows_an_example() -> None:
    result = CliRunner().invoke(cli, ["chat", "--help"])
    assert result.exit_code == 0
    assert "pitool chat sample-1gb --context" in result.output
