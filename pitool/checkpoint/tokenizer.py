"""The tokenizer's files of a checkpoint, read as transformers reads them.

Owns which of its tokens the model has rows for, what is put before a text, the chat template, and
the copy of the files that an artifact gets. Never tokenizes.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pitool.catalog import reading
from pitool.catalog.files import path_kind
from pitool.errors import BadInput

TOKENIZER, SETTINGS, TEMPLATE = "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"
PIECES = "tokenizer.model"
SPECIAL_MAP, ADDED, OLD_TEMPLATE = (
    "special_tokens_map.json", "added_tokens.json", "chat_template.json",
)  # fmt: skip
COPIED = (TOKENIZER, SETTINGS, SPECIAL_MAP, ADDED, TEMPLATE)
FILES = (*COPIED, PIECES, OLD_TEMPLATE)
"""Everything that may say how a text becomes tokens."""

# Classes of transformers that put the beginning token by ``add_bos_token`` alone, with its
# default; every other class goes by tokenizer.json and ignores the flag.
_BY_FLAG = {
    "LlamaTokenizer": True,
    "CodeLlamaTokenizer": True,
    "GemmaTokenizer": True,
    "CohereTokenizer": True,
    "GPTNeoXTokenizer": False,
}


class TokenizerFiles:
    """The files in ``folder`` for a model with ``size`` rows; BadInput when they do not fit it.

    ``settings``: of tokenizer_config.json; ``data``: of tokenizer.json without the tokens that the
    model has no row for, None where there is no such file; ``template``: the chat template, if
    any; ``bos`` and ``eos``: the texts of these tokens, empty where there are none.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self.folder, self.size = folder, size
        self.settings = read_json(folder / SETTINGS) or {}
        self._filled = self._fill_settings()
        self.bos, self.eos = (_content(self.settings.get(f"{name}_token")) for name in _EDGES)
        self.template = self._find_template()
        self.data = read_json(folder / TOKENIZER)
        self._changed = False
        if self.data is not None:
            try:
                self._drop_tokens(self.data)
                self._set_beginning(self.data)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise damaged(folder, error) from None

    def _fill_settings(self) -> bool:
        """Take the edges that only the older special_tokens_map.json names."""
        older = read_json(self.folder / SPECIAL_MAP) or {}
        missing = {f"{n}_token" for n in _EDGES if f"{n}_token" not in self.settings} & set(older)
        self.settings |= {name: older[name] for name in missing}
        return bool(missing)

    def _find_template(self) -> str | None:
        """Return the template: a file of its own goes before the settings, as in transformers."""
        path = self.folder / TEMPLATE
        if path.is_file():
            return path.read_text(encoding="utf-8", errors="replace")
        found = self.settings.get("chat_template")
        if found is None:
            found = (read_json(self.folder / OLD_TEMPLATE) or {}).get("chat_template")
        if isinstance(found, list):  # several, by name
            named = {e.get("name"): e.get("template") for e in found if isinstance(e, dict)}
            found = named.get("default")
        return found if isinstance(found, str) and found else None

    def has_row(self, token: int, text: str) -> bool:
        """Tell whether an added token counts: those past the last row are left out.

        BadInput where the model cannot do without: one that begins or ends a text, or that the
        chat template writes.
        """
        if 0 <= token < self.size:
            return True
        if token < 0 or text in (self.bos, self.eos) or text in (self.template or ""):
            raise past_the_end(self.folder, token, self.size, text)
        return False

    def _drop_tokens(self, data: dict[str, Any]) -> None:
        """Leave out added tokens past the last row, as Gemma 3 1B's ``<image_soft_token>``."""
        vocabulary = data["model"]["vocab"]
        added = data.get("added_tokens") or []
        kept = [token for token in added if self.has_row(token["id"], token["content"])]
        dropped = {token["content"] for token in added} - {token["content"] for token in kept}
        if dropped:
            data["added_tokens"], self._changed = kept, True
            if isinstance(vocabulary, dict):
                for text in dropped & vocabulary.keys():
                    del vocabulary[text]
        if isinstance(vocabulary, dict):
            odd = [(i, text) for text, i in vocabulary.items() if not 0 <= i < self.size]
            if odd:
                raise past_the_end(self.folder, max(odd)[0], self.size, max(odd)[1])
        elif len(vocabulary) > self.size:
            raise past_the_end(self.folder, len(vocabulary) - 1, self.size)

    def _set_beginning(self, data: dict[str, Any]) -> None:
        """Have tokenizer.json put the beginning token where transformers' class does."""
        kind = str(self.settings.get("tokenizer_class")).removesuffix("Fast")
        if kind not in _BY_FLAG or not self.bos:
            return
        flag = self.settings.get("add_bos_token")
        wanted = flag if isinstance(flag, bool) else _BY_FLAG[kind]
        if wanted == (self.bos in _before_a_text(data.get("post_processor"))):
            return
        ids = [t["id"] for t in data.get("added_tokens") or [] if t["content"] == self.bos]
        if not ids:
            return
        self._changed = True
        data["post_processor"] = _begin_with(self.bos, ids[0]) if wanted else None

    @property
    def begins_with_bos(self) -> bool | None:
        """Whether the beginning token is put before a text; None where nothing here says it."""
        kind = str(self.settings.get("tokenizer_class")).removesuffix("Fast")
        if self.data is not None:
            put = list(_before_a_text(self.data.get("post_processor")))
            return self.bos in put if self.bos else None if put else False
        flag = self.settings.get("add_bos_token")
        return flag if isinstance(flag, bool) else _BY_FLAG.get(kind)

    @property
    def added(self) -> dict[str, int]:
        """The ids of the tokens of tokenizer.json that are one wherever they stand, by text."""
        tokens = (self.data or {}).get("added_tokens") or []
        return {token["content"]: token["id"] for token in tokens}

    @property
    def ids(self) -> dict[str, int]:
        """The ids of all tokens of tokenizer.json, by text."""
        vocabulary = self.data["model"]["vocab"] if self.data else {}
        if not isinstance(vocabulary, dict):  # pieces with scores
            vocabulary = {piece: i for i, (piece, _) in enumerate(vocabulary)}
        return {**vocabulary, **self.added}

    def write(self, folder: Path) -> Path:
        """Copy the files into an existing folder, with what was changed here; return it."""
        for name in COPIED:
            if (self.folder / name).is_file():
                shutil.copyfile(self.folder / name, folder / name)
        if self._changed:
            _write_json(folder / TOKENIZER, self.data)
        if self._filled:
            _write_json(folder / SETTINGS, self.settings)
        if self.template and self.settings.get("chat_template") is None:
            (folder / TEMPLATE).write_text(self.template, encoding="utf-8")
        return folder


