"""The tokens of a vocabulary, and of which others each is made.

Byte-level BPE, SentencePiece's BPE and its unigram model, from tokenizer.json, tokenizer.model or
a GGUF. Owns the closure: a set of tokens in which every token can be made as before. BPE applies
the best merge of a text until there is none. What is merged on the way to a token must stay; then
a text whose tokens all stay is merged step by step as before, because each step's best merge is
still there, and none was added. The best path of a unigram model needs no others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from pitool.checkpoint.tokenizer import ADDED, PIECES, TOKENIZER, TokenizerFiles, read_json
from pitool.convert.gguf.vocabulary import marks_spaces
from pitool.errors import BadInput

Rank = Callable[[str, str], float | None]
"""The rank of a merge of two tokens, the lowest is applied first; None where there is no such."""

BYTE = re.compile(r"<0x[0-9A-F]{2}>")
SPACE = "\u2581"  # SentencePiece's symbol for a space


@dataclass(frozen=True)
class Pieces:
    """A vocabulary of the ``whole`` tokens of a model.

    ``texts``: by id, as they are stored; ``marked``: ids that are no text of a language: special,
    control, user-defined and byte tokens, and that for what is unknown. ``byte_level``: a text is
    written in the 256 letters of GPT-2's bytes; ``spelled``: every text can be written in bytes.
    ``ranks``: the orders in which runtimes merge, none for a unigram model; ``scores``: of that.
    """

    whole: int
    texts: Mapping[int, str]
    marked: frozenset[int]
    byte_level: bool
    spelled: bool
    ranks: tuple[Rank, ...]
    scores: Mapping[int, float]

    @cached_property
    def ids(self) -> dict[str, int]:
        """The ids of the tokens that are made of letters, by their texts."""
        return {text: i for i, text in self.texts.items() if i not in self.marked}

    @cached_property
    def base(self) -> frozenset[int]:
        """The tokens without which a text could not be written at all."""
        letters = {i for text, i in self.ids.items() if len(text) == 1}
        bare = self.byte_level or not self.spelled
        least = [min(self.scores, key=self.scores.__getitem__)] if self.scores else []
        # The penalty of what is unknown to a unigram model is measured from its least score.
        return frozenset({*(letters if bare else ()), *least})

    def parts(self, token: int) -> set[int]:
        """Return the tokens that a token is made of, step by step, by every order of merging."""
        text = self.texts[token]
        if token in self.marked or not self.ranks:
            return set()
        found: set[int] = set()
        for rank in self.ranks:
            steps = list(derive(text, rank))
            if steps and steps[-1] == text:
                found.update(self.ids[step] for step in [*steps, *text] if step in self.ids)
        return found - {token}

    def closed(self, tokens: Iterable[int]) -> set[int]:
        """Return tokens with all that they are made of."""
        kept = set(tokens)
        return kept.union(*(self.parts(token) for token in kept))

    def shown(self, token: int) -> str:
        """Return a token as text, with replacement characters where it is a part of a letter."""
        text = self.texts[token]
        if not self.byte_level:
            return text.replace(SPACE, " ")
        return bytes(_BYTES.get(c, 0x3F) for c in text).decode(errors="replace")


def derive(text: str, rank: Rank) -> Iterator[str]:
    """Yield the token of each merge of a text, in the order in which a BPE applies them."""
    left = list(text)
    while len(left) > 1:
        ranked = ((rank(*pair), i) for i, pair in enumerate(pairwise(left)))
        best = min(((r, i) for r, i in ranked if r is not None), default=None)
        if best is None:
            return
        i = best[1]
        left[i : i + 2] = [left[i] + left[i + 1]]
        yield left[i]


def byte_letters() -> dict[str, int]:
    """Return the bytes by GPT-2's letters for them: printable ones are themselves."""
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = (byte for byte in range(256) if byte not in set(own))
    return {chr(b): b for b in own} | {chr(256 + n): b for n, b in enumerate(others)}


_BYTES = byte_letters()


def by_merges(merges: Iterable[tuple[str, str]]) -> Rank:
    """Return the ranks of a list of merges, in its order."""
    ranks: dict[tuple[str, str], float] = {}
    for rank, pair in enumerate(merges):
        ranks.setdefault(pair, rank)
    return lambda a, b: ranks.get((a, b))


