"""Text to token ids and back, by the tokenizer and chat template that lie in an ONNX folder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from tokenizers import Tokenizer

from pitool.catalog import reading
from pitool.catalog.files import path_kind
from pitool.catalog.onnx import CHAT_TEMPLATE, TOKENIZER, TOKENIZER_CONFIG, OnnxFolder, read_json
from pitool.engine.base import Message, Prompt
from pitool.engine.chat_template import ChatTemplate
from pitool.errors import BadInput, panics_raised

# Tokens that end a generation whatever the configuration says, as llama.cpp holds it.
_ENDS = frozenset(
    {
        "</s>",
        "<|endoftext|>",
        "<|end_of_text|>",
        "<|eot_id|>",
        "<|eom_id|>",
        "<|im_end|>",
        "<|end|>",
        "<end_of_turn>",
        "<EOT>",
    }
)
_SPACE = "▁"


class Vocabulary:
    """The tokenizer of a folder."""

    def __init__(self, folder: OnnxFolder) -> None:
        path = folder.path / TOKENIZER
        try:
            data = reading.read_bytes(path, reading.LARGEST_TABLE)
            with panics_raised():
                self._tokenizer = Tokenizer.from_buffer(data)
                self._tokenizer.no_truncation()
                self._tokenizer.no_padding()
                self._beginning: list[int] = self._tokenizer.encode("").ids
        except Exception as error:  # tokenizers raises no class of its own
            raise BadInput(f"{path} is not a tokenizer ({error})", "copy the model again") from None
        decoder = self._tokenizer.decoder
        kinds = _decoders(reading.parse_json(decoder.__getstate__())) if decoder else set()
        self._byte_level = "ByteLevel" in kinds
        self._byte_tokens = "ByteFallback" in kinds
        added = self._tokenizer.get_added_tokens_decoder()
        self._special = {i: token.content for i, token in added.items() if token.special}
        self._added: dict[int, bytes] = {i: token.content.encode() for i, token in added.items()}
        self._ends = folder.ends | {i for i, text in self._special.items() if text in _ENDS}
        self._pieces: dict[int, bytes] = {}
        self.template = self._read_template(folder)

    def _read_template(self, folder: OnnxFolder) -> ChatTemplate | None:
        path = folder.path / TOKENIZER_CONFIG
        config = read_json(path) if path_kind(path) else {}
        source = config.get("chat_template")
        if isinstance(source, list):  # several, by name
            named = [each for each in source if isinstance(each, dict)]
            source = next((n.get("template") for n in named if n.get("name") == "default"), None)
        file = folder.path / CHAT_TEMPLATE
        if path_kind(file):
            source = reading.read_text(file)
        if not source:
            return None
        if not isinstance(source, str):
            raise BadInput(f"the chat template in {path} is not a text", "copy the model again")
        return ChatTemplate(
            source, bos=_content(config.get("bos_token")), eos=_content(config.get("eos_token"))
        )

    def encode(self, prompt: Prompt) -> list[int]:
        """Return token ids, the beginning-of-sequence token included where the model adds it.

        A conversation goes through the chat template, which writes every special token itself; a
        base model without one reads the turns' texts line by line. Token ids stay as they are.
        """
        if isinstance(prompt, str):
            return self._tokenize(prompt, special=True)
        turns = [turn for turn in prompt if isinstance(turn, Message)]
        if len(turns) < len(prompt):
            return [int(i) for i in prompt if isinstance(i, int)]
        if self.template:
            return self._tokenize(self.template.render(turns), special=False)
        return self._tokenize("\n".join(turn.content for turn in turns), special=True)

    def _tokenize(self, text: str, *, special: bool) -> list[int]:
        try:
            with panics_raised():
                ids: list[int] = self._tokenizer.encode(text, add_special_tokens=special).ids
        except Exception as error:
            raise BadInput(
                f"the tokenizer cannot read this text ({error})", "copy the model again"
            ) from None
        count = len(self._beginning) if special else 0
        if count and ids[count : 2 * count] == self._beginning:
            return ids[count:]  # the text began with it already
        return ids

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, special tokens included."""
        return b"".join(
            self._special[i].encode() if i in self._special else self.piece(i) for i in ids
        ).decode(errors="replace")

    def piece(self, token: int) -> bytes:
        """Return the bytes of a token as it is shown: special tokens have none."""
        if token not in self._pieces:
            self._pieces[token] = b"" if token in self._special else self._bytes(token)
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
        """Tell whether the token ends a generation."""
        return token in self._ends


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
