"""Every call of pitool in the documentation is one that the program takes: its words alone."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from pitool.cli.commands import cli
from pitool.errors import PitoolError

Parse = Callable[[list[str]], object]

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# An indented line, or a part of one after `;`, with variables before it.
CALL = re.compile(r"^ {4}(?:\$ )?((?:[A-Z_]+=\S+ +)*pitool(?: .*)?)$", re.MULTILINE)


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each call of pitool in the code blocks of a page."""
    for line in CALL.findall(text):
        for words in _parts(line):
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words.pop(0)
            if words[:1] == ["pitool"]:
                yield words[1:]
            if words[:3] == ["pitool", "service", "install"]:  # whose options are those of serve
                yield ["serve", *(word for word in words[3:] if word != "--make-key")]


def _parts(line: str) -> Iterator[list[str]]:
    """Yield the words between the pipes and semicolons of a line, without redirections."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in lexer:
        if word in ("|", ";", "&&", "||"):
            yield words
            words = []
        elif word in ("<", ">", ">>"):
            next(lexer, None)
        else:
            words.append(word)
    yield words


@pytest.fixture
def parse(monkeypatch: pytest.MonkeyPatch) -> Parse:
    """Have a command line parsed down to the command that would run, which then does not."""
    monkeypatch.setattr(click.Command, "invoke", lambda *_: None)
    return lambda words: cli.main(words, standalone_mode=False, prog_name="pitool")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.name))
def test_every_command_is_one(page: Path, parse: Parse) -> None:
    wrong = []
    for words in commands(page.read_text(encoding="utf-8")):
        try:
            parse(words)
        except (click.ClickException, PitoolError) as error:
            wrong.append(f"pitool {shlex.join(words)}: {error}")
    assert wrong == []


def test_there_are_commands_to_check() -> None:
    assert sum(len(list(commands(page.read_text(encoding="utf-8")))) for page in PAGES) > 60


def test_a_wrong_command_would_be_found(parse: Parse) -> None:
    text = "    KEY=1 pitool serve --hots x  # no\n    pitool list; pitool srve\n"
    text += "    pitool doctor > f\n"
    good, bad = [], []
    for words in commands(text):
        try:
            parse(words)
            good.append(words[0])
        except (click.ClickException, PitoolError):
            bad.append(words[0])
    assert (good, bad) == (["list", "doctor"], ["serve", "srve"])
