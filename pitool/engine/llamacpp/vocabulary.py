"""Text to token ids and back, by the vocabulary and chat template inside a GGUF."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from typing import Any

from pitool.engine.base import Message, Prompt
from pitool.engine.chat_template import ChatTemplate
from pitool.engine.llamacpp.library import llama_cpp
from pitool.errors import PitoolError


class Vocabulary:
    """The vocabulary of a loaded llama.cpp model."""

    def __init__(self, model: Any) -> None:
        self._handle = llama_cpp.llama_model_get_vocab(model)
        self.size: int = llama_cpp.llama_vocab_n_tokens(self._handle)
        self._pieces: dict[int, bytes] = {}
        self._unknown = self._unknown_pattern()
        self.template = self._read_template(model)

    def _read_template(self, model: Any) -> ChatTemplate | None:
        source = llama_cpp.llama_model_chat_template(model, None)
        if not source:
            return None
        bos = llama_cpp.llama_vocab_bos(self._handle)
        eos = llama_cpp.llama_vocab_eos(self._handle)
        return ChatTemplate(
            source.decode(errors="replace"), bos=self.text([bos]), eos=self.text([eos])
        )

    def encode(self, prompt: Prompt) -> list[int]:
        """Return token ids, the beginning-of-sequence token included where the model adds it.

        A conversation goes through the chat template; a base model without one reads the turns'
        texts line by line. Token ids are returned as they are.
        """
        if not isinstance(prompt, str):
            turns = [turn for turn in prompt if isinstance(turn, Message)]
            if len(turns) < len(prompt):
                return [int(i) for i in prompt if isinstance(i, int)]
            prompt = (
                self.template.render(turns)
                if self.template
                else "\n".join(turn.content for turn in turns)
            )
        ids = self._tokenize(prompt)
        bos = llama_cpp.llama_vocab_bos(self._handle)
        if ids[:2] == [bos, bos] and llama_cpp.llama_vocab_get_add_bos(self._handle):
            return ids[1:]  # the template wrote it already
        return ids

    def _unknown_pattern(self) -> re.Pattern[str] | None:
        """Return what to replace in a SentencePiece vocabulary without byte tokens, else None.

        llama.cpp aborts on a character that such a vocabulary does not have.
        """
        if llama_cpp.llama_vocab_type(self._handle) != llama_cpp.LLAMA_VOCAB_TYPE_SPM:
            return None
        characters, special = {" ", "\n"}, []
        for token in range(self.size):
            kind = llama_cpp.llama_vocab_get_attr(self._handle, token)
            if kind & llama_cpp.LLAMA_TOKEN_ATTR_BYTE:
                return None
            text = (llama_cpp.llama_vocab_get_text(self._handle, token) or b"").decode()
            if kind & llama_cpp.LLAMA_TOKEN_ATTR_CONTROL:
                special.append(re.escape(text))
            elif kind & llama_cpp.LLAMA_TOKEN_ATTR_UNKNOWN:
                self._unknown_text = text
            elif len(text) == 1:
                characters.add(text)
        known = "".join(re.escape(c) for c in sorted(characters))
        return re.compile("|".join([f"({s})" for s in special] + [f"[^{known}]+"]))

    def _tokenize(self, text: str) -> list[int]:
        if self._unknown:
            text = self._unknown.sub(
                lambda match: match[0] if match.lastindex else self._unknown_text, text
            )
        data = text.encode()
        room = len(data) + 8
        buffer = (llama_cpp.llama_token * room)()
        count = llama_cpp.llama_tokenize(self._handle, data, len(data), buffer, room, True, True)
        if count < 0:
            raise PitoolError(f"a text of {len(data)} bytes cannot be tokenized", "shorten it")
        return list(buffer[:count])

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, special tokens included."""
        return b"".join(self._piece(i, special=True) for i in ids).decode(errors="replace")

    def piece(self, token: int) -> bytes:
        """Return the bytes of a token as it is shown: special tokens have none."""
        if token not in self._pieces:
            self._pieces[token] = self._piece(token, special=False)
        return self._pieces[token]

    def _piece(self, token: int, *, special: bool) -> bytes:
        if token < 0:
            return b""
        room = 64
        while True:
            buffer = ctypes.create_string_buffer(room)
            count = llama_cpp.llama_token_to_piece(self._handle, token, buffer, room, 0, special)
            if count >= 0:
                return buffer.raw[:count]
            room = -count

    def ends(self, token: int) -> bool:
        """Tell whether the token ends a generation."""
        return bool(llama_cpp.llama_vocab_is_eog(self._handle, token))
