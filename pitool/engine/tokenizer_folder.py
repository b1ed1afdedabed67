"""Text to token ids and back, by the tokenizer and chat template that lie in a folder.

That of an ONNX artifact, and of a GGUF whose tokens llama.cpp would make otherwise than the
tokenizers library. Reads tokenizer.json, tokenizer_config.json and chat_template.jinja.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from pitool.catalog import reading
from pitool.catalog.files import path_kind
from pitool.catalog.onnx import CHAT_TEMPLATE, TOKENIZER, TOKENIZER_CONFIG, read_json
from pitool.catalog.turn_ends import known_ends
from pitool.chat_format import marks_of
from pitool.engine import encoding
from pitool.engine.base import Prompt
from pitool.engine.chat_template import ChatTemplate
from pitool.errors import BadInput, panics_raised

_SPACE = "▁"
# Texts of which the tokenizers library may know one, to see what it puts before a text.
_PROBES = ("a", " ", "\n", "0", "A", "")


class TokenizerFolder:
    """The tokenizer of a folder.

    ``ends``: ids that end an answer; where there are none, those that ``said`` lists and the
    special tokens that do by their names.
    """

    def __init__(self, folder: Path, ends: Collection[int] = (), said: Iterable[int] = ()) -> None:
        path = folder / TOKENIZER
        try:
            data = reading.read_bytes(path, reading.LARGEST_TABLE)
            with panics_raised():
                self._tokenizer = Tokenizer.from_buffer(data)
                self._tokenizer.no_truncation()
                self._tokenizer.no_padding()
                self.beginning = self._begins_with()
        except Exception as error:  # tokenizers raises no class of its own
            raise BadInput(f"{path} is not a tokenizer ({error})", "copy the model again") from None
        decoder = self._tokenizer.decoder
        kinds = _decoders(reading.parse_json(decoder.__getstate__())) if decoder else set()
        self._byte_level = "ByteLevel" in kinds
        self._byte_tokens = "ByteFallback" in kinds
        added = self._tokenizer.get_added_tokens_decoder()
        self._special = {i: token.content for i, token in added.items() if token.special}
        self._added: dict[int, bytes] = {i: token.content.encode() for i, token in added.items()}
        by_name = known_ends({text: i for i, text in self._special.items()})
        self._ends = frozenset(ends) or frozenset(said) | by_name
        self._pieces: dict[int, bytes] = {}
        self.template = _read_template(folder)
        self._shown = marks_of(self.template.format) if self.template else frozenset()

    def _begins_with(self) -> list[int]:
        """Return the tokens that the library puts before a text."""
        for probe in _PROBES:
            made = self._tokenizer.encode(probe)
            own = [i for i, part in enumerate(made.sequence_ids) if part is not None]
            if own or not probe:
                break
        ids: list[int] = made.ids
        return ids[: own[0]] if own else ids

    @property
    def unknown(self) -> int | None:
        """The id of the token for what the vocabulary cannot spell, None where it has none."""
        text = getattr(self._tokenizer.model, "unk_token", None)
        return self._tokenizer.token_to_id(text) if text else None

    @property
    def whole_tokens(self) -> list[str]:
        """The texts of the tokens that are one wherever they stand, special ones first."""
        ordered = sorted(self._added, key=lambda i: (i not in self._special, i))
        return [self._added[i].decode() for i in ordered]

    def encode(self, prompt: Prompt) -> list[int]:
        """Return the token ids of a prompt; see ``encoding.encode``."""
        return encoding.encode(prompt, self.template, self.beginning, self.spell)

    def spell(self, text: str) -> list[int]:
        """Return the token ids of a text alone."""
        return self._encode(text, special=False)

    def whole(self, text: str) -> list[int]:
        """Return the token ids of a text with all that belongs before and after it."""
        return self._encode(text, special=True)

    def _encode(self, text: str, *, special: bool) -> list[int]:
        try:
            with panics_raised():
                ids: list[int] = self._tokenizer.encode(text, add_special_tokens=special).ids
        except Exception as error:
            raise BadInput(
                f"the tokenizer cannot read this text ({error})", "copy the model again"
            ) from None
        return ids

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, special tokens included."""
        return b"".join(map(self.spelled, ids)).decode(errors="replace")

    def spelled(self, token: int) -> bytes:
        """Return the bytes of a token, those of a special one too."""
        return self._bytes(token)

    def piece(self, token: int) -> bytes:
        """Return the bytes of a token as it is shown: of special ones those of its format."""
        if token not in self._pieces:
            hidden = token in self._special and self._special[token] not in self._shown
            self._pieces[token] = b"" if hidden else self._bytes(token)
        return self._pieces[token]

    def _bytes(self, token: int) -> bytes:
        if token in self._added:
            return self._added[token]
        word = self._tokenizer.id_to_token(token)
        if word is None:
            return b""  # the embedding has more rows than the tokenizer has tokens
        if self._byte_level:
            table = byte_letters()
            return b"".join(table.get(letter) or letter.encode() for letter in word)
        if self._byte_tokens and (match := re.fullmatch(r"<0x([0-9A-F]{2})>", word)):
            return bytes.fromhex(match[1])
        return str(word).replace(_SPACE, " ").encode()

    def ends(self, token: int) -> bool:
        """Tell whether the token ends an answer."""
        return token in self._ends


def _read_template(folder: Path) -> ChatTemplate | None:
    path = folder / TOKENIZER_CONFIG
    config = read_json(path) if path_kind(path) else {}
    source, with_tools = config.get("chat_template"), None
    if isinstance(source, list):  # several, by name
        named = {str(e.get("name")): e.get("template") for e in source if isinstance(e, dict)}
        source, with_tools = named.get("default"), named.get("tool_use")
    file = folder / CHAT_TEMPLATE
    if path_kind(file):
        source = reading.read_text(file)
    if not source:
        return None
    if not isinstance(source, str) or not isinstance(with_tools, str | None):
        raise BadInput(f"the chat template in {path} is not a text", "copy the model again")
    bos, eos = _content(config.get("bos_token")), _content(config.get("eos_token"))
    return ChatTemplate(source, bos=bos, eos=eos, with_tools=with_tools)


def _content(token: Any) -> str:
    """Return the text of a token of the tokenizer's configuration; empty where it has none."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else ""


def _decoders(decoder: dict[str, Any]) -> set[str]:
    """Return the kinds of a tokenizer's decoder and of those in it."""
    return {decoder["type"]}.union(*(_decoders(d) for d in decoder.get("decoders", [])))


@cache
def byte_letters() -> dict[str, bytes]:
    """Return the byte that each letter of a byte-level BPE stands for (GPT-2's ``encoder.py``)."""
    plain = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return {chr(byte) if byte in plain else chr(next(others)): bytes([byte]) for byte in range(256)}