def by_results(ranks: Mapping[str, float]) -> Rank:
    """Return the ranks of merges by what they make, as SentencePiece and llama.cpp have them."""
    return lambda a, b: ranks.get(a + b)


def pairs(merges: Iterable[Any]) -> list[tuple[str, str]]:
    """Return the merges of a tokenizer.json, in either of its layouts."""
    split = (m.split(" ", 1) if isinstance(m, str) else m for m in merges)
    return [(left, right) for left, right in split]


def of_files(files: TokenizerFiles) -> Pieces:
    """Return the vocabulary of a tokenizer's files; BadInput for a kind that cannot be cut."""
    if files.data is None:
        return of_sentencepiece(files)
    model = files.data["model"]
    texts = {i: text for text, i in files.ids.items()}
    marked = {*files.added.values(), *(i for i, text in texts.items() if BYTE.fullmatch(text))}
    spelled = bool(model.get("byte_fallback"))
    if model["type"] == "Unigram":
        scores = {i: score for i, (_, score) in enumerate(model["vocab"])}
        unknown = model.get("unk_id")
        marked |= {unknown} if unknown is not None else set()
        return Pieces(files.size, texts, frozenset(marked), False, spelled, (), scores)
    if model["type"] != "BPE" or any(model.get(key) for key in _FIXES):
        raise unsupported(files.folder / TOKENIZER, model["type"])
    if model.get("unk_token") in files.ids:
        marked.add(files.ids[model["unk_token"]])
    merges = pairs(model.get("merges") or ())
    if not marks_spaces(files.data):
        ranks: tuple[Rank, ...] = (by_merges(merges),)
        return Pieces(files.size, texts, frozenset(marked), True, True, ranks, {})
    results: dict[str, float] = {}
    for rank, pair in enumerate(merges):
        results.setdefault("".join(pair), rank)
    ranks = (by_merges(merges), by_results(results))
    return Pieces(files.size, texts, frozenset(marked), False, spelled, ranks, {})


_FIXES = ("continuing_subword_prefix", "end_of_word_suffix")


def of_sentencepiece(files: TokenizerFiles) -> Pieces:
    """Return the vocabulary of a SentencePiece model, with the tokens that were added to it."""
    proto = read_proto(files.folder / PIECES)
    if proto is None or proto.trainer_spec.model_type not in (_UNIGRAM, _BPE):
        raise unsupported(files.folder, "unknown")
    texts = {i: piece.piece for i, piece in enumerate(proto.pieces)}
    marked = {i for i, piece in enumerate(proto.pieces) if piece.type != _NORMAL}
    decoder = files.settings.get("added_tokens_decoder", {}).items()
    added = {token["content"]: int(key) for key, token in decoder}
    for text, i in {**(read_json(files.folder / ADDED) or {}), **added}.items():
        if files.has_row(i, text):
            texts[i] = text
            marked.add(i)
    scores = {i: p.score for i, p in enumerate(proto.pieces) if i not in marked}
    spelled = any(piece.type == _BYTE for piece in proto.pieces)
    if proto.trainer_spec.model_type == _UNIGRAM:
        return Pieces(files.size, texts, frozenset(marked), False, spelled, (), scores)
    ranks = (by_results({texts[i]: -score for i, score in scores.items()}),)
    return Pieces(files.size, texts, frozenset(marked), False, spelled, ranks, {})


_UNIGRAM, _BPE = 1, 2  # of SentencePiece's TrainerSpec
_NORMAL, _BYTE = 1, 6  # of its pieces


def read_proto(path: Path) -> Any:
    """Return a SentencePiece model as its parts; None for no such file or one of another kind."""
    from google.protobuf.message import DecodeError
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto()
    try:
        proto.ParseFromString(path.read_bytes())
    except (OSError, DecodeError):
        return None
    return proto if proto.pieces else None


def unsupported(path: Path, kind: str) -> BadInput:
    """Return the error of a vocabulary of another kind."""
    return BadInput(
        f"the vocabulary of {path} cannot be cut: its tokenizer is of the kind {kind}",
        "drop --languages and --keep-text, or choose a model with a BPE or SentencePiece tokenizer",
    )
