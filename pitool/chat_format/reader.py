"""Reads a text that is still being written: a position that waits where more is needed.

Every method that may wait is a generator of events that yields None where it does. What was read
can be read again, until it is let go of by ``release``.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeVar

from pitool.catalog import reading
from pitool.chat_format.events import Event

T = TypeVar("T")
Steps = Generator[Event | None, None, T]
"""Yields events, and None where more text is needed."""

SPACE = " \t\r\n"
LONGEST_WORD = 4096
"""Characters of a name, or of anything that is held back until it is complete and has no mark."""


class MalformedError(ValueError):
    """The text is not what it began as."""


class Reader:
    """Text that is fed piece by piece, and the position in it."""

    def __init__(self) -> None:
        self._text, self._ended = "", False
        self.at = 0

    def feed(self, text: str) -> None:
        """Append a piece."""
        self._text += text

    def end(self) -> None:
        """Say that nothing follows."""
        self._ended = True

    @property
    def rest(self) -> str:
        """What was fed and not read."""
        return self._text[self.at :]

    def release(self) -> None:
        """Forget what was read; positions count from here."""
        self._text, self.at = self.rest, 0

    def peek(self) -> Steps[str]:
        """Return the next character, nothing at the end."""
        while self.at >= len(self._text):
            if self._ended:
                return ""
            yield None
        return self._text[self.at]

    def skip_space(self) -> Steps[str]:
        """Go past white space; return the character after it."""
        while (letter := (yield from self.peek())) and letter in SPACE:
            self.at += 1
        return letter

    def take(self, word: str) -> Steps[bool]:
        """Go past a word where it is next, and tell whether it was."""
        start = self.at
        for letter in word:
            if (yield from self.peek()) != letter:
                self.at = start
                return False
            self.at += 1
        return True

    def expect(self, word: str) -> Steps[None]:
        """Go past white space and a word."""
        yield from self.skip_space()
        if not (yield from self.take(word)):
            raise malformed(word)

    def until(self, words: Sequence[str], most: int | None = None) -> Steps[tuple[str, str]]:
        """Return the text before the first of some words and that word, nothing at the end."""
        start = self.at
        while True:
            place, word = _first(self._text, words, start)
            if word:
                self.at = place + len(word)
                return self._text[start:place], word
            if most is not None and len(self._text) - start > most:
                raise malformed(words[0])
            if self._ended:
                self.at = len(self._text)
                return self._text[start:], ""
            yield None

    def text_until(self, words: Sequence[str], make: Callable[[str], Event]) -> Steps[str]:
        """Yield the text before the first of some words as it comes, and let go of it.

        Return the word, nothing at the end.
        """
        while True:
            place, word = _first(self._text, words, self.at)
            if not word:
                held = 0 if self._ended else max((overlap(self._text, w) for w in words), default=0)
                place = max(len(self._text) - held, self.at)
            if place > self.at:
                yield make(self._text[self.at : place])
            self.at = place + len(word)
            self.release()
            if word or self._ended:
                return word
            yield None

    # -- JSON ------------------------------------------------------------------------------

    def value(self) -> Steps[str]:
        """Return the text of a JSON value that stands here."""
        start, letter = self.at, (yield from self.peek())
        if letter in ("{", "["):
            yield from self._nested(None)
        elif letter == '"':
            yield from self._string()
        else:
            while (letter := (yield from self.peek())) and letter not in SPACE + ",}]:":
                self.at += 1
        text = self._text[start : self.at]
        parse(text)
        return text

    def string(self) -> Steps[str]:
        """Return the JSON string that stands here."""
        if (yield from self.peek()) != '"':
            raise malformed('"')
        return str(parse((yield from self.value())))

    def stream_object(self, make: Callable[[str], Event]) -> Steps[None]:
        """Yield the text of a JSON object that stands here as it comes, and let go of it."""
        yield from self._nested(make)

    def _string(self) -> Steps[None]:
        self.at += 1
        while letter := (yield from self.peek()):
            self.at += 1
            if letter == '"':
                return
            if letter == "\\":
                yield from self.peek()
                self.at += 1
        raise malformed('"')

    def _nested(self, make: Callable[[str], Event] | None) -> Steps[None]:
        """Go past brackets and what is between them; with ``make``, yielding it as it comes."""
        brackets, start, closed = _Brackets(), self.at, False
        while not closed:
            while self.at < len(self._text) and not closed:
                closed = brackets.close(self._text[self.at])
                self.at += 1
            if make is not None and self.at > start:
                yield make(self._text[start : self.at])
                self.release()
                start = 0
            if closed:
                return
            if self._ended:
                raise malformed("}")
            yield None


class _Brackets:
    """How deep a place in a JSON text is, and whether it is within a string."""

    def __init__(self) -> None:
        self._depth, self._quoted, self._escaped = 0, False, False

    def close(self, letter: str) -> bool:
        """Go past a letter, and tell whether it closes the outermost bracket."""
        if self._escaped:
            self._escaped = False
        elif self._quoted:
            self._escaped, self._quoted = letter == "\\", letter != '"'
        elif letter == '"':
            self._quoted = True
        elif letter in "{[":
            self._depth += 1
        elif letter in "}]":
            self._depth -= 1
        return self._depth == 0


def parse(text: str) -> Any:
    """Return the value of a JSON text."""
    try:
        return reading.parse_json(text)
    except ValueError:
        raise malformed("a JSON value") from None


def malformed(expected: str) -> MalformedError:
    """Return the error for a text that does not go on as it should."""
    return MalformedError(f"{expected!r} is missing in a tool call")


def _first(text: str, words: Sequence[str], start: int) -> tuple[int, str]:
    """Return the place of the first of some words and the word; of two there, the longer one."""
    found = [(at, -len(w), w) for w in words if (at := text.find(w, start)) >= 0]
    place, _, word = min(found, default=(-1, 0, ""))
    return place, word


def overlap(text: str, word: str) -> int:
    """Return the length of the longest end of a text that begins a word and is not all of it."""
    for length in range(min(len(text), len(word) - 1), 0, -1):
        if text.endswith(word[:length]):
            return length
    return 0
