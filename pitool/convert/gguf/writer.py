"""Writes a checkpoint as a GGUF in a float type, slab by slab.

Owns the file's layout and the casts; memory is bounded by the slab, not by the model. The bytes
equal those of llama.cpp's own converter for the same type. Never quantises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from gguf import GGML_QUANT_VERSION, GGMLQuantizationType, GGUFWriter, Metadata, size_label
from numpy.typing import NDArray

from pitool.architectures.base import FromWeights, Wanted
from pitool.catalog import cache
from pitool.catalog.gguf import ALIGNMENT, padded
from pitool.catalog.tensor_types import QUANTISATIONS, TENSOR_TYPES, Quantisation
from pitool.catalog.unicode import clean
from pitool.checkpoint.source import Checkpoint
from pitool.checkpoint.tensors import Tensor, to_float32
from pitool.checkpoint.values import check_half
from pitool.checkpoint.weights import find_name
from pitool.convert.gguf.model import Model
from pitool.convert.gguf.vocabulary import Vocabulary
from pitool.planning.type_mixture import assign_types

SLAB_BYTES = 16 << 20
# What llama.cpp calls a file whose experts are in MXFP4, whatever the others are in.
PACKED = QUANTISATIONS["MXFP4_MOE"]


def match_tensors(checkpoint: Checkpoint, wanted: list[Wanted]) -> list[tuple[Tensor, ...]]:
    """Return the checkpoint's tensors for each wanted one; BadInput if one is missing or misshapen.

    That is one tensor, its parts in order, or none for a tensor that is computed or a spare one.
    """
    return [tuple(_matched(checkpoint, want)) for want in wanted]


def _matched(checkpoint: Checkpoint, want: Wanted) -> Iterator[Tensor]:
    if want.value is not None or (want.spare and not find_name(checkpoint.tensors, want.source)):
        return
    for name in want.parts or (want.source,):
        names = [name, want.fallback] if want.fallback else [name]
        yield checkpoint.weight(names, want.source_shape)


def write_gguf(
    path: Path,
    checkpoint: Checkpoint,
    model: Model,
    vocabulary: Vocabulary,
    kind: Quantisation,
    on_bytes: Callable[[int], None] = lambda _: None,
) -> None:
    """Write the model as ``kind``: F32, F16 or BF16; ``on_bytes`` gets the bytes just written."""
    wanted = model.wanted()
    sources = match_tensors(checkpoint, wanted)
    typed = assign_types(model.shape, kind)
    write_header(path, checkpoint, model, vocabulary, kind)
    with path.open("ab") as file:
        _pad(file, file.tell())
        for want, parts, tensor in zip(wanted, sources, typed, strict=True):
            for slab in _stored(want, parts, tensor.type.name):
                file.write(slab)
                on_bytes(len(slab))
            _pad(file, tensor.bytes)


def header_bytes(checkpoint: Checkpoint, model: Model, vocabulary: Vocabulary) -> int:
    """Return the size of a GGUF before its tensors, which is the same for every type."""
    with cache.working("header") as scratch:
        path = scratch / "header"
        write_header(path, checkpoint, model, vocabulary, QUANTISATIONS["F16"])
        size = path.stat().st_size
    return padded(size)


def write_header(
    path: Path,
    checkpoint: Checkpoint,
    model: Model,
    vocabulary: Vocabulary,
    kind: Quantisation,
) -> None:
    """Write everything before the tensors; the checkpoint's matrices are not read."""
    typed = assign_types(model.shape, kind)
    writer = GGUFWriter(None, model.architecture)
    for tensor in typed:
        writer.add_tensor_info(
            tensor.tensor.name,
            tensor.tensor.shape,
            np.dtype(np.float32),
            tensor.bytes,
            GGMLQuantizationType[tensor.type.name],
        )
    _describe(writer, checkpoint)
    for key, value in model.metadata():
        _add(writer, key, _numbers(checkpoint, value) if isinstance(value, FromWeights) else value)
    writer.add_file_type((PACKED if model.shape.packed else kind).number)
    writer.add_quantization_version(GGML_QUANT_VERSION)
    vocabulary.write(writer)
    writer.write_header_to_file(path)
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()


