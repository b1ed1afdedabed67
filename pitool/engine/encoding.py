"""From a prompt to token ids by the same rules for every runtime, whoever spells the text.

A conversation goes through the chat template, which writes every special token itself: nothing is
added to what it renders. A text begins with the tokens that the tokenizer puts there, and nothing
is put after it, because an answer follows.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence

from pitool.engine.base import ChatPrompt, Prompt, as_chat
from pitool.engine.chat_template import ChatTemplate
from pitool.errors import UsageError

Spell = Callable[[str], list[int]]
"""Returns the token ids of a text alone; special tokens in it are recognised."""


def encode(
    prompt: Prompt, template: ChatTemplate | None, beginning: Sequence[int], spell: Spell
) -> list[int]:
    """Return the token ids of a prompt; ``beginning``: the tokens that begin a text.

    A base model without a template reads the turns' texts line by line. Token ids stay as they
    are, and a text that begins with ``beginning`` already is not given it twice.
    """
    chat = as_chat(prompt)
    if isinstance(chat, ChatPrompt):
        if template:
            return spell(template.render(chat))
        chat = _lines(chat)
    if not isinstance(chat, str):
        return list(chat)
    ids = spell(chat)
    begins = list(beginning)
    return ids if ids[: len(begins)] == begins else begins + ids


def _lines(chat: ChatPrompt) -> str:
    """Return the texts of a conversation line by line; UsageError where that would lose a part."""
    if (
        chat.tools
        or chat.options
        or any(turn.calls or turn.role == "tool" for turn in chat.messages)
    ):
        raise UsageError(
            "the model has no chat template, so it supports neither tools nor template options",
            "drop them, or use a model with a chat template",
        )
    return "\n".join(turn.content for turn in chat.messages)


def any_of(texts: Iterable[str]) -> re.Pattern[str]:
    """Return a pattern of any of the texts, the longest first; of none it matches nothing."""
    longest_first = sorted(filter(None, texts), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")


class Composer:
    """Puts a text into Unicode's composed form (NFC), but for the special tokens in it.

    The tokenizers library normalises what lies between them only: a stroke that follows
    ``<|im_end|>`` must not change its last letter. ``special`` lists them when they are needed.
    """

    def __init__(self, special: Callable[[], list[str]]) -> None:
        self._special = special
        self._whole: re.Pattern[str] | None = None

    def __call__(self, text: str) -> str:
        """Return the text composed; most texts are already."""
        if unicodedata.is_normalized("NFC", text):
            return text
        if self._whole is None:
            self._whole = any_of(self._special())
        made, at = [], 0
        for match in self._whole.finditer(text):
            made += [unicodedata.normalize("NFC", text[at : match.start()]), match[0]]
            at = match.end()
        return "".join([*made, unicodedata.normalize("NFC", text[at:])])
