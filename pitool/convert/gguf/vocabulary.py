"""The vocabulary of a GGUF, from the tokenizer files of a checkpoint.

Two kinds, in llama.cpp's terms: ``llama`` (SentencePiece, from tokenizer.model or from a
tokenizer.json converted from one) and ``gpt2`` (byte-level BPE). Special tokens, merges and chat
templates are read by gguf's own SpecialVocab.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf import GGUFWriter, SpecialVocab, TokenType

from pitool.catalog import reading
from pitool.catalog.files import path_kind
from pitool.convert.gguf.pretokenizers import find_pretokenizer
from pitool.errors import BadInput

_UNUSED_SCORE = -10000.0
_ADDED_SCORE = -1000.0
_SPACE = "\u2581"  # SentencePiece's symbol for a space


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Tokens by id, with score and type; ``model`` is ``llama`` or ``gpt2``.

    ``add_space_prefix``: None for llama.cpp's default.
    """

    model: str
    pre: str
    tokens: list[bytes]
    scores: list[float]
    types: list[int]
    special: SpecialVocab
    add_space_prefix: bool | None = None

    def write(self, writer: GGUFWriter) -> None:
        """Add everything to the metadata of a GGUF."""
        writer.add_tokenizer_model(self.model)
        writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(self.tokens)
        if self.model == "llama":
            writer.add_token_scores(self.scores)
        writer.add_token_types(self.types)
        if self.add_space_prefix is not None:
            writer.add_add_space_prefix(self.add_space_prefix)
        self.special.add_to_gguf(writer, quiet=True)


