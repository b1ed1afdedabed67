"""Small tokenizers of every kind that can be cut, whole and cut, for the tokenizers library."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import sentencepiece
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from pitool.checkpoint.tokenizer import TokenizerFiles
from pitool.convert.trim.files import renumber_tokenizer
from pitool.convert.trim.pieces import Pieces, of_files
from tests import small_tokenizers
from tests.small_tokenizers import SIZE, TEXTS

BPES = ("smollm", "qwen", "phi-3", "llama-2", "mistral-0.3", "without byte tokens")
KINDS = (*BPES, "unigram")


def write_sentencepiece(folder: Path, kind: str) -> None:
    """Train a SentencePiece model: ``bpe`` or ``unigram``, with byte tokens."""
    text = folder / "text.txt"
    text.write_text("\n".join(TEXTS * 4), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.Train(
        input=str(text), model_prefix=str(folder / "tokenizer"), model_type=kind,
        vocab_size=400, byte_fallback=True, character_coverage=1.0, hard_vocab_limit=False,
        remove_extra_whitespaces=False, normalization_rule_name="identity", minloglevel=2,
    )  # fmt: skip


def write_unigram(folder: Path) -> None:
    """Write a unigram model as both of its files."""
    write_sentencepiece(folder, "unigram")
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    count = processor.vocab_size()
    vocabulary = [(processor.IdToPiece(i), processor.GetScore(i)) for i in range(count)]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=processor.unk_id(), byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.add_special_tokens([processor.IdToPiece(i) for i in range(3)])
    tokenizer.save(str(folder / "tokenizer.json"))


def write(folder: Path, kind: str) -> Path:
    """Write a tiny checkpoint with a tokenizer of a kind."""
    if kind != "unigram":
        return small_tokenizers.write(folder, kind)
    small_tokenizers.write(folder, "llama-2")
    write_unigram(folder)
    return folder


class Both:
    """A tokenizer, and what a part of it becomes."""

    def __init__(self, data: dict[str, Any], pieces: Pieces) -> None:
        self.data, self.pieces = data, pieces
        self.whole = Tokenizer.from_str(json.dumps(data))

    def cut(self, kept: Iterable[int]) -> Tokenizer:
        """Return the tokenizer with some tokens."""
        new = {old: i for i, old in enumerate(sorted(kept))}
        return Tokenizer.from_str(json.dumps(renumber_tokenizer(self.data, new)))


@cache
def both(kind: str) -> Both:
    """Return the small tokenizer of a kind."""
    with TemporaryDirectory() as scratch:
        files = TokenizerFiles(write(Path(scratch) / "model", kind), SIZE)
    assert files.data
    return Both(files.data, of_files(files))
