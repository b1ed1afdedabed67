"""The vocabulary of a GGUF, from the tokenizer files of a checkpoint.

Two kinds, in llama.cpp's terms: ``llama`` (SentencePiece, from tokenizer.model or from a
tokenizer.json converted from one) and ``gpt2`` (byte-level BPE). Special tokens, merges and chat
templates are read by gguf's own SpecialVocab.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gguf import GGUFWriter, SpecialVocab, TokenType

from pitool.catalog.turn_ends import known_ends
from pitool.checkpoint.tokenizer import (
    ADDED,
    PIECES,
    TOKENIZER,
    TokenizerFiles,
    damaged,
    past_the_end,
    read_json,
)
from pitool.convert.gguf.pretokenizers import find_pretokenizer
from pitool.convert.turn_ends import turn_ends
from pitool.errors import BadInput

_UNUSED_SCORE = -10000.0
_ADDED_SCORE = -1000.0
_SPACE = "\u2581"  # SentencePiece's symbol for a space
# What llama.cpp's converter calls BERT's splitting of a text, and how many segments it has.
_WORDPIECE, _SEGMENTS = "jina-v2-en", 2
_LOWERCASE = "tokenizer.ggml.normalizer.lowercase"
# llama.cpp wants a merge; this one cannot apply, because a byte-level BPE has no such letters.
NO_MERGE = f"{_SPACE} {_SPACE}"
# Pre-tokenizers with which llama.cpp puts the beginning token unless it is told not to.
_BEGINS = frozenset(
    {"llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2",
     "jina-v5-nano", "tekken", "chameleon"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Tokens by id, with score and type; ``model`` is ``llama``, ``gpt2`` or ``bert``.

    ``add_space_prefix``: None for llama.cpp's default; ``lowercase``: of BERT's alone; ``ends``:
    ids that end an answer.
    """

    model: str
    pre: str
    tokens: list[bytes]
    scores: list[float]
    types: list[int]
    special: SpecialVocab
    add_space_prefix: bool | None = None
    lowercase: bool | None = None
    ends: tuple[int, ...] = ()

    @property
    def whole_tokens(self) -> dict[str, int]:
        """The ids of the tokens that are recognised as a whole in a text, by their texts."""
        kinds = (TokenType.CONTROL, TokenType.USER_DEFINED)
        return {
            token.decode(errors="replace"): i
            for i, (token, kind) in enumerate(zip(self.tokens, self.types, strict=True))
            if kind in kinds
        }

    def write(self, writer: GGUFWriter) -> None:
        """Add everything to the metadata of a GGUF."""
        if self.model == "bert":
            writer.add_token_type_count(_SEGMENTS)
        writer.add_tokenizer_model(self.model)
        writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(self.tokens)
        if self.model == "llama":
            writer.add_token_scores(self.scores)
        writer.add_token_types(self.types)
        if self.add_space_prefix is not None:
            writer.add_add_space_prefix(self.add_space_prefix)
        self.special.add_to_gguf(writer, quiet=True)
        if self.lowercase is not None and _LOWERCASE not in writer.kv_data[0]:
            writer.add_bool(_LOWERCASE, self.lowercase)


def read_vocabulary(
    folder: Path, size: int, settings: Path | None = None, whole: Path | None = None
) -> Vocabulary:
    """Return the vocabulary of a tokenizer's folder, padded to ``size`` tokens.

    ``settings``: the folder of config.json and generation_config.json, where it is another one.
    ``whole``: that of the tokenizer of which this one is a part, by whose tokens it is recognised.
    """
    logging.getLogger("gguf").setLevel(logging.ERROR)
    files = TokenizerFiles(folder, size)
    try:
        made = _made(files, whole or folder)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise damaged(folder, error) from None
    return _with_special(made, files, settings or folder)


def _made(files: TokenizerFiles, whole: Path) -> Vocabulary:
    """Return the vocabulary by the file that transformers would take, tokenizer.json first."""
    data, folder = files.data, files.folder
    pieces = load_pieces(folder / PIECES)
    if data is None:
        if pieces is None:
            raise _without_tokenizer(folder)
        return _sentencepiece(files, pieces)
    kind = data["model"]["type"]
    if kind == "Unigram" and pieces:
        return _sentencepiece(files, pieces)
    if kind == "WordPiece":
        return _wordpiece(files, data)
    if kind != "BPE":
        raise BadInput(
            f"{folder} has a {kind} tokenizer, which is not supported",
            "choose a model with a SentencePiece or byte-level BPE tokenizer",
        )
    if not data["model"]["vocab"]:
        raise BadInput(f"the tokenizer in {folder} has no tokens", "download it again")
    if not marks_spaces(data):
        return _byte_level(files, data, whole)
    if pieces and _same_pieces(pieces, data["model"]["vocab"]):
        return _sentencepiece(files, pieces)
    return _byte_fallback(files, data)


