"""TinyLlama's tokenizer cut down to its first pieces: a SentencePiece model that is read at once.

llama.cpp's converter wants ``tokenizer.model`` of some families. The whole one takes most of the
time of a comparison, and is compared itself where tokenizers are.
"""

from __future__ import annotations

import json
import shutil
import string
from pathlib import Path

SIZE = 1024
# Special tokens and bytes, which come first.
FIRST = 259
SPACE = "▁"


def write(source: Path, folder: Path) -> None:
    """Write the tokenizer of ``source`` with ``SIZE`` tokens into ``folder``."""
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString((source / "tokenizer.model").read_bytes())
    names = _kept([piece.piece for piece in model.pieces])
    kept = [piece for piece in model.pieces if piece.piece in names]
    del model.pieces[:]
    model.pieces.extend(kept)
    model.trainer_spec.vocab_size = SIZE
    (folder / "tokenizer.model").write_bytes(model.SerializeToString())
    data = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    bpe = data["model"]
    bpe["vocab"] = {piece.piece: i for i, piece in enumerate(kept)}
    merges = (tuple(merge.split(" ")) for merge in bpe["merges"])
    bpe["merges"] = [" ".join(m) for m in merges if names.issuperset((*m, "".join(m)))]
    (folder / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")
    shutil.copy(source / "tokenizer_config.json", folder)


def _kept(pieces: list[str]) -> set[str]:
    """Return the first pieces, all of letters that are pieces themselves, and those letters."""
    letters = {SPACE, *string.ascii_letters, *string.digits, *string.punctuation}
    whole = [piece for piece in pieces[FIRST:] if len(piece) > 1 and letters.issuperset(piece)]
    return {*pieces[:FIRST], *letters, *whole[: SIZE - FIRST - len(letters)]}
