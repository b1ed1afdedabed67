"""Tool calls as Gemma writes them: ``call:weather{city:<|"|>Köln<|"|>,days:3}``."""

from __future__ import annotations

import re
from typing import Any

from pitool.chat_format.reader import malformed, parse

_DEEPEST = 64
_CALL = re.compile(r"\s*call:([\w.:-]+)\s*(?=\{)")
_BARE = re.compile(r"[^\s,{}\[\]:]+")


def read(text: str, quote: str) -> tuple[str, dict[str, Any]]:
    """Return name and arguments; MalformedError where it is no such call."""
    head = _CALL.match(text)
    if head is None:
        raise malformed("call:")
    values = _Values(text, head.end(), quote)
    found = values.value(0)
    if not isinstance(found, dict) or text[values.at :].strip():
        raise malformed("}")
    return head[1], found


class _Values:
    """A position in a text of values."""

    def __init__(self, text: str, at: int, quote: str) -> None:
        self._text, self.at, self._quote = text, at, quote

    def value(self, depth: int) -> Any:
        """Return the value that stands here."""
        if depth > _DEEPEST:
            raise malformed("}")
        if self._take(self._quote):
            return self._quoted(self._quote)
        if self._take('"'):
            self.at -= 1
            return self._json_string()
        if self._take("{"):
            return self._object(depth)
        if self._take("["):
            return self._list(depth)
        return self._bare(key=False)

    def _object(self, depth: int) -> dict[str, Any]:
        made: dict[str, Any] = {}
        if self._take("}"):
            return made
        while True:
            if self._take(self._quote):
                key = self._quoted(self._quote)
            elif self._text[self.at : self.at + 1] == '"':
                key = self._json_string()
            else:
                key = self._bare(key=True)
            self._expect(":")
            made[str(key)] = self.value(depth + 1)
            if not self._take(","):
                break
        self._expect("}")
        return made

    def _list(self, depth: int) -> list[Any]:
        made: list[Any] = []
        if self._take("]"):
            return made
        while True:
            made.append(self.value(depth + 1))
            if not self._take(","):
                break
        self._expect("]")
        return made

    def _quoted(self, quote: str) -> str:
        end = self._text.find(quote, self.at)
        if end < 0:
            raise malformed(quote)
        text, self.at = self._text[self.at : end], end + len(quote)
        return text

    def _json_string(self) -> str:
        found = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL).match(self._text, self.at)
        if found is None:
            raise malformed('"')
        self.at = found.end()
        return str(parse(found[0]))

    def _bare(self, *, key: bool) -> Any:
        found = _BARE.match(self._text, self.at)
        if found is None:
            raise malformed("a value")
        self.at = found.end()
        return found[0] if key else parse(found[0])

    def _take(self, word: str) -> bool:
        while self._text[self.at : self.at + 1].isspace():
            self.at += 1
        if not self._text.startswith(word, self.at):
            return False
        self.at += len(word)
        return True

    def _expect(self, word: str) -> None:
        if not self._take(word):
            raise malformed(word)
