"""Turns the bytes of tokens into text that can be shown at once."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from pitool.chat_format.reader import overlap


class TextStream:
    """Decodes UTF-8 piece by piece and holds back what may become a stop text.

    What it returns never splits a character and never holds a part of a stop text; ``stopped``
    tells that one was met.
    """

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stop = [text for text in stop if text]
        self._held = ""
        self.stopped = False

    def feed(self, piece: bytes) -> str:
        """Return the text that became certain with ``piece``."""
        return self._release(self._decoder.decode(piece), last=False)

    def finish(self) -> str:
        """Return what was held back; an incomplete character becomes U+FFFD."""
        return self._release(self._decoder.decode(b"", final=True), last=True)

    def _release(self, text: str, *, last: bool) -> str:
        if self.stopped:
            return ""
        if not self._stop:
            return text
        text = self._held + text
        ends = [at for at in (text.find(stop) for stop in self._stop) if at >= 0]
        if ends:
            self.stopped, self._held = True, ""
            return text[: min(ends)]
        keep = 0 if last else max(overlap(text, stop) for stop in self._stop)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]
