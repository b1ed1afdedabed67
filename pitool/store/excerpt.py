"""The sentence of a text in which the words of a search stand."""

from __future__ import annotations

import re

LONGEST = 240
_END = re.compile(r"[.!?…](?=\s)|\n")


def sentence(text: str, words: str) -> str:
    """Return the sentence around the words on one line, with an ellipsis where it is cut.

    Empty where there are no words; the beginning of the text where they are not in it.
    """
    if not words:
        return ""
    hit = re.search(re.escape(words), text, re.IGNORECASE)
    start, end = hit.span() if hit else (0, 0)
    begins = max((match.end() for match in _END.finditer(text, 0, start)), default=0)
    after = _END.search(text, end)
    ends = after.end() if after else len(text)
    first, last = max(begins, start - LONGEST // 2), min(ends, end + LONGEST // 2)
    cut = "…" * (first > begins), "…" * (last < ends)
    return " ".join(f"{cut[0]}{text[first:last]}{cut[1]}".split())