def _without_tokenizer(folder: Path) -> BadInput:
    if (folder / PIECES).is_file():
        return BadInput(
            f"{folder / PIECES} is not a SentencePiece model, and there is no {TOKENIZER}",
            "download it again, or create tokenizer.json with transformers:"
            " AutoTokenizer.from_pretrained(...).save_pretrained(...)",
        )
    return BadInput(f"{folder} has no tokenizer", "copy tokenizer.json from the original model")


def marks_spaces(data: dict[str, Any]) -> bool:
    """Tell whether a BPE writes a space as SentencePiece does, not by the letters of bytes."""
    if data["model"].get("byte_fallback"):
        return True
    steps = [*_steps(data.get("normalizer")), *_steps(data.get("pre_tokenizer"))]
    kinds = {step.get("type") for step in steps}
    replaced = any(s.get("type") == "Replace" and s.get("content") == _SPACE for s in steps)
    return "ByteLevel" not in kinds and ("Metaspace" in kinds or replaced)


def _steps(part: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Return the steps of a normalizer or pre-tokenizer."""
    part = part or {}
    return list(part.get("normalizers") or part.get("pretokenizers") or [part])


def _with_special(made: Vocabulary, files: TokenizerFiles, settings: Path) -> Vocabulary:
    """Return the vocabulary with what gguf's SpecialVocab reads otherwise than transformers does.

    The template, which tokens are put around a text, and the ends that llama.cpp would not know.
    """
    special = made.special
    if settings != files.folder:
        special._try_load_from_config_json(settings)
    if not isinstance(special.chat_template, list):
        special.chat_template = files.template
    flags, ids = special.add_special_token, special.special_token_ids
    begins = files.begins_with_bos
    by_default = made.model == "llama" or made.pre in _BEGINS
    if begins is not None and flags.get("bos", by_default) != begins:
        flags["bos"] = begins
    if flags.get("eos") and made.model != "bert":
        flags["eos"] = False  # an answer follows, or the text goes on
    ends = turn_ends(files, made.whole_tokens, settings)
    known = {ids.get("eos"), *known_ends(made.whole_tokens)}
    for name, end in zip(("eot", "eom"), (e for e in ends if e not in known), strict=False):
        ids.setdefault(name, end)
    return replace(made, ends=ends)


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


def _byte_level(files: TokenizerFiles, data: dict[str, Any], whole: Path) -> Vocabulary:
    tokens, scores, types = _blank(files.size)
    vocabulary = data["model"]["vocab"]
    added = data.get("added_tokens") or []
    for text, i in vocabulary.items():
        tokens[i], types[i] = text.encode(), int(TokenType.NORMAL)
    for token in added:
        text, types[token["id"]] = _added_type(token["content"], special=token["special"])
        tokens[token["id"]] = text.encode()
    special = SpecialVocab(files.folder, load_merges=True, n_vocab=files.size)
    if not data["model"].get("merges"):
        special.merges = [NO_MERGE]
    pre = find_pretokenizer(data, whole)
    return Vocabulary("gpt2", pre, _unique(tokens), scores, types, special)


def _wordpiece(files: TokenizerFiles, data: dict[str, Any]) -> Vocabulary:
    """Return BERT's vocabulary as llama.cpp has it: the sign is at the beginning of a word."""
    if (data.get("pre_tokenizer") or {}).get("type") != "BertPreTokenizer":
        raise BadInput(
            f"the rules of the WordPiece tokenizer in {files.folder} are not BERT's",
            "choose a model with BERT's own tokenizer",
        )
    blank, scores, types = _blank(files.size)
    tokens = [_SPACE.encode() + text for text in blank]
    special = {t["id"] for t in data.get("added_tokens") or [] if t["special"]}
    prefix = data["model"].get("continuing_subword_prefix") or "##"
    for text, i in data["model"]["vocab"].items():
        types[i] = int(TokenType.CONTROL if i in special else TokenType.NORMAL)
        if i in special:
            stored = text
        else:
            stored = text.removeprefix(prefix) if text.startswith(prefix) else _SPACE + text
        tokens[i] = stored.encode()
    found = SpecialVocab(files.folder, n_vocab=files.size)
    lowercase = (data.get("normalizer") or {}).get("lowercase")
    return Vocabulary(
        "bert", _WORDPIECE, _unique(tokens), scores, types, found,
        lowercase=lowercase if isinstance(lowercase, bool) else None,
    )  # fmt: skip


def _byte_fallback(files: TokenizerFiles, data: dict[str, Any]) -> Vocabulary:
    """Return a SentencePiece vocabulary from tokenizer.json, with scores from the merge order.

    llama.cpp merges by the score of the result; the negative rank of the merge that produces a
    token gives the same order.
    """
    tokens, scores, types = _blank(files.size)
    vocabulary = data["model"]["vocab"]
    added = data.get("added_tokens") or []
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(data["model"].get("merges") or []):
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
        tokens=_unique(tokens),
        scores=scores,
        types=types,
        special=SpecialVocab(files.folder, n_vocab=files.size),
        add_space_prefix=files.settings.get("add_prefix_space", _prepends_space(data)),
    )


