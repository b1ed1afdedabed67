"""The texts by which tokens are chosen: words of languages, code, and what a user gives.

The words are those of the package wordfreq, the most frequent of 44 languages by their use in
Wikipedia, subtitles, news, books and the web. Code is what every host has: modules of Python's
standard library, and pitool's own page. Says where each is from.
"""

from __future__ import annotations

import sysconfig
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pitool
from pitool.catalog import reading
from pitool.catalog.tables import names_in, nearest
from pitool.errors import MissingPart, UsageError

# Words of a language after a space, in either case, the most frequent first; of these, words at the
# beginning of a line with a capital, and without. Measured on Gemma 3 and articles of Wikipedia.
MOST_WORDS, MOST_FIRST, MOST_SMALL = 120_000, 12_000, 4_000
# Words that are tokenized at once.
RUN = 2_000
# Characters of a text that is tokenized at once.
CHUNK = 1 << 16
# Modules of the standard library, in all their kinds of code and comments.
MODULES = (
    "argparse", "ast", "calendar", "configparser", "csv", "dataclasses", "datetime", "difflib",
    "doctest", "fractions", "functools", "http/client", "http/server", "inspect", "json/decoder",
    "json/encoder", "logging/__init__", "mailbox", "os", "pathlib", "pdb", "pickle", "random",
    "shutil", "smtplib", "socket", "sqlite3/dump", "statistics", "string", "subprocess", "tarfile",
    "textwrap", "threading", "turtle", "typing", "unittest/mock", "urllib/parse", "urllib/request",
    "uuid", "xml/dom/minidom", "zipfile",
)  # fmt: skip
PAGE = ("*.html", "*.css", "*.js")


@dataclass(frozen=True)
class Texts:
    """What tokens are chosen by: ``languages`` by their codes, and the user's ``files``."""

    languages: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()

    @property
    def chosen_by(self) -> str:
        """The texts in words, with where they are from."""
        own = [path.name for path in self.files]
        if not self.languages:
            return " and ".join(own)
        words = f"{', '.join(self.languages)} (words of {_package()}; code)"
        return " and ".join([words, *own])

    @property
    def name(self) -> str:
        """What is added to a bundle's name."""
        return "-".join(self.languages) or "trimmed"

    @cached_property
    def own(self) -> str:
        """The texts of the user's files."""
        return "\n\n".join(reading.read_text(path) for path in self.files)

    def chunks(self) -> Iterator[str]:
        """Yield the texts of which every token is kept: the user's as a whole, words in parts."""
        if self.own:
            yield self.own
        for language in self.languages:
            yield from _words(language)

    def code(self) -> Iterator[str]:
        """Yield the code that goes with languages, in parts."""
        if self.languages:
            for text in _code():
                yield from _cut(text)


def find_texts(languages: str | None, files: Sequence[Path]) -> Texts | None:
    """Return what the options name, None for nothing; UsageError for an unknown language."""
    if languages is None and not files:
        return None
    codes = dict.fromkeys(code.lower() for code in names_in(languages or ""))
    if languages is not None and not codes:
        raise UsageError("--languages is empty", "name languages by their codes, such as en,de")
    known = known_languages() if codes else ()
    for code in codes:
        if code not in known:
            raise UsageError(f"there are no words of the language {code!r}", nearest(code, known))
    return Texts(tuple(codes), tuple(files))


def known_languages() -> tuple[str, ...]:
    """Return the codes of the languages whose words there are."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import wordfreq
        except ModuleNotFoundError:
            raise MissingPart(
                "--languages needs the words of languages, which are not installed",
                "run: pip install 'pitool[host]', or give a text with --keep-text",
            ) from None
    return tuple(sorted(wordfreq.available_languages()))


def _package() -> str:
    from importlib.metadata import version

    return f"wordfreq {version('wordfreq')}"


def _words(language: str) -> Iterator[str]:
    """Yield words of a language as they stand in a text: first or later in a line, in each case."""
    known_languages()
    import wordfreq

    words = wordfreq.top_n_list(language, MOST_WORDS)
    capitals = [word.capitalize() for word in words]
    later, first = [*words, *capitals], [*words[:MOST_SMALL], *capitals[:MOST_FIRST]]
    for between, forms in ((" ", later), ("\n", first)):
        for i in range(0, len(forms), RUN):
            yield between.join(["", *forms[i : i + RUN]])


def _code() -> Iterator[str]:
    """Yield programs, pages and style sheets."""
    library = Path(sysconfig.get_path("stdlib"))
    yield from (_read(library / f"{name}.py") for name in MODULES)
    page = Path(pitool.__file__).parent / "serve" / "page" / "assets"
    yield from (_read(path) for kind in PAGE for path in sorted(page.glob(kind)))


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _cut(text: str) -> Iterator[str]:
    """Yield a text in parts that end with a line, where lines are not longer than a part."""
    part: list[str] = []
    size = 0
    for line in text.splitlines(keepends=True):
        if part and size + len(line) > CHUNK:
            yield "".join(part)
            part, size = [], 0
        part.append(line)
        size += len(line)
    if part:
        yield "".join(part)
