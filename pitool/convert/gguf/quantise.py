"""Quantises a GGUF with ggml's own kernels, a slab of rows at a time.

Writes the same bytes as ``llama_model_quantize``, because that quantises row by row as well. But
it holds only a few slabs in memory, where llama.cpp holds the largest tensor in float32, and
Ctrl-C takes effect within a slab.
"""

from __future__ import annotations

import io
import os
import struct
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from pitool.catalog import gguf
from pitool.catalog.gguf import ALIGNMENT, Header, StoredTensor, padded
from pitool.catalog.tensor_types import QUANTISATIONS, Quantisation, TensorType
from pitool.convert.gguf import grids
from pitool.convert.gguf.ggml import dequantise_rows, is_valid, quantise_rows
from pitool.convert.gguf.importance import ImportanceMatrix
from pitool.convert.gguf.importance import read as read_importance
from pitool.errors import PitoolError
from pitool.planning.shapes import header_shape
from pitool.planning.type_mixture import TypedTensor, assign_types, is_carried

SLAB_BYTES = 2 << 20
# Slabs in memory per thread.
AHEAD = 4
FILE_TYPE, VERSION_KEY, VERSION = "general.file_type", "general.quantization_version", 2
_UINT32 = 4


def quantise(
    source: Path,
    target: Path,
    quantisation: Quantisation,
    threads: int,
    on_tensor: Callable[[int, int], None] = lambda _done, _all: None,
    *,
    types: Mapping[str, TensorType] | None = None,
    importance: Path | None = None,
    on_grid: Mapping[str, str] | None = None,
    made: Mapping[str, Path] | None = None,
) -> None:
    """Write ``target`` from the GGUF ``source``; ``on_tensor`` gets the tensors begun and all.

    ``types`` overrides the types of llama.cpp's mixture by tensor name; ``importance``: the file
    of an importance matrix; ``on_grid``: tensors that lie on the grid of their type,
    with the float type that may have rounded them; ``made``: files with the bytes of tensors that
    were rounded elsewhere. PitoolError for weights that are not finite.
    """
    header = gguf.read_header(source)
    matrix = read_importance(importance) if importance else None
    mixture = assign_types(header_shape(header), quantisation, importance=matrix is not None)
    carried = {t.name: t.type for t in header.tensors if is_carried(t.name)}
    others = {**carried, **(types or {})}
    typed = [TypedTensor(t.tensor, others.get(t.tensor.name, t.type)) for t in mixture]
    with target.open("wb") as file, ThreadPoolExecutor(threads) as pool:
        _write_header(file, header, quantisation, typed)
        tasks = (
            (i, task)
            for i, (stored, wanted) in enumerate(zip(header.tensors, typed, strict=True))
            for task in (
                _copies(made[stored.name], wanted)
                if made and stored.name in made
                else _tasks(source, stored, wanted.type, matrix, (on_grid or {}).get(stored.name))
            )
        )
        begun = 0
        for i, slab in _ahead(pool, AHEAD * threads, tasks):
            if i + 1 > begun:
                file.write(b"\0" * (-file.tell() % ALIGNMENT))
                begun = i + 1
                on_tensor(begun, len(typed))
            file.write(slab)
        file.write(b"\0" * (-file.tell() % ALIGNMENT))
        file.flush()
        os.fsync(file.fileno())


def header_bytes(header: Header) -> int:
    """Return the header size of what a GGUF is converted to, the same for every type."""
    file, kind = io.BytesIO(), QUANTISATIONS["F16"]
    _write_header(file, header, kind, list(assign_types(header_shape(header), kind)))
    return file.tell()


