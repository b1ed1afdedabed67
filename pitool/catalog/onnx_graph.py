"""Walks the protobuf of an ONNX graph: where its tensors lie, and which a token reads.

After onnx.proto of ONNX and the encoding of Protocol Buffers; no tensor is read.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from pitool.errors import BadInput

T = TypeVar("T")

# Which fields of a message hold messages: (message, field number) -> message, after onnx.proto.
_NESTED = {
    ("model", 7): "graph",
    ("model", 25): "function",
    ("graph", 1): "node",
    ("graph", 5): "tensor",
    ("graph", 15): "sparse",
    ("function", 7): "node",
    ("node", 5): "attribute",
    ("attribute", 5): "tensor",
    ("attribute", 6): "graph",
    ("attribute", 10): "tensor",
    ("attribute", 11): "graph",
    ("attribute", 22): "sparse",
    ("attribute", 23): "sparse",
    ("sparse", 1): "tensor",
    ("sparse", 2): "tensor",
}
_MOST_NESTED = 64
# A graph of a hundred layers with every weight unpacked has some hundred thousand fields.
MOST_FIELDS = 5_000_000
_LONGEST_TEXT = 1 << 16
_AGAIN = "copy or convert it again"
# Of the weights of these a token takes those of the experts that it uses.
_EXPERTS = frozenset({"MoE", "QMoE"})
# The property of a graph that says how many these are.
EXPERTS_KEY = "experts"
# Of these inputs a token takes a row or two; every other weight is read whole.
_ROWS = frozenset({"Gather", "GatherBlockQuantized", "GroupQueryAttention", "RotaryEmbedding"})


Walked = Iterator[tuple[str, int, int]]


def streamed_bytes(graph: Path) -> int:
    """Return the bytes of weights that decoding a token reads; BadInput for a damaged graph.

    Weights that only rows are taken from, the embedding and the rotations, do not count.
    """
    return _walk(graph, _streamed_bytes)


def external_data(graph: Path) -> list[tuple[str, int]]:
    """Return where each tensor outside of the graph lies: the name of its file, and its end in it.

    BadInput for a damaged graph.
    """
    return _walk(graph, _external_data)


def _walk(graph: Path, read: Callable[[_View], T]) -> T:
    try:
        with graph.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            return read(_View(view))
    except FileNotFoundError:
        raise BadInput(f"{graph} is missing", _AGAIN) from None
    except OSError as error:
        raise BadInput(f"cannot read {graph} ({os.strerror(error.errno or 0)})", _AGAIN) from None
    except ValueError as error:
        raise BadInput(f"{graph} is damaged or truncated ({error})", _AGAIN) from None


class _View:
    """A graph's bytes, and how many of its fields may still be looked at."""

    def __init__(self, view: mmap.mmap) -> None:
        self._view, self._left = view, MOST_FIELDS

    def messages(self) -> Walked:
        """Yield every message of the model, itself included, as kind and place."""
        return self._messages("model", 0, len(self._view), 0)

    def _messages(self, kind: str, start: int, end: int, depth: int) -> Walked:
        if depth > _MOST_NESTED:
            raise ValueError("its messages are nested too deeply")
        yield kind, start, end
        if kind == "tensor":
            return  # its only messages are read by the caller, its data by no one
        for number, at, stop in self.fields(start, end):
            if nested := _NESTED.get((kind, number)):
                yield from self._messages(nested, at, stop, depth + 1)

    def fields(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Yield number and place of each length-delimited field of a message; skip the others."""
        at = start
        while at < end:
            self._left -= 1
            if self._left < 0:
                raise ValueError("it has too many fields")
            tag, at = self._varint(at, end)
            kind = tag & 7
            if kind == 0:
                _, at = self._varint(at, end)
                continue
            if kind == 2:
                size, at = self._varint(at, end)
            elif kind in (1, 5):
                size = 8 if kind == 1 else 4
            else:
                raise ValueError(f"the field at byte {at} has an unsupported type")
            if at + size > end:
                raise ValueError(f"the field at byte {at} is longer than its message")
            if kind == 2:
                yield tag >> 3, at, at + size
            at += size

    def text(self, start: int, end: int) -> str:
        """Return a name."""
        if end - start > _LONGEST_TEXT:
            raise ValueError(f"the text at byte {start} is too long")
        return self._view[start:end].decode()

    def entry(self, start: int, end: int) -> tuple[str, str]:
        """Return a key and its value."""
        places = self.fields(start, end)
        found = {number: self.text(at, stop) for number, at, stop in places if number in (1, 2)}
        return found.get(1, ""), found.get(2, "")

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        """Return a number in base 128, and where it ends."""
        value = shift = 0
        while at < end and shift < 70:
            byte = self._view[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, at
            shift += 7
        raise ValueError(f"the number at byte {at} is truncated")


def _streamed_bytes(view: _View) -> int:
    sizes: dict[str, int] = {}
    read: set[str] = set()
    some: set[str] = set()
    share = 1.0
    for kind, start, end in view.messages():
        if kind == "model":
            places = view.fields(start, end)
            said = dict(view.entry(at, stop) for number, at, stop in places if number == 14)
            share = _share(said.get(EXPERTS_KEY, ""))
        elif kind == "tensor":
            name, size = _sized(view, start, end)
            sizes[name] = size
        elif kind == "node":
            places = list(view.fields(start, end))
            texts = [(n, view.text(at, stop)) for n, at, stop in places if n in (1, 4)]
            if not any(n == 4 and text in _ROWS for n, text in texts):
                names = {text for n, text in texts if n == 1}
                some |= names if any(n == 4 and t in _EXPERTS for n, t in texts) else set()
                read |= names
    whole = sum(size for name, size in sizes.items() if name in read - some)
    return whole + round(share * sum(size for name, size in sizes.items() if name in some))


def _share(text: str) -> float:
    """Return which part of all experts a token uses, by the words ``2 of 8``."""
    used, _, every = text.partition(" of ")
    return _whole(used) / max(_whole(every), 1) if text else 1.0


def _sized(view: _View, start: int, end: int) -> tuple[str, int]:
    """Return a tensor's name and the bytes of its data, inside of the graph or outside."""
    name, size = "", 0
    for number, at, stop in view.fields(start, end):
        if number == 8:
            name = view.text(at, stop)
        elif number == 9:
            size = stop - at
        elif number == 13:
            key, value = view.entry(at, stop)
            size = _whole(value) if key == "length" else size
    return name, size


def _external_data(view: _View) -> list[tuple[str, int]]:
    graphs, found = 0, []
    for kind, start, end in view.messages():
        graphs += kind == "graph"
        if kind == "tensor":
            places = view.fields(start, end)
            pairs = dict(view.entry(at, stop) for number, at, stop in places if number == 13)
            if pairs:
                last = _whole(pairs.get("offset", "0")) + _whole(pairs.get("length", "0"))
                found.append((pairs.get("location", ""), last))
    if not graphs:
        raise ValueError("it has no graph")
    return found


def _whole(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 19:
        raise ValueError(f"{text[:20]!r} is not a number of bytes")
    return int(text)
