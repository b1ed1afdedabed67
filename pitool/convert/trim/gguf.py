"""A GGUF with a part of its vocabulary: the rows of some tokens, and metadata with their new ids.

Whole rows are copied as they are stored, so that quantised ones stay what they are. The header is
written first, for a plan; the tensors follow when the file is converted. Memory is bounded by a
run of rows.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from pitool.catalog import gguf
from pitool.catalog.gguf import ALIGNMENT, Entry, Header, StoredTensor, padded
from pitool.checkpoint.source import Checkpoint
from pitool.convert.gguf.vocabulary import NO_MERGE
from pitool.convert.trim.pieces import Pieces, Rank, by_merges, by_results, pairs, unsupported
from pitool.errors import BadInput
from pitool.report.progress import Progress

TOKENS, SCORES = "tokenizer.ggml.tokens", "tokenizer.ggml.scores"
TYPES, MERGES = "tokenizer.ggml.token_type", "tokenizer.ggml.merges"
KIND = "tokenizer.ggml.model"
WHOLE_TOKENIZER = "tokenizer.huggingface.json"
# The tensors with a row for each token.
MATRICES = ("token_embd.weight", "output.weight", "output.bias", "per_layer_token_embd.weight")
# llama.cpp's types of tokens, and of GGUF's values.
NORMAL, BYTE, UNUSED = 1, 6, 5
_INT32, _UINT32, _FLOAT32, _STRING, _ARRAY = 5, 4, 6, 8, 9
SLAB_BYTES = 4 << 20


def of_gguf(header: Header) -> Pieces:
    """Return the vocabulary of a GGUF; BadInput for a kind that cannot be cut."""
    arrays = {e.key: e.array for e in gguf.read_entries(header) if e.array is not None}
    kind = header.metadata.get(KIND)
    if kind not in ("gpt2", "llama", "t5") or TOKENS not in arrays:
        raise unsupported(header.path, str(kind))
    tokens = arrays[TOKENS] or []
    types = arrays.get(TYPES) or [NORMAL] * len(tokens)
    wrong = [key for key in (TYPES, SCORES) if len(arrays.get(key) or tokens) != len(tokens)]
    if wrong or not all(isinstance(token, bytes) for token in tokens):
        raise BadInput(
            f"{header.path}: {(wrong or [TOKENS])[0]} does not list the {len(tokens)} tokens",
            "copy or convert it again",
        )
    rows = min((t.shape[0] for t in header.tensors if t.name in MATRICES[:2]), default=0)
    texts = {i: token.decode(errors="replace") for i, token in enumerate(tokens[:rows])}
    texts = {i: text for i, text in texts.items() if types[i] != UNUSED}
    marked = frozenset(i for i in texts if types[i] != NORMAL)
    scores = {i: s for i, s in enumerate(arrays.get(SCORES) or ()) if i in texts}
    if kind == "gpt2":
        merges = pairs(m.decode(errors="replace") for m in arrays.get(MERGES) or ())
        ranks: tuple[Rank, ...] = (by_merges(merges),)
        return Pieces(rows, texts, marked, True, True, ranks, {})
    spelled = BYTE in types
    if kind == "t5":
        own = {i: score for i, score in scores.items() if i not in marked}
        return Pieces(rows, texts, marked, False, spelled, (), own)
    ranks = (by_results({texts[i]: -score for i, score in scores.items()}),)
    return Pieces(rows, texts, marked, False, spelled, ranks, {})


def settings_of(header: Header) -> dict[str, Any]:
    """Return what the metadata say that names tokens: their ids by key, and the chat template."""
    return {
        key: value
        for key, value in header.metadata.items()
        if key.startswith("tokenizer.") and type(value) in (int, str)
    }


def write_header(header: Header, target: Path, kept: NDArray[np.int64]) -> None:
    """Write a GGUF whose tensors are zeros still, which takes no room on the disk."""
    entries = list(_entries(header, kept))
    tensors = [(t, _shape(t, kept)) for t in header.tensors]
    with target.open("wb") as file:
        file.write(gguf.MAGIC + struct.pack("<IQQ", 3, len(tensors), len(entries)))
        file.writelines(entries)
        offset = 0
        for tensor, shape in tensors:
            name, sides = tensor.name.encode(), shape[::-1]
            file.write(_text(name) + struct.pack("<I", len(sides)))
            file.write(struct.pack(f"<{len(sides)}QIQ", *sides, tensor.type.number, offset))
            offset += padded(tensor.type.size(shape))
        file.write(b"\0" * (-file.tell() % ALIGNMENT))
        file.truncate(file.tell() + offset)


def copy_rows(checkpoint: Checkpoint, progress: Progress) -> None:
    """Copy the tensors of a GGUF whose vocabulary is cut; of any other source nothing is to do."""
    whole, trim = checkpoint.whole, checkpoint.source.trim
    if whole and trim and whole.folder.is_file():
        fill(whole.folder, trim.folder, trim.kept, progress)


def fill(source: Path, target: Path, kept: NDArray[np.int64], progress: Progress) -> None:
    """Copy the tensors of a GGUF into one whose header was written, row by row."""
    before, after = gguf.read_header(source), gguf.read_header(target)
    progress.stage("copying the kept rows", sum(t.bytes for t in after.tensors), bytes_=True)
    with source.open("rb") as old, target.open("r+b") as new:
        for whole, part in zip(before.tensors, after.tensors, strict=True):
            new.seek(part.start)
            for slab in _rows(old, whole, kept):
                new.write(slab)
                progress.advance(len(slab))
        new.flush()
        os.fsync(new.fileno())


def _rows(file: BinaryIO, tensor: StoredTensor, kept: NDArray[np.int64]) -> Iterator[bytes]:
    """Yield the bytes of a tensor's rows: of the kept tokens, or of all where it has others."""
    count = tensor.shape[0]
    width = tensor.bytes // count
    picked = kept[kept < count] if tensor.name in MATRICES else None
    step = max(SLAB_BYTES // width, 1)
    for first in range(0, count, step):
        some = min(step, count - first)
        if picked is None:
            file.seek(tensor.start + first * width)
            yield file.read(some * width)
            continue
        begin, end = np.searchsorted(picked, (first, first + some))
        if begin < end:
            file.seek(tensor.start + first * width)
            rows = np.frombuffer(file.read(some * width), np.uint8).reshape(some, width)
            yield rows[picked[begin:end] - first].tobytes()


def _shape(tensor: StoredTensor, kept: NDArray[np.int64]) -> tuple[int, ...]:
    if tensor.name not in MATRICES:
        return tensor.shape
    return (int((kept < tensor.shape[0]).sum()), *tensor.shape[1:])


def _entries(header: Header, kept: NDArray[np.int64]) -> Iterator[bytes]:
    """Yield the metadata: what counts tokens has the new ids, all else is as it was."""
    new = {int(old): i for i, old in enumerate(kept)}
    all_entries = list(gguf.read_entries(header))
    tokens = next(e.array for e in all_entries if e.key == TOKENS) or []
    texts = {tokens[i] for i in new}
    for entry in all_entries:
        made = _entry(header, entry, new, texts)
        if made:
            yield made


def _entry(header: Header, entry: Entry, new: Mapping[int, int], texts: set[bytes]) -> bytes:
    """Return the bytes of an entry with the new ids; nothing for one that is left out."""
    key, values = entry.key, entry.array
    head = _text(key.encode())
    if key == WHOLE_TOKENIZER:
        return b""
    if key == f"{header.architecture}.vocab_size":
        return head + struct.pack("<II", _UINT32, len(new))
    if values is not None and key in (TOKENS, SCORES, TYPES):
        return head + _array(key, [values[i] for i in new])
    if values is not None and key == MERGES:
        return head + _array(key, [m for m in values if _merges(m, texts)] or [NO_MERGE.encode()])
    if key.startswith("tokenizer.ggml.") and key.endswith("_token_id"):
        token = new.get(header.metadata[key])
        return b"" if token is None else head + struct.pack("<II", _UINT32, token)
    if values is not None and key.startswith("tokenizer.ggml.") and key.endswith("_tokens"):
        return head + _array(key, [new[i] for i in values if i in new])
    return entry.stored


def _merges(merge: bytes, texts: set[bytes]) -> bool:
    """Tell whether a merge and its result are made of tokens that are left."""
    left, _, right = merge.partition(b" ")
    return left in texts and right in texts and left + right in texts


def _array(key: str, values: list[Any]) -> bytes:
    if key in (TOKENS, MERGES):
        head = struct.pack("<IIQ", _ARRAY, _STRING, len(values))
        return head + b"".join(map(_text, values))
    kind, code = (_FLOAT32, "f") if key == SCORES else (_INT32, "i")
    head = struct.pack("<IIQ", _ARRAY, kind, len(values))
    return head + struct.pack(f"<{len(values)}{code}", *values)


def _text(data: bytes) -> bytes:
    return struct.pack("<Q", len(data)) + data
