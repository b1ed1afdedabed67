"""Says whether an engine makes the tokens of a text, and of a chat, that the tokenizer makes.

Owns the texts that tokenizers are known to differ on, and what the tokenizers library makes of
them. Needs no host package.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pitool.engine.base import ChatPrompt, Message, Prompt
from pitool.engine.chat_template import ChatTemplate
from pitool.engine.tokenizer_folder import TokenizerFolder
from pitool.errors import BadInput, PitoolError

TEXTS = (
    "",
    "The quick brown fox jumps over the lazy dog.",
    "I'm sure they'll say it's DON'T, we'Ve, y'all'd've.",
    "0 12 345 6789 1234567890 3.14159 1,000,000 ½ ² ٣٤٥ 一二三",
    "def f(x):\n\treturn {'a': x**2, \"b\": [1]}  # ok\r\n\r\nif __name__ == '__main__':",
    "a  b   c    d\t\te \n f\n\n\n g  \n",
    "   three spaces",
    "three spaces   ",
    "     ",
    "\n\n\n\r\n\r\n",
    "a\u00a0b\u2003c\u200bd\u3000e\ufefff",
    "Fußgängerübergänge, Größe, naïve café",
    "nai\u0308ve Gro\u0308ße, cafe\u0301, A\u030angstro\u0308m, q\u0323\u0307, \uac00\u11a8",
    "\u0915\u094d\u0937\u093f क्षि x\u0323\u0302",
    "你好，世界！今天天气不错。日本語のテキスト、カタカナ。안녕하세요 세계",
    "مرحبا بالعالم، كيف حالك؟ שָׁלוֹם עולם สวัสดีชาวโลก Привет, мир",
    "🚀 👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇩🇪 ❤️",
    "~!@#$%^&*()_+-={}[]|\\:;\"'<>,.?/ →∑∫√ ™®© «»„“” ﬁ ①",
    "a" * 70 + "b" * 50,
    "abcДЕЖ123漢字🚀def HELLO CamelCaseWords snake_case",
    "a\x01b\x7fc",
    "https://example.org/a?b=c&d=%20#e",
    "▁ ▁▁a ▁b",
    "<0x41> <unk> [UNK] <s> </s>",
)
TALKS = (
    (("user", "Hi, what is 2 + 2?"),),
    (("user", " Hello \n"), ("assistant", " four.\n"), ("user", "ça va? 🚀")),
    (("system", "Be brief."), ("user", "Hello"), ("assistant", "Hi!"), ("user", "  And\nnow?")),
    (("system", " "), ("user", "x\u0323\u0307 cafe\u0301"), ("assistant", ""), ("user", "1")),
)
# Special tokens whose neighbourhood is tried.
MOST_SPECIAL = 48


Tokenize = Callable[[Prompt], Sequence[int]]


@dataclass(frozen=True, slots=True)
class Expected:
    """A prompt and the token ids that it must become."""

    prompt: Prompt
    ids: list[int]

    @property
    def shown(self) -> str:
        """The prompt for a message."""
        if isinstance(self.prompt, str):
            return f"the text {self.prompt[:40]!r}"
        return "a conversation"


class TokenReference:
    """What the tokenizers library makes of the texts and talks, by the files in a folder."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = TokenizerFolder(folder)
        self.texts = [Expected(text, self._tokenizer.encode(text)) for text in self._all_texts()]
        self.chats = list(self._talks())

    def _all_texts(self) -> Iterator[str]:
        yield from TEXTS
        for token in self._tokenizer.whole_tokens[:MOST_SPECIAL]:
            yield f"a {token} b{token}\n c {token}\t"
            yield f"{token}\u0338x  {token} y"

    def _talks(self) -> Iterator[Expected]:
        """Yield the conversations that the chat template accepts."""
        if self._tokenizer.template is None:
            return
        for talk in TALKS:
            turns = [Message(role, content) for role, content in talk]
            try:
                yield Expected(turns, self._tokenizer.encode(turns))
            except BadInput:
                continue  # it takes no system message, or none that is empty

    def whole(self, text: str) -> list[int]:
        """Return the tokens of a text with all that belongs before and after it."""
        return self._tokenizer.whole(text)

    def different(self, tokenize: Tokenize) -> Expected | None:
        """Return the first prompt of which ``tokenize`` makes other tokens, None without one."""
        every = (*self.texts, *self.chats)
        return next((each for each in every if differs(tokenize, each)), None)


def differs(tokenize: Tokenize, expected: Expected) -> bool:
    """Tell whether other tokens are made of a prompt, or none: llama.cpp may abort."""
    try:
        return list(tokenize(expected.prompt)) != expected.ids
    except PitoolError:
        return True


def known_words(folder: Path, text: str) -> tuple[str, list[int]]:
    """Return a text without the words that a folder's tokenizer cannot spell, and its tokens."""
    tokenizer = TokenizerFolder(folder)
    unknown = tokenizer.unknown
    if unknown is not None and unknown in tokenizer.encode(text):
        text = " ".join(word for word in text.split() if unknown not in tokenizer.encode(word))
    return text, tokenizer.encode(text)


def after_an_answer(template: str, bos: str, eos: str) -> str:
    """Return what a chat template writes after an answer, nothing where it cannot be told."""
    answer = "\ue000"
    turns = [Message("user", "a"), Message("assistant", answer)]
    try:
        compiled = ChatTemplate(template, bos=bos, eos=eos)
        return compiled.render(ChatPrompt(tuple(turns)), answer=False).rpartition(answer)[2]
    except PitoolError:
        return ""