_EDGES = ("bos", "eos")


@dataclass(frozen=True, slots=True)
class Choice:
    """Whose tokenizer counts, and what is said about it, nothing where nobody brings another."""

    folder: Path
    note: str = ""


@cache
def choose(base: Path, adapters: tuple[Path, ...]) -> Choice:
    """Return the folder of the last adapter that was trained with a tokenizer of its own.

    A trainer saves it beside the adapter with the chat template and the tokens that it added. It
    counts where it gives the base model's tokens the same ids; else the base model's does, and
    the note says what is lost.
    """
    for folder in reversed(adapters):
        if (folder / TEMPLATE).is_file() or (folder / SETTINGS).is_file():
            return _compare(base, folder)
    return Choice(base)


def _compare(base: Path, adapter: Path) -> Choice:
    name = adapter.resolve().name
    own, other = (TokenizerFiles(folder, sys.maxsize) for folder in (base, adapter))
    told = (own.template, own.bos, own.eos) == (other.template, other.bos, other.eos)
    if other.data is None:
        lost = "" if told or not other.template else f"it has no {TOKENIZER}"
    elif own.data is None:
        lost = f"the base model has no {TOKENIZER} to compare its tokens with"
    else:
        before, after = own.ids, other.ids
        if before == after and told:
            return Choice(base)
        if all(after.get(text) == i for text, i in before.items()):
            note = f"the chat template and special tokens are those of the adapter {name}"
            return Choice(adapter, note)
        lost = "its tokens have other ids than the base model's"
    if not lost:
        return Choice(base)
    note = (
        f"warning: the chat template and special tokens of the adapter {name} are not used: {lost}"
    )
    return Choice(base, note)


def _content(token: Any) -> str:
    """Return the text of a token of the settings."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else ""


def _before_a_text(processor: Any) -> Iterator[str]:
    """Yield the special tokens that a post-processor puts before a text."""
    if not isinstance(processor, dict):
        return
    for step in processor.get("processors") or [processor]:
        if step.get("type") != "TemplateProcessing":
            continue
        for part in step["single"]:
            if "SpecialToken" not in part:
                return
            yield part["SpecialToken"]["id"]


def _begin_with(text: str, token: int) -> dict[str, Any]:
    """Return the post-processor that puts one token before a text."""
    special = {"SpecialToken": {"id": text, "type_id": 0}}
    first, second = ({"Sequence": {"id": name, "type_id": i}} for i, name in enumerate("AB"))
    return {
        "type": "TemplateProcessing",
        "single": [special, first],
        "pair": [special, first, second],
        "special_tokens": {text: {"id": text, "ids": [token], "tokens": [text]}},
    }


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the object in a JSON file, None where there is none; BadInput when it is damaged."""
    if path_kind(path) is None:
        return None
    return reading.read_object(path, "download it again", most=reading.LARGEST_TABLE)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def damaged(folder: Path, error: Exception) -> BadInput:
    """Return the error of a tokenizer.json whose parts are not what they must be."""
    return BadInput(f"{folder / TOKENIZER} is damaged ({error!r})", "download it again")


def past_the_end(folder: Path, token: int, size: int, text: str = "") -> BadInput:
    """Return the error of a token that the model has no row for."""
    named = f" {text!r}" if text else ""
    return BadInput(
        f"{folder}: the tokenizer has a token {token}{named}, but the model has only {size} rows",
        "use the tokenizer and the model from the same release",
    )
