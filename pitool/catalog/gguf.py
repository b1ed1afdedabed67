"""Reads the header of a GGUF file: metadata, tensor table, and whether the file is whole.

Follows the GGUF specification, version 3 (docs/gguf.md in ggml). Owns no tensor data and needs
the standard library only, so that a board can refuse a bad file before llama.cpp sees it.
"""

from __future__ import annotations

import mmap
import re
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

from pitool.catalog.files import path_kind
from pitool.catalog.tensor_types import (
    QUANTISATIONS,
    REMOVED,
    TensorType,
    quantisation_of_number,
    type_of_number,
)
from pitool.errors import BadInput, readable

MAGIC, SUFFIX = b"GGUF", ".gguf"
# general.alignment where a file does not say otherwise; ours never do.
ALIGNMENT = 32
# Metadata and tensor table: vocabularies of 262,144 tokens with their merges take 25 MB.
LARGEST_HEADER = 256 << 20
MOST_ENTRIES = 1 << 16
MOST_LAYERS = 1000
MOST_PARTS = 1000
# Numbers of tensor types; those of forks are below as well.
MOST_TYPES = 1000
LONGEST_NAME = 200
LONG_FACTORS = "rope_factors_long.weight"
# llama.cpp's names of the parts of a split file (llama_split_path).
PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)
_AGAIN = "copy or convert it again"
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q"}
_SCALARS[12] = "d"
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor of the file; ``shape`` ends with the row length, ``start``: its first byte."""

    name: str
    shape: tuple[int, ...]
    type: TensorType
    start: int = field(default=0, compare=False)

    @property
    def bytes(self) -> int:
        """Stored bytes."""
        return self.type.size(self.shape)


@dataclass(frozen=True, slots=True)
class Entry:
    """A key of the metadata, with all bytes of it and its value as they are stored.

    ``array``: the values of an array, texts as bytes; None for any other value.
    """

    key: str
    stored: bytes
    array: list[Any] | None


@dataclass(frozen=True, slots=True)
class Header:
    """What a GGUF file says of itself. Arrays longer than 64 are kept as their length only.

    ``keys``: first and last byte of the metadata as it is stored.
    """

    path: Path
    metadata: dict[str, Any]
    tensors: tuple[StoredTensor, ...]
    keys: tuple[int, int] = field(default=(0, 0), compare=False)

    @property
    def architecture(self) -> str:
        """``general.architecture``."""
        said = self.metadata.get("general.architecture")
        return readable(said)[:LONGEST_NAME] if isinstance(said, str) and said else "unknown"

    @property
    def name(self) -> str:
        """``general.name`` on one line, else the file's name."""
        said = self.metadata.get("general.name")
        words = " ".join(readable(said).split()) if isinstance(said, str) else ""
        return words[:LONGEST_NAME] or self.path.stem

    @property
    def quantisation(self) -> str:
        """The name of ``general.file_type``; else that of the most used quantised type."""
        number = self.metadata.get("general.file_type")
        if known := quantisation_of_number(number) if type(number) is int else None:
            return known.name
        by_bytes: Counter[str] = Counter()
        for tensor in self.tensors:
            by_bytes[tensor.type.name] += tensor.bytes
        return by_bytes.most_common(1)[0][0] if by_bytes else "unknown"

    @property
    def short_context(self) -> int:
        """Tokens of context up to which LongRoPE takes its short factors; 0 for all."""
        original = self.number("rope.scaling.original_context_length")
        stretched = any(tensor.name == LONG_FACTORS for tensor in self.tensors)
        return original if stretched and original < self.number("context_length") else 0

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(prod(tensor.shape) for tensor in self.tensors)

    @property
    def bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.bytes for tensor in self.tensors)

    @property
    def size(self) -> int:
        """Bytes before the first tensor."""
        return min((tensor.start for tensor in self.tensors), default=self.keys[1])

    @property
    def parts(self) -> int:
        """Of how many files the model is made, by ``split.count``."""
        said = self.metadata.get("split.count")
        return said if type(said) is int and said > 1 else 1

    def number(self, key: str, default: int = 0) -> int:
        """Return a count of the architecture's own keys, such as ``block_count``."""
        value = self.metadata.get(f"{self.architecture}.{key}", default)
        return value if type(value) is int and value >= 0 else default


