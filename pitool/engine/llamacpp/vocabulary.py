"""Text to token ids and back, by the vocabulary and chat template inside a GGUF."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Collection, Sequence
from functools import cached_property
from typing import Any

from pitool.catalog.turn_ends import NAMES
from pitool.engine import encoding
from pitool.engine.base import Prompt
from pitool.engine.chat_template import ChatTemplate
from pitool.engine.llamacpp.library import llama_cpp
from pitool.errors import PitoolError

_SPACE = "▁"


class Vocabulary:
    """The vocabulary of a loaded llama.cpp model.

    ``ends`` and ``nfc``: see ``Settings``; without ``ends`` llama.cpp's own end an answer.
    ``handle`` is llama.cpp's.
    """

    def __init__(self, model: Any, ends: Sequence[int] = (), *, nfc: bool = False) -> None:
        self.handle = llama_cpp.llama_model_get_vocab(model)
        self.size: int = llama_cpp.llama_vocab_n_tokens(self.handle)
        self._pieces: dict[int, bytes] = {}
        self._shown: frozenset[bytes] = frozenset()
        self._ends = frozenset(ends)
        self._beginning = self._begins_with()
        # Of a file from elsewhere llama.cpp may be right: the types in it are sometimes wrong.
        self._mistaken = self._find_mistaken() if ends else {}
        self._compose = encoding.Composer(self._whole_tokens) if nfc else str
        self._unknown = self._unknown_pattern()
        self.template = self._read_template(model)

    def _read_template(self, model: Any) -> ChatTemplate | None:
        source = llama_cpp.llama_model_chat_template(model, None)
        if not source:
            return None
        for_tools = llama_cpp.llama_model_chat_template(model, b"tool_use")
        bos = self._word(model, "bos", llama_cpp.llama_vocab_bos(self.handle))
        eos = self._word(model, "eos", llama_cpp.llama_vocab_eos(self.handle))
        with_tools = for_tools.decode(errors="replace") if for_tools else None
        return ChatTemplate(
            source.decode(errors="replace"), bos=bos, eos=eos, with_tools=with_tools
        )

    def show(self, texts: Collection[str]) -> None:
        """Let special tokens of these texts have them as their pieces."""
        self._shown = frozenset(text.encode() for text in texts)
        self._pieces.clear()

    def _word(self, model: Any, name: str, token: int) -> str:
        """Return the text of a token for the template, nothing where the model has none.

        llama.cpp then names GPT-2's 11, which is a comma in most vocabularies.
        """
        if llama_cpp.llama_vocab_type(self.handle) == llama_cpp.LLAMA_VOCAB_TYPE_BPE:
            key, room = f"tokenizer.ggml.{name}_token_id".encode(), 16
            value = ctypes.create_string_buffer(room)
            if llama_cpp.llama_model_meta_val_str(model, key, value, room) < 0:
                return ""
        return self.text([token])

    def _begins_with(self) -> list[int]:
        """Return the tokens that a text begins with."""
        bos: int = llama_cpp.llama_vocab_bos(self.handle)
        return [bos] if bos >= 0 and llama_cpp.llama_vocab_get_add_bos(self.handle) else []

    def _whole_tokens(self) -> list[str]:
        """Return the texts that llama.cpp takes for one token wherever they stand."""
        wanted = (
            llama_cpp.LLAMA_TOKEN_ATTR_CONTROL
            | llama_cpp.LLAMA_TOKEN_ATTR_USER_DEFINED
            | llama_cpp.LLAMA_TOKEN_ATTR_UNKNOWN
        )
        return [
            self._stored(token)
            for token in range(self.size)
            if llama_cpp.llama_vocab_get_attr(self.handle, token) & wanted
            and self._stored(token) not in self._mistaken
        ]

    @cached_property
    def turn_marks(self) -> frozenset[int]:
        """The ids of control tokens that end no answer, such as those that begin a turn."""
        control = llama_cpp.LLAMA_TOKEN_ATTR_CONTROL
        attributes = (llama_cpp.llama_vocab_get_attr(self.handle, i) for i in range(self.size))
        found = [i for i, attribute in enumerate(attributes) if attribute & control]
        return frozenset(i for i in found if not self.ends(i))

    def _find_mistaken(self) -> dict[str, int]:
        """Return the ids of ordinary tokens that llama.cpp takes for special ones by their names.

        As Qwen's ``</s>``, which is a tag of HTML in its vocabulary; by text.
        """
        found = {}
        if llama_cpp.llama_vocab_type(self.handle) == llama_cpp.LLAMA_VOCAB_TYPE_BPE:
            both = llama_cpp.LLAMA_TOKEN_ATTR_NORMAL | llama_cpp.LLAMA_TOKEN_ATTR_CONTROL
            for name in NAMES:
                ids = self._run(name, special=True)
                if len(ids) == 1:
                    attributes = llama_cpp.llama_vocab_get_attr(self.handle, ids[0])
                    if attributes & both == both:
                        found[name] = ids[0]
        return found

    @cached_property
    def _special(self) -> re.Pattern[str]:
        """What is a token of its own in a text."""
        return encoding.any_of(self._whole_tokens())

    def _spell_apart(self, text: str) -> list[int]:
        """Return the tokens of a text with mistaken ones in it: of each part between special ones.

        A byte-level BPE makes the tokens of such a part without a look at what is around it.
        """
        ids, at = [], 0
        for match in self._special.finditer(text):
            ids += self._run(text[at : match.start()], special=False)
            ids += self._run(match[0], special=True)
            at = match.end()
        return ids + self._run(text[at:], special=False)

    def _stored(self, token: int) -> str:
        """Return a token as it is stored, with its sign for a space."""
        text: bytes = llama_cpp.llama_vocab_get_text(self.handle, token) or b""
        return text.decode(errors="replace")

    def encode(self, prompt: Prompt) -> list[int]:
        """Return the token ids of a prompt; see ``encoding.encode``."""
        return encoding.encode(prompt, self.template, self._beginning, self._tokenize)

    def _unknown_pattern(self) -> re.Pattern[str] | None:
        """Return what to replace in a SentencePiece vocabulary without byte tokens, else None.

        llama.cpp aborts on a character that such a vocabulary does not have.
        """
        if llama_cpp.llama_vocab_type(self.handle) != llama_cpp.LLAMA_VOCAB_TYPE_SPM:
            return None
        characters, special = set[str](), []
        for token in range(self.size):
            kind = llama_cpp.llama_vocab_get_attr(self.handle, token)
            if kind & llama_cpp.LLAMA_TOKEN_ATTR_BYTE:
                return None
            text = self._stored(token)
            if kind & llama_cpp.LLAMA_TOKEN_ATTR_CONTROL:
                special.append(re.escape(text))
            elif kind & llama_cpp.LLAMA_TOKEN_ATTR_UNKNOWN:
                self._unknown_text = text
            elif len(text) == 1 and text != " ":  # llama.cpp looks for its sign instead
                characters.add(" " if text == _SPACE else text)
        known = "".join(re.escape(c) for c in sorted(characters))
        return re.compile("|".join([f"({s})" for s in special] + [f"[^{known}]+"]))

    def whole(self, text: str) -> list[int]:
        """Return the tokens of a text with all that belongs before and after one."""
        return self._run(self._known(text), special=True, whole=True)

    def _tokenize(self, text: str) -> list[int]:
        text = self._known(text)
        if any(name in text for name in self._mistaken):
            return self._spell_apart(text)
        return self._run(text, special=True)

    def _known(self, text: str) -> str:
        """Return a text composed, and of what the vocabulary can spell."""
        text = self._compose(text)
        if self._unknown:
            text = self._unknown.sub(
                lambda match: match[0] if match.lastindex else self._unknown_text, text
            )
        return text

    def _run(self, text: str, *, special: bool, whole: bool = False) -> list[int]:
        """Have llama.cpp tokenize; ``special``: look for special tokens in the text.

        ``whole``: put before and after it what belongs there.
        """
        data = text.encode()
        room = len(data) + 8
        buffer = (llama_cpp.llama_token * room)()
        count = llama_cpp.llama_tokenize(self.handle, data, len(data), buffer, room, whole, special)
        if count < 0:
            raise PitoolError(f"a text of {len(data)} bytes cannot be tokenized", "shorten it")
        return list(buffer[:count])

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, special tokens included."""
        return b"".join(map(self.spelled, ids)).decode(errors="replace")

    def spelled(self, token: int) -> bytes:
        """Return the bytes of a token, those of a special one too."""
        return self._piece(token, special=True)

    def piece(self, token: int) -> bytes:
        """Return the bytes of a token as it is shown: special tokens have none, but for some."""
        if token not in self._pieces:
            spelled = self.spelled(token)
            special = token in self._mistaken.values() or spelled in self._shown
            self._pieces[token] = self._piece(token, special=special)
        return self._pieces[token]

    def _piece(self, token: int, *, special: bool) -> bytes:
        if token < 0:
            return b""
        room = 64
        while True:
            buffer = ctypes.create_string_buffer(room)
            count = llama_cpp.llama_token_to_piece(self.handle, token, buffer, room, 0, special)
            if count >= 0:
                return buffer.raw[:count]
            room = -count

    def ends(self, token: int) -> bool:
        """Tell whether the token ends an answer."""
        if self._ends:
            return token in self._ends
        return bool(llama_cpp.llama_vocab_is_eog(self.handle, token))

    @cached_property
    def known_ends(self) -> frozenset[int]:
        """The tokens that end an answer for llama.cpp."""
        return frozenset(
            token for token in range(self.size) if llama_cpp.llama_vocab_is_eog(self.handle, token)
        )

    @property
    def end_ids(self) -> frozenset[int]:
        """The tokens that end an answer."""
        return self._ends or self.known_ends