def _describe(writer: GGUFWriter, checkpoint: Checkpoint) -> None:
    """Write the general keys from the model card: name, licence, authors and so on."""
    counts = writer.get_total_parameter_count()
    metadata = Metadata.load(None, checkpoint.folder, None, counts[0])
    # The name of the folder is read into several of them.
    clean(metadata, *(key for key, value in vars(metadata).items() if isinstance(value, str)))
    metadata.name = metadata.name or checkpoint.source.id.rpartition("/")[2]
    metadata.size_label = metadata.size_label or size_label(*counts)
    writer.add_type("model")
    metadata.set_gguf_meta_model(writer)


def _numbers(checkpoint: Checkpoint, wanted: FromWeights) -> list[float]:
    """Return one number of each tensor; zeros while the weights are not on this machine."""
    if not checkpoint.tensors:
        return [0.0] * len(wanted.names)
    return [_number(checkpoint, name, wanted.default) for name in wanted.names]


def _number(checkpoint: Checkpoint, name: str, default: float | None) -> float:
    known = find_name(checkpoint.tensors, name)
    if known is None and default is not None:
        return default
    alone = known is not None and checkpoint.tensors[known].shape == ()
    return float(checkpoint.weight([name], () if alone else (1,)).float32().item())


def _add(writer: GGUFWriter, key: str, value: Any) -> None:
    match value:
        case bool():
            writer.add_bool(key, value)
        case int():
            writer.add_uint32(key, value)
        case float():
            writer.add_float32(key, value)
        case str():
            writer.add_string(key, value)
        case list():
            writer.add_array(key, value)
        case _:
            raise TypeError(f"{key} has the type {type(value)}")


def _stored(want: Wanted, sources: tuple[Tensor, ...], kind: str) -> Iterator[bytes]:
    """Yield a tensor's bytes as stored in ``kind``; BadInput for values that it cannot hold."""
    if want.value is not None:
        yield want.value.astype("<f4").tobytes()
    elif not sources:
        yield bytes(TENSOR_TYPES[kind].size(want.target.shape))
    for source in sources:
        for slab in source.slabs(SLAB_BYTES, want.rows):
            rows = want.transform(slab) if want.transform else slab
            rows = rows if want.columns is None else rows[:, want.columns]
            made = cast(*_computed(want, rows, source.kind), kind)
            if kind == "F16":
                check_half(made, source)
            yield made.tobytes()
    if want.padding:
        yield bytes(want.padding * TENSOR_TYPES[kind].size(want.target.shape[-1:]))


def _computed(want: Wanted, rows: NDArray[Any], kind: str) -> tuple[NDArray[Any], str]:
    """Return what is computed of stored values, and the type that it then has."""
    if want.function:
        return want.function(to_float32(rows, kind)), "F32"
    return (to_float32(rows, kind) + want.shift, "F32") if want.shift else (rows, kind)


def cast(array: NDArray[Any], source: str, target: str) -> NDArray[Any]:
    """Return values of the stored type ``source`` in the stored type ``target``."""
    if source == target:
        return array
    values = to_float32(array, source)
    if target == "F32":
        return values
    if target == "F16":
        with np.errstate(over="ignore"):
            return values.astype("<f2")
    return _bfloat16(values)


def _bfloat16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Round to nearest, ties to even, keeping NaNs quiet, as ggml_fp32_to_bf16 does."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded = ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype(np.uint16)
    quiet = ((bits >> 16) | 64).astype(np.uint16)
    return np.where((bits & 0x7FFFFFFF) > 0x7F800000, quiet, rounded)


def _pad(file: BinaryIO, size: int) -> None:
    file.write(b"\0" * (-size % ALIGNMENT))
