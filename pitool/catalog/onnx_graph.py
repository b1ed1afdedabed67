"""Walks the protobuf of an ONNX graph: where its tensors lie, and which a token reads.

After onnx.proto of ONNX and the encoding of Protocol Buffers; no tensor is read.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

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
# Of these inputs a token takes a row or two; every other weight is read whole.
_ROWS = frozenset({"Gather", "GatherBlockQuantized", "GroupQueryAttention", "RotaryEmbedding"})


def streamed_bytes(graph: Path) -> int:
    """Return the bytes of weights that decoding a token reads; ValueError for a damaged graph.

    Weights that only rows are taken from, the embedding and the rotations, do not count.
    """
    sizes: dict[str, int] = {}
    read: set[str] = set()
    with graph.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        for kind, start, end in _messages(view, "model", 0, len(view), 0):
            if kind == "tensor":
                name, size = _sized(view, start, end)
                sizes[name] = size
            elif kind == "node":
                places = list(_fields(view, start, end))
                texts = [(n, view[at:stop].decode()) for n, at, stop in places if n in (1, 4)]
                if not any(n == 4 and text in _ROWS for n, text in texts):
                    read |= {text for n, text in texts if n == 1}
    return sum(size for name, size in sizes.items() if name in read)


def _sized(view: mmap.mmap, start: int, end: int) -> tuple[str, int]:
    """Return a tensor's name and the bytes of its data, inside of the graph or outside."""
    name, size = "", 0
    for number, at, stop in _fields(view, start, end):
        if number == 8:
            name = view[at:stop].decode()
        elif number == 9:
            size = stop - at
        elif number == 13:
            key, value = _entry(view, at, stop)
            size = int(value) if key == "length" else size
    return name, size


def external_data(view: mmap.mmap) -> Iterator[dict[str, str]]:
    """Yield ``external_data`` of each tensor that has some; ValueError for a damaged graph."""
    graphs = 0
    for kind, start, end in _messages(view, "model", 0, len(view), 0):
        graphs += kind == "graph"
        if kind == "tensor":
            pairs = [
                _entry(view, at, stop)
                for number, at, stop in _fields(view, start, end)
                if number == 13
            ]
            if pairs:
                yield dict(pairs)
    if not graphs:
        raise ValueError("it has no graph")


def _messages(
    view: mmap.mmap, kind: str, start: int, end: int, depth: int
) -> Iterator[tuple[str, int, int]]:
    """Yield every message below one, itself included, as kind and place."""
    if depth > _MOST_NESTED:
        raise ValueError("its messages are nested too deeply")
    yield kind, start, end
    if kind == "tensor":
        return  # its only messages are read by the caller, its data by no one
    for number, at, stop in _fields(view, start, end):
        if nested := _NESTED.get((kind, number)):
            yield from _messages(view, nested, at, stop, depth + 1)


def _entry(view: mmap.mmap, start: int, end: int) -> tuple[str, str]:
    """Return a key and its value."""
    found = {number: view[at:stop].decode() for number, at, stop in _fields(view, start, end)}
    return found.get(1, ""), found.get(2, "")


def _fields(view: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield number and place of each length-delimited field of a message; skip the others."""
    at = start
    while at < end:
        tag, at = _varint(view, at, end)
        kind = tag & 7
        if kind == 0:
            _, at = _varint(view, at, end)
            continue
        if kind == 2:
            size, at = _varint(view, at, end)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"the field at byte {at} has an unsupported type")
        if at + size > end:
            raise ValueError(f"the field at byte {at} is longer than its message")
        if kind == 2:
            yield tag >> 3, at, at + size
        at += size


def _varint(view: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    """Return a number in base 128, and where it ends."""
    value = shift = 0
    while at < end and shift < 70:
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError(f"the number at byte {at} is truncated")
