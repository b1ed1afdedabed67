"""Settings and tokenizer of a checkpoint with the new ids of a cut vocabulary.

Texts stay what they are, and with them the chat template, which writes tokens by their texts.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pitool.checkpoint.config import TEXT
from pitool.checkpoint.tokenizer import (
    ADDED,
    OLD_TEMPLATE,
    PIECES,
    SETTINGS,
    SPECIAL_MAP,
    TOKENIZER,
    TokenizerFiles,
    read_json,
)
from pitool.convert.trim.pieces import pairs, read_proto

Json = dict[str, Any]
CONFIG, GENERATION = "config.json", "generation_config.json"
# What is copied of a checkpoint beside its tokenizer: the model card.
CARD = "README.md"
SIZE, INPUT_SIZE = "vocab_size", "vocab_size_per_layer_input"
_LISTS = frozenset({"suppress_tokens", "begin_suppress_tokens", "bad_words_ids", "stop_token_ids"})
_IDS = ("_token_id", "_token_ids", "_token_index")
# Lists of special tokens, by their texts.
_SPECIAL = ("additional_special_tokens", "extra_special_tokens")


def write_settings(source: Path, target: Path, new: Mapping[int, int]) -> None:
    """Write config.json and generation_config.json with new ids, and copy the model card."""
    for name in (CONFIG, GENERATION):
        if (values := read_json(source / name)) is not None:
            _write(target / name, renumber_settings(values, new))
    if (source / CARD).is_file():
        shutil.copyfile(source / CARD, target / CARD)


def renumber_settings(values: Json, new: Mapping[int, int]) -> Json:
    """Return settings with new ids, those of a text model inside a multimodal one too.

    An id that is not left is null, and left out of a list.
    """
    made: Json = {}
    for key, value in values.items():
        if key == TEXT and isinstance(value, dict):
            made[key] = renumber_settings(value, new)
        elif key == SIZE and type(value) is int:
            made[key] = len(new)
        elif key == INPUT_SIZE and type(value) is int:
            made[key] = sum(old < value for old in new)
        elif key.endswith(_IDS) or key in _LISTS:
            made[key] = _renumbered(value, new)
        else:
            made[key] = value
    return made


def _renumbered(value: Any, new: Mapping[int, int]) -> Any:
    """Return an id, or ids in lists, as they are numbered now."""
    if isinstance(value, list):
        found = (_renumbered(each, new) for each in value)
        return [each for each in found if each is not None]
    return new.get(value) if type(value) is int else value


def write_tokenizer(files: TokenizerFiles, target: Path, new: Mapping[int, int]) -> None:
    """Write the tokenizer's files with the tokens that ``new`` has, by old id, and these ids."""
    files.write(target)
    if (files.folder / OLD_TEMPLATE).is_file():
        shutil.copyfile(files.folder / OLD_TEMPLATE, target / OLD_TEMPLATE)
    gone = {text for text, i in _marked(files).items() if i not in new}
    for name in (SETTINGS, SPECIAL_MAP):
        if (values := read_json(target / name)) is not None:
            _write(target / name, _settings(values, new, gone))
    if (added := read_json(target / ADDED)) is not None:
        _write(target / ADDED, {text: new[i] for text, i in added.items() if i in new})
    if files.data is not None:
        _write(target / TOKENIZER, renumber_tokenizer(files.data, new))
    if (proto := read_proto(files.folder / PIECES)) and _agrees(files, proto):
        (target / PIECES).write_bytes(_sentencepiece(proto, new))


def _marked(files: TokenizerFiles) -> dict[str, int]:
    """Return the ids of the added tokens, by their texts."""
    decoder = files.settings.get("added_tokens_decoder", {})
    return {**{token["content"]: int(i) for i, token in decoder.items()}, **files.added}


def _settings(values: Json, new: Mapping[int, int], gone: set[str]) -> Json:
    """Return tokenizer_config.json or special_tokens_map.json without the tokens that are gone."""
    made = dict(values)
    if isinstance(decoder := values.get("added_tokens_decoder"), dict):
        left = ((int(i), token) for i, token in decoder.items())
        made["added_tokens_decoder"] = {str(new[i]): token for i, token in left if i in new}
    for key in _SPECIAL:
        said = values.get(key)
        if isinstance(said, list):
            made[key] = [token for token in said if _text(token) not in gone]
        elif isinstance(said, dict):
            made[key] = {name: token for name, token in said.items() if _text(token) not in gone}
    return made


def _text(token: Any) -> Any:
    return token.get("content") if isinstance(token, dict) else token


def renumber_tokenizer(data: Json, new: Mapping[int, int]) -> Json:
    """Return a tokenizer.json with some of its tokens, and of its merges those of these tokens."""
    model = dict(data["model"])
    if isinstance(model["vocab"], dict):
        left = ((text, new[i]) for text, i in model["vocab"].items() if i in new)
        model["vocab"] = dict(sorted(left, key=lambda each: each[1]))
        added = {t["content"]: t["id"] for t in data.get("added_tokens") or []}
        there = {*model["vocab"], *(text for text, i in added.items() if i in new)}
        merges = model.get("merges") or []
        model["merges"] = [
            merge
            for merge, pair in zip(merges, pairs(merges), strict=True)
            if there.issuperset((*pair, "".join(pair)))
        ]
    else:
        model["vocab"] = [piece for i, piece in enumerate(model["vocab"]) if i in new]
        unknown = model.get("unk_id")
        model["unk_id"] = None if unknown is None else new.get(unknown)
    made = {**data, "model": model}
    tokens = data.get("added_tokens") or []
    made["added_tokens"] = [{**t, "id": new[t["id"]]} for t in tokens if t["id"] in new]
    made["post_processor"] = _processor(data.get("post_processor"), new)
    if isinstance(padding := data.get("padding"), dict):
        made["padding"] = {**padding, "pad_id": new.get(int(padding.get("pad_id", 0)), 0)}
    return made


def _processor(step: Any, new: Mapping[int, int]) -> Any:
    """Return what is put around a text with the new ids."""
    if not isinstance(step, dict):
        return step
    made = dict(step)
    if "processors" in step:
        made["processors"] = [_processor(each, new) for each in step["processors"]]
    if isinstance(tokens := step.get("special_tokens"), dict):
        made["special_tokens"] = {
            name: {**token, "ids": [new[i] for i in token["ids"]]} for name, token in tokens.items()
        }
    for edge in ("sep", "cls"):
        if edge in step:
            text, token = step[edge]
            made[edge] = [text, new[token]]
    return made


def _agrees(files: TokenizerFiles, proto: Any) -> bool:
    """Tell whether a SentencePiece model numbers its pieces as tokenizer.json does."""
    return files.data is None or all(
        files.ids.get(piece.piece) == i for i, piece in enumerate(proto.pieces)
    )


def _sentencepiece(proto: Any, new: Mapping[int, int]) -> bytes:
    """Return a SentencePiece model with some of its pieces, in their order."""
    pieces = [piece for i, piece in enumerate(proto.pieces) if i in new]
    made = type(proto)()
    made.CopyFrom(proto)
    del made.pieces[:]
    made.pieces.extend(pieces)
    spec = made.trainer_spec
    spec.vocab_size = len(pieces)
    for name in ("unk_id", "bos_id", "eos_id", "pad_id"):
        setattr(spec, name, new.get(getattr(spec, name), -1))
    written: bytes = made.SerializeToString()
    return written


def _write(path: Path, values: Json) -> None:
    path.write_text(json.dumps(values, ensure_ascii=False), encoding="utf-8")