def read_vocabulary(folder: Path, size: int) -> Vocabulary:
    """Return the vocabulary of a checkpoint folder, padded to ``size`` tokens."""
    logging.getLogger("gguf").setLevel(logging.ERROR)
    settings = _read_json(folder / "tokenizer_config.json") or {}
    data = _read_json(folder / "tokenizer.json")
    if (folder / "tokenizer.model").is_file():
        return _sentencepiece(folder, size, settings)
    if data is None:
        raise BadInput(f"{folder} has no tokenizer", "copy tokenizer.json from the original model")
    try:
        if data["model"]["type"] != "BPE":
            raise BadInput(
                f"{folder} has a {data['model']['type']} tokenizer, which is not supported",
                "choose a model with a SentencePiece or byte-level BPE tokenizer",
            )
        if not data["model"]["vocab"]:
            raise BadInput(f"the tokenizer in {folder} has no tokens", "download it again")
        if data["model"].get("byte_fallback"):
            return _byte_fallback(folder, size, data, settings)
        return _byte_level(folder, size, data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadInput(
            f"{folder / 'tokenizer.json'} is damaged ({error!r})", "download it again"
        ) from None


def _read_json(path: Path) -> dict[str, Any] | None:
    if path_kind(path) is None:
        return None
    return reading.read_object(path, "download it again", most=reading.LARGEST_TABLE)


def _check_ids(ids: Iterable[int], size: int, folder: Path) -> None:
    """Raise BadInput for ids that the model has no row for."""
    odd = [i for i in ids if not 0 <= i < size]
    if odd:
        raise BadInput(
            f"{folder}: the tokenizer has a token {max(odd)}, but the model has only {size} rows",
            "use the tokenizer and the model from the same release",
        )


def _blank(size: int) -> tuple[list[bytes], list[float], list[int]]:
    """Return unused placeholder tokens, to be overwritten."""
    tokens = [f"[PAD{i}]".encode() for i in range(size)]
    return tokens, [_UNUSED_SCORE] * size, [int(TokenType.UNUSED)] * size


def _added_type(content: str, *, special: bool) -> tuple[str, int]:
    """Return text and type of an added token; some models do not mark control tokens."""
    control = special or re.fullmatch(
        r"<pad>|<mask>|<2mass>|\[@BOS@\]|<\|.*\|>|<｜.*｜>|<unused.*>", content, re.DOTALL
    )
    if control:
        return content, int(TokenType.CONTROL)
    return content.replace(_SPACE, " "), int(TokenType.USER_DEFINED)


def _byte_level(folder: Path, size: int, data: dict[str, Any]) -> Vocabulary:
    tokens, scores, types = _blank(size)
    vocabulary = data["model"]["vocab"]
    added = data.get("added_tokens", [])
    _check_ids([*vocabulary.values(), *(t["id"] for t in added)], size, folder)
    for text, i in vocabulary.items():
        tokens[i], types[i] = text.encode(), int(TokenType.NORMAL)
    for token in added:
        text, types[token["id"]] = _added_type(token["content"], special=token["special"])
        tokens[token["id"]] = text.encode()
    special = SpecialVocab(folder, load_merges=True)
    if not special.merges:
        raise BadInput(f"{folder / 'tokenizer.json'} has no merges", "download it again")
    return Vocabulary("gpt2", find_pretokenizer(data, folder), tokens, scores, types, special)


def _byte_fallback(
    folder: Path, size: int, data: dict[str, Any], settings: dict[str, Any]
) -> Vocabulary:
    """Return a SentencePiece vocabulary from tokenizer.json, with scores from the merge order.

    llama.cpp merges by the score of the result; the negative rank of the merge that produces a
    token gives the same order.
    """
    tokens, scores, types = _blank(size)
    vocabulary = data["model"]["vocab"]
    added = data.get("added_tokens", [])
    _check_ids([*vocabulary.values(), *(t["id"] for t in added)], size, folder)
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(data["model"]["merges"]):
        ranks.setdefault("".join(merge.split(" ") if isinstance(merge, str) else merge), rank)
    unknown = data["model"].get("unk_token")
    for text, i in vocabulary.items():
        tokens[i] = text.encode()
        scores[i] = -float(ranks[text]) if text in ranks else 0.0
        kind = TokenType.BYTE if re.fullmatch(r"<0x[0-9A-F]{2}>", text) else TokenType.NORMAL
        types[i] = int(TokenType.UNKNOWN if text == unknown else kind)
    for token in added:
        i = token["id"]
        if types[i] == TokenType.UNKNOWN:
            continue
        text, types[i] = _added_type(token["content"], special=token["special"])
        tokens[i], scores[i] = text.encode(), _ADDED_SCORE
    return Vocabulary(
        model="llama",
        pre="default",
        tokens=tokens,
        scores=scores,
        types=types,
        special=SpecialVocab(folder, n_vocab=size),
        add_space_prefix=settings.get("add_prefix_space", _prepends_space(data)),
    )


def _prepends_space(data: dict[str, Any]) -> bool:
    """Tell whether the tokenizer puts a space before the text."""
    normalizer = data.get("normalizer") or {}
    steps = normalizer.get("normalizers", [normalizer])
    if any(step.get("type") == "Prepend" for step in steps):
        return True
    pre = data.get("pre_tokenizer") or {}
    return any(
        step.get("type") == "Metaspace" and step.get("prepend_scheme") in ("first", "always")
        for step in pre.get("pretokenizers", [pre])
    )


def _sentencepiece(folder: Path, size: int, settings: dict[str, Any]) -> Vocabulary:
    from sentencepiece import SentencePieceProcessor

    processor = SentencePieceProcessor()
    try:
        processor.LoadFromFile(str(folder / "tokenizer.model"))
    except (OSError, RuntimeError):
        raise BadInput(
            f"{folder / 'tokenizer.model'} is not a SentencePiece model", "download it again"
        ) from None
    _check_ids([processor.vocab_size() - 1], size, folder)
    tokens, scores, types = _blank(size)
    for i in range(processor.vocab_size()):
        tokens[i], scores[i] = processor.IdToPiece(i).encode(), processor.GetScore(i)
        types[i] = int(_piece_type(processor, i))
    for key, i in (_read_json(folder / "added_tokens.json") or {}).items():
        _check_ids([i], size, folder)
        tokens[i], scores[i], types[i] = key.encode(), _ADDED_SCORE, int(TokenType.USER_DEFINED)
    for key, token in settings.get("added_tokens_decoder", {}).items():
        i = int(key)
        _check_ids([i], size, folder)
        text, types[i] = _added_type(token["content"], special=bool(token.get("special")))
        tokens[i], scores[i] = text.encode(), _ADDED_SCORE
    prefix = settings.get("add_prefix_space")
    if prefix is None and not processor.EncodeAsPieces("a")[0].startswith(_SPACE):
        prefix = False  # as in Gemma; llama.cpp's default is to add the space
    return Vocabulary(
        model="llama",
        pre="default",
        tokens=tokens,
        scores=scores,
        types=types,
        special=SpecialVocab(folder, n_vocab=size),
        add_space_prefix=prefix,
    )


def _piece_type(processor: Any, i: int) -> TokenType:
    if processor.IsUnknown(i):
        return TokenType.UNKNOWN
    if processor.IsControl(i):
        return TokenType.CONTROL
    if processor.IsUnused(i):
        return TokenType.UNUSED
    return TokenType.BYTE if processor.IsByte(i) else TokenType.NORMAL
