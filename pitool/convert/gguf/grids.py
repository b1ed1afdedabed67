"""Tensor types whose grid a matrix lies on already, so that storing it in them loses nothing.

Makers train models for Q4_0, for three values a weight, or for one bit, and publish the weights as
floats. A matrix counts as on a grid only if every value comes back from the stored bytes, by ggml's
own dequantisation. Owns that question and the bytes; which kinds are made is the plan's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pitool.catalog import gguf
from pitool.catalog.gguf import StoredTensor
from pitool.catalog.model_shape import TensorShape
from pitool.catalog.tensor_types import TENSOR_TYPES, TensorType
from pitool.checkpoint.source import Checkpoint
from pitool.checkpoint.tensors import Tensor
from pitool.convert.gguf.ggml import dequantise_rows, quantise_rows
from pitool.convert.gguf.model import Model
from pitool.convert.gguf.stored import FLOATS, Stored
from pitool.convert.gguf.writer import match_tensors
from pitool.convert.lattice import Floats, find_scales, levels, rounded, stored_as
from pitool.planning.type_mixture import TypedTensor, is_rounded

# By their bits, but that TQ1_0 unpacks more slowly than TQ2_0, and is for those who ask for it.
GRIDS = ("Q1_0", "TQ2_0", "Q2_0", "TQ1_0", "MXFP4", "Q4_0")
# Of a matrix that is looked at before all of it is.
SAMPLE_ROWS = 8
SLAB_BYTES = 4 << 20
# No block of the smallest size has more values than 4 bits have.
LEAST_BLOCK, MOST_VALUES = 32, 16
LOW, HIGH = -8, 7  # of Q4_0


@dataclass(frozen=True, slots=True)
class Kept:
    """A type that holds a matrix; ``exact``: bit for bit, else as ``stored`` rounds it.

    ``stored``: the narrowest float type that has all of its values.
    """

    type: TensorType
    exact: bool
    stored: str


Found = Mapping[str, tuple[Kept, ...]]
"""By the names of tensors that lie on a grid: the types that hold them, the best first."""


def encode(rows: Floats, kind: TensorType, stored: str) -> tuple[NDArray[np.uint8], bool] | None:
    """Return rows as stored in a type that holds them, and whether exactly; None if it does not.

    ``rows``: (rows, columns); ``stored``: the float type that may have rounded them. ggml's own
    quantiser finds most grids by itself. That of Q4_0 takes the largest weight of a block for the
    level -8, which it need not be.
    """
    packed = quantise_rows(rows, kind, None)
    made = dequantise_rows(packed, kind)
    wrong = (made != rows).reshape(-1, kind.block).any(1)
    if kind.name == "Q4_0" and wrong.any() and np.isfinite(rows).all():
        found = _pack_q4_0(rows.reshape(-1, kind.block)[wrong], stored)
        if found is None:
            return None
        packed.reshape(-1, kind.block_bytes)[wrong] = found
        made = dequantise_rows(packed, kind)
    exact = bool((made == rows).all())
    same = exact or bool((rounded(made, stored) == rows).all())
    return (packed, exact) if same else None


def _pack_q4_0(blocks: Floats, stored: str) -> NDArray[np.uint8] | None:
    """Return blocks as ggml stores them; None where one does not lie on the grid."""
    scales = find_scales(blocks, LOW, HIGH, half=True, stored=stored)
    if np.isnan(scales).any():
        return None
    counts = (levels(blocks, scales, LOW, HIGH) - LOW).astype(np.uint8)
    middle = blocks.shape[1] // 2
    nibbles = counts[:, :middle] | counts[:, middle:] << 4
    return np.concatenate([scales.astype("<f2").view(np.uint8).reshape(-1, 2), nibbles], 1)


def look(rows: Floats) -> tuple[Kept, ...]:
    """Return the types that hold these rows of a matrix."""
    columns = rows.shape[-1]
    first = rows[:, :LEAST_BLOCK]
    if not rows.size or any(len(np.unique(block)) > MOST_VALUES for block in first):
        return ()
    kinds, stored = [TENSOR_TYPES[name] for name in GRIDS], stored_as([rows])
    made = ((kind, encode(rows, kind, stored)) for kind in kinds if columns % kind.block == 0)
    return tuple(Kept(kind, found[1], stored) for kind, found in made if found)


def find(
    path: Path, on_tensor: Callable[[int], None] = lambda _: None
) -> dict[str, tuple[Kept, ...]]:
    """Return the matrices of a float GGUF that lie on grids; every value is looked at."""
    found: dict[str, tuple[Kept, ...]] = {}
    for tensor in gguf.read_header(path).tensors:
        seen = look(sample(path, tensor)) if _is_matrix(tensor) else ()
        if seen:
            stored = stored_as(_slabs(path, tensor))
            whole = filter(None, (_whole(path, tensor, each.type, stored) for each in seen))
            if types := tuple(whole):
                found[tensor.name] = types
        on_tensor(1)
    return found


def _whole(path: Path, tensor: StoredTensor, kind: TensorType, stored: str) -> Kept | None:
    exact = True
    for rows in _slabs(path, tensor):
        made = encode(rows, kind, stored)
        if made is None:
            return None
        exact = exact and made[1]
    return Kept(kind, exact, stored)


def _is_matrix(tensor: StoredTensor) -> bool:
    return is_rounded(TensorShape(tensor.name, tensor.shape)) and tensor.type.name in FLOATS


def sample(path: Path, tensor: StoredTensor) -> Floats:
    """Return evenly spaced rows of a float GGUF's matrix."""
    total = prod(tensor.shape[:-1])
    picked = range(0, total, max(total // SAMPLE_ROWS, 1))
    return np.concatenate([_rows(path, tensor, row, 1) for row in picked])


def _slabs(path: Path, tensor: StoredTensor) -> Iterator[Floats]:
    total = prod(tensor.shape[:-1])
    step = max(SLAB_BYTES // (4 * tensor.shape[-1]), 1)
    for first in range(0, total, step):
        yield _rows(path, tensor, first, min(step, total - first))


def _rows(path: Path, tensor: StoredTensor, first: int, count: int) -> Floats:
    width = tensor.type.size((tensor.shape[-1],))
    raw = np.fromfile(path, np.uint8, count * width, offset=tensor.start + first * width)
    return dequantise_rows(raw.reshape(count, width), tensor.type)


def guess(checkpoint: Checkpoint, model: Model) -> dict[str, tuple[Kept, ...]]:
    """Return the matrices that seem to lie on grids, by a few rows of each: for a plan.

    Of a checkpoint, or of a GGUF; BadInput where tensors are missing.
    """
    if isinstance(model, Stored):
        tensors = filter(_is_matrix, model.header.tensors)
        rows = {tensor.name: sample(model.path, tensor) for tensor in tensors}
    else:
        wanted = model.wanted()
        pairs = zip(wanted, match_tensors(checkpoint, wanted), strict=True)
        rows = {
            want.target.name: parts[0].sample(SAMPLE_ROWS)
            for want, parts in pairs
            if is_rounded(want.target) and all(type(part) is Tensor for part in parts)
            and want.function is None and not want.shift and want.columns is None
            and parts and parts[0].shape[-1] == want.target.shape[-1]
        }  # fmt: skip
    return {name: kept for name, each in rows.items() if (kept := look(each))}


def types_of(found: Found) -> dict[str, Sequence[TensorType]]:
    """Return the types alone, as a plan takes them."""
    return {name: [each.type for each in kept] for name, kept in found.items()}


def kept(found: Found, tensors: Iterable[TypedTensor]) -> dict[str, Kept]:
    """Return the matrices of a GGUF with these types that keep the grid that they lie on."""
    pairs = ((t, each) for t in tensors for each in found.get(t.tensor.name, ()))
    return {t.tensor.name: each for t, each in pairs if each.type == t.type}


def describe(found: Found, tensors: Sequence[TypedTensor]) -> str:
    """Say which matrices of a GGUF keep the grid that they lie on; empty for none."""
    matrices = [t for t in tensors if is_rounded(t.tensor)]
    by_type: dict[str, list[Kept]] = {}
    for each in kept(found, matrices).values():
        by_type.setdefault(each.type.name, []).append(each)
    return "; ".join(_words(name, each, len(matrices)) for name, each in by_type.items())


def _words(name: str, kept: Sequence[Kept], matrices: int) -> str:
    whole = len(kept) == matrices
    who = "the weights lie" if whole else f"{len(kept)} of {matrices} matrices lie"
    types = " and ".join(sorted({each.stored for each in kept if not each.exact}))
    return f"{who} on a {name} grid: exact" + f" but for the rounding of {types}" * bool(types)