def padded(size: int) -> int:
    """Return the bytes that a tensor, or a header, takes in a GGUF file."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def begins_as_gguf(path: Path) -> bool:
    """Tell whether a file begins as a GGUF does, whatever its name."""
    try:
        if not path.is_file():  # opening a pipe may take for ever
            return False
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def model_name(path: Path) -> str:
    """Return the model's name by its file's: without the quantisation at the end."""
    names = "|".join(map(re.escape, QUANTISATIONS))
    part = PART.fullmatch(path.name)
    stem = part["stem"] if part else path.stem
    return re.sub(rf"[-._]({names})$", "", stem, flags=re.IGNORECASE) or stem


def part_names(name: str) -> list[str]:
    """Return the names of all files of a model by that of its first; of one file its own."""
    part = PART.fullmatch(name)
    if part is None or not 0 < (count := int(part["count"])) <= MOST_PARTS:
        return [name]
    return [f"{part['stem']}-{i:05}-of-{count:05}.gguf" for i in range(1, count + 1)]


def join(headers: Sequence[Header]) -> Header:
    """Return the header of a split file: what its first part says, with the tensors of all."""
    return replace(headers[0], tensors=tuple(t for header in headers for t in header.tensors))


def read_header(path: Path) -> Header:
    """Return the header of a GGUF file; BadInput when it is missing, foreign or cut short.

    Of a split file, which is opened by its first part, it has the tensors of all parts.
    """
    header = _read_one(path)
    if header.parts == 1:
        return header
    names = part_names(path.name)
    if len(names) != header.parts or path.name != names[0]:
        raise BadInput(
            f"{path} is one part of a split GGUF of {header.parts} parts",
            "open the first part, whose name ends in -00001-of-"
            f"{header.parts:05}.gguf, or merge the parts with: llama-gguf-split --merge",
        )
    return join([header, *(_read_one(path.with_name(name)) for name in names[1:])])


def text_at(header: Header, key: str, index: int) -> str | None:
    """Return one text of an array in the metadata, such as a token; None where it has none."""
    with (
        header.path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view,
    ):
        parser = _Parser(header.path, view, len(view))
        return parser.text_at(header.keys[0], len(header.metadata), key, index)


def read_entries(header: Header) -> Iterator[Entry]:
    """Yield the metadata as it is stored, entry by entry, with arrays of any length."""
    with (
        header.path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view,
    ):
        parser = _Parser(header.path, view, len(view))
        yield from parser.entries(header.keys[0], len(header.metadata))


def parse_header(path: Path, beginning: bytes, size: int) -> Header | None:
    """Return the header by a file's first bytes; None where the header is longer than these.

    ``size``: bytes of the whole file. BadInput as ``read_header``.
    """
    try:
        return _Parser(path, beginning, size).header()
    except _TooShort:
        return None


def _read_one(path: Path) -> Header:
    if path_kind(path) == "file" and not path.is_file():  # which opening may wait for
        raise BadInput(f"{path} is a device or a pipe, not a file", "use a GGUF file")
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            if size < 24:
                raise BadInput(f"{path} is too short to be a GGUF file ({size} bytes)", _AGAIN)
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
                return _Parser(path, view, size).header()
    except FileNotFoundError:
        raise BadInput(f"{path} does not exist", "check the path") from None
    except OSError as error:
        raise BadInput(f"cannot read {path} ({error.strerror})", "check the path") from None


class _TooShort(Exception):  # noqa: N818 - no error: more is asked for
    """The bytes at hand end before the header does."""


class _Parser:
    """A cursor over a mapped file, or its first bytes, that never reads past its end."""

    def __init__(self, path: Path, view: mmap.mmap | bytes, size: int) -> None:
        self._path, self._view, self._size, self._at = path, view, size, 0

    def header(self) -> Header:
        magic = self._take(4)
        if magic != MAGIC:
            kind = _foreign(magic)
            raise BadInput(f"{self._path} is not a GGUF file: it begins with {kind}", _AGAIN)
        version = self._number("I")
        if version not in (2, 3):
            raise BadInput(f"{self._path} is GGUF version {version}, not 2 or 3", _AGAIN)
        tensor_count, key_count = self._number("Q"), self._number("Q")
        if max(tensor_count, key_count) > min(self._size, MOST_ENTRIES):
            raise self._broken(f"it claims {tensor_count} tensors and {key_count} keys")
        metadata, first = {}, self._at
        for _ in range(key_count):
            key = self._string()
            metadata[key] = self._value(self._number("I"))
        keys = first, self._at
        entries = [self._tensor() for _ in range(tensor_count)]
        alignment = metadata.get("general.alignment", ALIGNMENT)
        if not isinstance(alignment, int) or alignment <= 0:
            raise self._broken("its alignment is not a positive number")
        data = -(-self._at // alignment) * alignment
        if _has_other_q2_0(entries, alignment, self._size - data):
            raise BadInput(
                f"{self._path} is Q2_0 in blocks of 128 weights, as a fork of llama.cpp has them;"
                " llama.cpp itself has blocks of 64",
                "choose the file whose name ends in Q2_0_g64",
            )
        end = max((data + offset + t.bytes for t, offset in entries), default=data)
        if end > self._size:
            raise BadInput(f"{self._path} is truncated: it has {self._size} of {end} bytes", _AGAIN)
        tensors = tuple(replace(tensor, start=data + offset) for tensor, offset in entries)
        header = Header(self._path, metadata, tensors, keys)
        if (layers := header.number("block_count")) > MOST_LAYERS:
            raise self._broken(f"it claims {layers} layers")
        return header

    def text_at(self, first: int, count: int, key: str, index: int) -> str | None:
        """Return a text of the array ``key``; ``first``: where ``count`` entries begin."""
        self._at = first
        for _ in range(count):
            name, kind = self._string(), self._number("I")
            if name != key:
                self._value(kind)
                continue
            inner, size = (self._number("I"), self._number("Q")) if kind == _ARRAY else (0, 0)
            if inner != _STRING or not 0 <= index < size:
                return None
            for _ in range(index):
                self._pass(self._number("Q"))
            return self._string()
        return None

    def entries(self, first: int, count: int) -> Iterator[Entry]:
        """Yield ``count`` entries that begin at the byte ``first``."""
        self._at = first
        for _ in range(count):
            begin = self._at
            key, kind = self._string(), self._number("I")
            value = self._whole_array() if kind == _ARRAY else self._value(kind)
            stored = bytes(self._view[begin : self._at])
            yield Entry(key, stored, value if kind == _ARRAY else None)

    def _whole_array(self) -> list[Any]:
        kind, count = self._number("I"), self._number("Q")
        if kind in _SCALARS:
            width = struct.calcsize(_SCALARS[kind])
            return list(struct.unpack(f"<{count}{_SCALARS[kind]}", self._take(count * width)))
        if kind != _STRING or count > self._size:
            raise self._broken("an array has no numbers and no texts")
        return [self._take(self._number("Q")) for _ in range(count)]

    def _broken(self, why: str) -> BadInput:
        return BadInput(f"{self._path} is a damaged GGUF file: {why}", _AGAIN)

    def _without(self, name: str, number: int) -> BadInput:
        """Return the error of a tensor type that llama.cpp does not have: any more, or yet."""
        if number > MOST_TYPES:
            return self._broken(f"tensor {name!r} has the unknown type {number}")
        if old := REMOVED.get(number):
            return BadInput(
                f"{self._path} is {old[0]}, which llama.cpp cannot read any more",
                f"choose {old[1]} of the same model",
            )
        return BadInput(
            f"{self._path}: tensor {name!r} has the unknown type {number}, which a newer llama.cpp"
            " or a fork of it may have",
            "choose another quantisation of the model, or update pitool",
        )

    def _take(self, count: int) -> bytes:
        self._pass(count)
        return self._view[self._at - count : self._at]

    def _pass(self, count: int) -> None:
        if self._at + count > self._size:
            raise self._broken(f"its header ends after {self._size} bytes")
        if self._at + count > len(self._view):
            raise _TooShort
        self._at += count
        if self._at > LARGEST_HEADER:
            raise self._broken(f"its header is larger than {LARGEST_HEADER >> 20} MiB")

    def _number(self, code: str) -> Any:
        return struct.unpack(f"<{code}", self._take(struct.calcsize(code)))[0]

    def _string(self) -> str:
        return self._take(self._number("Q")).decode("utf-8", "replace")

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY:
            return self._array()
        if kind not in _SCALARS:
            raise self._broken(f"a value has the unknown type {kind}")
        return self._number(_SCALARS[kind])

    def _array(self) -> Any:
        kind, count = self._number("I"), self._number("Q")
        if kind in _SCALARS:
            width = struct.calcsize(_SCALARS[kind])
            if count > 64:
                self._pass(count * width)
                return count
            return list(struct.unpack(f"<{count}{_SCALARS[kind]}", self._take(count * width)))
        if kind == _ARRAY:
            raise self._broken("an array contains arrays, which llama.cpp does not support")
        if count > min(self._size, LARGEST_HEADER):
            raise self._broken("an array is longer than the file")
        if kind == _STRING and count > 64:
            self._skip_strings(count)
            return count
        return [self._value(kind) for _ in range(count)]

    def _skip_strings(self, count: int) -> None:
        """Pass over a vocabulary; a loop of its own, for a chat waits for it."""
        length, view, at = struct.Struct("<Q").unpack_from, self._view, self._at
        try:
            for _ in range(count):
                at += 8 + length(view, at)[0]
        except (struct.error, OverflowError):  # past the end, or past what can be indexed
            if at + 8 > len(view) and at + 8 <= self._size:
                raise _TooShort from None
            at = self._size + 1
        self._at = at
        self._pass(0)

    def _tensor(self) -> tuple[StoredTensor, int]:
        name = self._string()
        rank = self._number("I")
        if rank > 4:
            raise self._broken(f"tensor {name!r} has {rank} dimensions")
        shape = tuple(self._number("Q") for _ in range(rank))[::-1] or (1,)
        number = self._number("I")
        kind = type_of_number(number)
        if kind is None:
            raise self._without(name, number)
        tensor = StoredTensor(name, shape, kind)
        if shape[-1] % tensor.type.block:
            raise self._broken(f"the rows of {name!r} are not a multiple of the block size")
        return tensor, self._number("Q")


def _has_other_q2_0(entries: Sequence[tuple[StoredTensor, int]], alignment: int, size: int) -> bool:
    """Tell whether Q2_0 is stored in blocks of 128 weights: 34 bytes each, not twice 18.

    ``entries``: tensors with their offsets in the data; ``size``: bytes of the data.
    """
    found = [(tensor, offset) for tensor, offset in entries if tensor.type.name == "Q2_0"]
    ends = dict(pairwise(sorted({offset for _, offset in entries} | {size}))) if found else {}
    for tensor, offset in found:
        other = prod(tensor.shape) // 128 * 34
        room = ends.get(offset, 0) - offset
        if room < tensor.bytes and other <= room < other + alignment:
            return True
    return False


def _foreign(magic: bytes) -> str:
    """Say what a file is that is not GGUF."""
    known = {
        b"PK\x03\x04": "a ZIP archive",
        b"\x7fELF": "a program",
        b"lmgg": "old GGML",
        b"vers": "a pointer of Git LFS, which 'git lfs pull' replaces by the file",
        b"<!DO": "a web page",
        b"<!do": "a web page",
        b"<htm": "a web page",
    }
    return known.get(magic, repr(magic))