def _prepends_space(data: dict[str, Any]) -> bool:
    """Tell whether the tokenizer puts a space before the text."""
    if any(step.get("type") == "Prepend" for step in _steps(data.get("normalizer"))):
        return True
    return any(
        step.get("type") == "Metaspace" and step.get("prepend_scheme") in ("first", "always")
        for step in _steps(data.get("pre_tokenizer"))
    )


def load_pieces(path: Path) -> Any:
    """Return a SentencePiece processor; None for no such file, or one of another kind.

    Llama 3 has a tiktoken file of that name.
    """
    from sentencepiece import SentencePieceProcessor

    processor = SentencePieceProcessor()
    try:
        processor.LoadFromFile(str(path))
    except (OSError, RuntimeError):
        return None
    return processor


def puts_space(processor: Any) -> bool:
    """Tell whether a SentencePiece model puts a space before a text."""
    return bool(processor.EncodeAsPieces("a")[0].startswith(_SPACE))


def _same_pieces(processor: Any, vocabulary: dict[str, int]) -> bool:
    """Tell whether a SentencePiece model is the one that tokenizer.json was made from."""
    count = processor.vocab_size()
    return all(i >= count or processor.IdToPiece(i) == text for text, i in vocabulary.items())


def _sentencepiece(files: TokenizerFiles, processor: Any) -> Vocabulary:
    folder, size, settings = files.folder, files.size, files.settings
    if processor.vocab_size() > size:
        raise past_the_end(folder, processor.vocab_size() - 1, size)
    tokens, scores, types = _blank(size)
    for i in range(processor.vocab_size()):
        tokens[i], scores[i] = processor.IdToPiece(i).encode(), processor.GetScore(i)
        types[i] = int(_piece_type(processor, i))
    for key, i in (read_json(folder / ADDED) or {}).items():
        if files.has_row(i, key):
            kind = int(TokenType.USER_DEFINED)
            tokens[i], scores[i], types[i] = key.encode(), _ADDED_SCORE, kind
    for key, token in settings.get("added_tokens_decoder", {}).items():
        i = int(key)
        if files.has_row(i, token["content"]):
            text, types[i] = _added_type(token["content"], special=bool(token.get("special")))
            tokens[i], scores[i] = text.encode(), _ADDED_SCORE
    prefix = settings.get("add_prefix_space")
    if prefix is None and not puts_space(processor):
        prefix = False  # as in Gemma; llama.cpp's default is to add the space
    return Vocabulary(
        model="llama",
        pre="default",
        tokens=_unique(tokens),
        scores=scores,
        types=types,
        special=SpecialVocab(folder, n_vocab=size),
        add_space_prefix=prefix,
    )


def _unique(tokens: list[bytes]) -> list[bytes]:
    """Return the tokens with those that occur twice renamed, on which llama.cpp would abort."""
    seen: set[bytes] = set()
    made = []
    for i, token in enumerate(tokens):
        made.append(token if token not in seen else f"[AGAIN{i}]".encode())
        seen.add(made[-1])
    return made


def _piece_type(processor: Any, i: int) -> TokenType:
    if processor.IsUnknown(i):
        return TokenType.UNKNOWN
    if processor.IsControl(i):
        return TokenType.CONTROL
    if processor.IsUnused(i):
        return TokenType.UNUSED
    return TokenType.BYTE if processor.IsByte(i) else TokenType.NORMAL