def _write_header(
    file: BinaryIO, header: Header, quantisation: Quantisation, typed: list[TypedTensor]
) -> None:
    """Write everything before the data: the source's metadata with another file type."""
    first, end = header.keys
    with header.path.open("rb") as source:
        source.seek(first)
        keys = source.read(end - first)
    count = len(header.metadata)
    for key, value in ((FILE_TYPE, quantisation.number), (VERSION_KEY, VERSION)):
        name = struct.pack("<Q", len(key)) + key.encode() + struct.pack("<I", _UINT32)
        at = keys.find(name)
        if at < 0:
            keys, count = keys + name + struct.pack("<I", value), count + 1
        elif key == FILE_TYPE:
            at += len(name)
            keys = keys[:at] + struct.pack("<I", value) + keys[at + 4 :]
    file.write(gguf.MAGIC + struct.pack("<IQQ", 3, len(typed), count) + keys)
    offset = 0
    for tensor in typed:
        name, shape = tensor.tensor.name.encode(), tensor.tensor.shape[::-1]
        file.write(struct.pack("<Q", len(name)) + name + struct.pack("<I", len(shape)))
        file.write(struct.pack(f"<{len(shape)}QIQ", *shape, tensor.type.number, offset))
        offset += padded(tensor.bytes)
    file.write(b"\0" * (-file.tell() % ALIGNMENT))


Task = Callable[[], bytes]


def _tasks(
    source: Path,
    stored: StoredTensor,
    wanted: TensorType,
    matrix: ImportanceMatrix | None,
    on_grid: str | None,
) -> Iterator[Task]:
    """Yield the tasks that return the bytes of a tensor's slabs, in order."""
    columns = stored.shape[-1]
    total = prod(stored.shape[:-1])
    experts = stored.shape[0] if len(stored.shape) > 2 else 1
    weights = matrix.weights(stored.name) if matrix else None
    if weights is not None and weights.shape != (experts, columns):
        weights = None
    each = total // experts
    step = max(SLAB_BYTES // (4 * columns), 1)
    for first in range(0, total, each):
        own = None if weights is None else weights[first // each]
        for row in range(first, first + each, step):
            count = min(step, first + each - row)
            yield lambda row=row, count=count, own=own: _slab(  # type: ignore[misc]
                source, stored, wanted, row, count, own, on_grid
            )


def _copies(path: Path, typed: TypedTensor) -> Iterator[Task]:
    """Yield the tasks that return the bytes of a tensor that was made before."""
    if path.stat().st_size != typed.bytes:
        raise PitoolError(
            f"{path} has another size than {typed.tensor.name} in {typed.type.name}",
            "delete it, then convert again",
        )
    for at in range(0, typed.bytes, SLAB_BYTES):
        count = min(SLAB_BYTES, typed.bytes - at)
        yield lambda at=at, count=count: np.fromfile(path, np.uint8, count, offset=at).tobytes()  # type: ignore[misc]


def _slab(
    source: Path,
    stored: StoredTensor,
    wanted: TensorType,
    row: int,
    count: int,
    importance: NDArray[np.float32] | None,
    on_grid: str | None,
) -> bytes:
    """Return rows as stored in the wanted type."""
    width = stored.type.size((stored.shape[-1],))
    raw = np.fromfile(source, np.uint8, count * width, offset=stored.start + row * width)
    if stored.type is wanted:
        return raw.tobytes()
    values = dequantise_rows(raw.reshape(count, width), stored.type)
    if wanted.name == "F32":
        return values.tobytes()
    kept = grids.encode(values, wanted, on_grid) if on_grid else None
    packed = kept[0] if kept else quantise_rows(values, wanted, importance)
    # A finite sum proves all values finite, and is faster; otherwise the sum may have overflowed.
    if not is_valid(packed, wanted) or not (np.isfinite(values.sum()) or np.isfinite(values).all()):
        raise PitoolError(
            f"cannot quantise {stored.name} to {wanted.name}: it has values that are not finite",
            "look for a repaired checkpoint",
        )
    return packed.tobytes()


def _ahead(
    pool: ThreadPoolExecutor, most: int, tasks: Iterator[tuple[int, Task]]
) -> Iterator[tuple[int, bytes]]:
    """Yield the results in order with their numbers, with at most ``most`` tasks in flight."""
    waiting: deque[tuple[int, Future[bytes]]] = deque()
    for number, task in tasks:
        waiting.append((number, pool.submit(task)))
        if len(waiting) >= most:
            number, done = waiting.popleft()
            yield number, done.result()
    for number, done in waiting:
        yield number, done.result()
