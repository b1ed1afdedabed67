"""Writes a LoRA as a separate GGUF, which llama.cpp adds to the model at run time.

The layout is that of llama.cpp's convert_lora_to_gguf.py: two float32 matrices per changed weight,
and one alpha for all; the runtime multiplies by alpha / rank. The user's scale goes into alpha;
scales that differ between matrices go into the second matrix.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from gguf import GGUFWriter, Keys
from numpy.typing import NDArray

from pitool.architectures.base import Wanted
from pitool.catalog.unicode import well_formed
from pitool.checkpoint.lora import Adapter, merge
from pitool.checkpoint.merged import LowRankProduct, MergedTensor
from pitool.checkpoint.source import Checkpoint
from pitool.checkpoint.tensors import Tensor
from pitool.convert.gguf.model import Model
from pitool.convert.gguf.writer import match_tensors
from pitool.errors import BadInput

SUFFIX = ".lora.gguf"
# Matrices that llama.cpp multiplies without looking for an adapter, and tables of rows.
FIXED = (
    "token_embd", "position_embd", "per_layer_token_embd", "per_layer_model_proj", "altup_proj",
    "altup_unembd_proj",
)  # fmt: skip
FIXED_PARTS = frozenset({"altup_router"})
Matrix = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Factors:
    """The product added to a tensor of the GGUF: ``b`` (out, rank) times ``a`` (rank, in)."""

    tensor: str
    a: Matrix
    b: Matrix


def paths(adapters: Sequence[Adapter], folder: Path) -> list[Path]:
    """Return the adapters' paths, in order; equal folder names are numbered."""
    names = [_name(adapter) for adapter in adapters]
    return [
        folder / f"{name}{f'-{i}' if names.count(name) > 1 else ''}{SUFFIX}"
        for i, name in enumerate(names, 1)
    ]


def _name(adapter: Adapter) -> str:
    return well_formed(adapter.folder.resolve().name)


def write_adapter(path: Path, checkpoint: Checkpoint, model: Model, adapter: Adapter) -> None:
    """Write an adapter of the checkpoint; BadInput when it can only be merged."""
    merged = merge(checkpoint.tensors, adapter, tied=checkpoint.tied)
    changes = _changes(checkpoint, model, adapter, merged)
    alpha = Counter(change.scale * _rank(change) for _, change in changes).most_common(1)[0][0]
    if alpha == 0:
        raise BadInput(f"{adapter.folder} has no effect at scale 0", "drop this --lora")
    writer = GGUFWriter(path, model.architecture)
    writer.add_type("adapter")
    writer.add_name(_name(adapter))
    writer.add_string(Keys.Adapter.TYPE, "lora")
    writer.add_float32(Keys.Adapter.LORA_ALPHA, alpha)
    for factors in (_factors(want, change, alpha) for want, change in changes):
        writer.add_tensor(f"{factors.tensor}.lora_a", np.ascontiguousarray(factors.a))
        writer.add_tensor(f"{factors.tensor}.lora_b", np.ascontiguousarray(factors.b))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _changes(
    checkpoint: Checkpoint, model: Model, adapter: Adapter, merged: dict[str, Tensor]
) -> list[tuple[Wanted, LowRankProduct]]:
    """Return the changed tensors of the GGUF with their low-rank products."""
    wanted = model.wanted()
    known = match_tensors(replace(checkpoint, tensors=merged), wanted)
    found: dict[str, list[Wanted]] = {}
    for want, parts in zip(wanted, known, strict=True):
        for tensor in parts:
            found.setdefault(tensor.name, []).append(want)
    changed = [t for name, t in merged.items() if t is not checkpoint.tensors[name]]
    return [
        (want, change)
        for tensor in changed
        for want in found.get(tensor.name) or (None,)
        for change in _apart(adapter, tensor, want)
        if want
    ]


def _apart(adapter: Adapter, tensor: Tensor, want: Wanted | None) -> Iterator[LowRankProduct]:
    """Yield the products of a tensor; BadInput when llama.cpp cannot add them at run time."""
    if not isinstance(tensor, MergedTensor) or want is None or want.parts or _is_fixed(want):
        raise BadInput(
            f"llama.cpp cannot apply the change of {tensor.name!r} in {adapter.folder} at run time",
            "drop --lora-separate to merge the adapter",
        )
    yield from tensor.changes


def _is_fixed(want: Wanted) -> bool:
    return want.target.name.startswith(FIXED) or want.target.part in FIXED_PARTS


def _rank(change: LowRankProduct) -> int:
    return change.a.shape[0]


def _factors(want: Wanted, change: LowRankProduct, alpha: float) -> Factors:
    """Return the factors in the GGUF's row order, for a runtime that multiplies by alpha / rank."""
    left, right = replace(change, scale=change.scale * _rank(change) / alpha).factors()
    if want.transform is np.transpose:
        left, right = right.T, left.T
    elif want.transform:  # a reordering of rows, which are those of the left factor
        left = want.transform(left)
    if want.columns is not None:
        right = right[:, want.columns]
    return Factors(want.target.name, right, left)
