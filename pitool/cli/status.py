"""One line of progress on stderr that a terminal overwrites; plain lines without a terminal."""

from __future__ import annotations

import os
import sys

import click

ERASE = "\r\x1b[K"


class Status:
    """Shows what is going on, and makes way for lines that stay."""

    def __init__(self) -> None:
        self._moves = sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._shown = False

    def show(self, text: str) -> None:
        """Say what is done at the moment."""
        if not self._moves:
            click.echo(text, err=True)
            return
        # A longer line would wrap, and only its last row be erased.
        width = os.get_terminal_size(sys.stderr.fileno()).columns or 80
        click.echo(f"{ERASE}{text[: width - 1]}", err=True, nl=False)
        self._shown = True

    def say(self, text: str) -> None:
        """Write a line on stderr that stays."""
        self.clear()
        click.echo(text, err=True)

    def out(self, text: str) -> None:
        """Write a line on stdout."""
        self.clear()
        click.echo(text)

    def clear(self) -> None:
        """Erase what is shown."""
        if self._shown:
            click.echo(ERASE, err=True, nl=False)
            self._shown = False
