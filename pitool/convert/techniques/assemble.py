"""Turns a technique's output into an artifact that an engine opens, and measures its size.

Sizes are those on disk, per weight, and in memory by the plan. Never measures quality or speed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import onnx

from pitool.catalog import gguf
from pitool.catalog.model_shape import ModelShape
from pitool.catalog.onnx import read_folder
from pitool.catalog.staging import check_disk
from pitool.catalog.tensor_types import find_quantisation, repacked_types
from pitool.convert.gguf.model import find_model, model_shape
from pitool.convert.gguf.vocabulary import read_vocabulary
from pitool.convert.gguf.writer import write_gguf
from pitool.convert.onnx.writer import write_onnx
from pitool.convert.techniques.base import ArtifactFiles, Kernel, Technique
from pitool.convert.techniques.packed import PackedWeights, unpackable
from pitool.convert.techniques.spool import BYTES_PER_WEIGHT, Spool
from pitool.convert.techniques.workbench import Workbench
from pitool.planning.formats import GGUF
from pitool.planning.formats.gguf_memory import plan_memory
from pitool.planning.formats.onnx import FAULT_AROUND_BYTES, plan_stored
from pitool.planning.memory import Load, MemoryPlan
from pitool.planning.onnx_weights import ONNX_QUANTISATIONS
from pitool.planning.shapes import header_tensors

# Memory is planned for this context, unless the model was trained for a shorter one.
CONTEXT = 2048
ROTATIONS = "rotary."
_GATHERS = ("Gather", "GatherBlockQuantized")


@dataclass(frozen=True, slots=True)
class Assembled:
    """The result of a technique.

    ``bytes``: size of the files that the runtime opens, or, where ``kernel`` is None and the
    weights are dequantised for the evaluation, of the tensors in the technique's own format;
    ``weight_bytes``: of the tensors alone; ``parameters``: number of weights; ``planned``: bytes
    that the artifact needs in memory, None without a kernel; ``note``: anything else that a
    reader of the results must know.
    """

    made: ArtifactFiles
    bytes: int
    weight_bytes: int
    parameters: int
    planned: int | None
    kernel: Kernel | None
    note: str

    @property
    def bits_per_weight(self) -> float:
        """Bits per weight, scales included."""
        return 8 * self.weight_bytes / self.parameters


def assemble(technique: Technique, bench: Workbench) -> Assembled:
    """Run a technique and return the artifact, in the workbench's folder."""
    config = bench.checkpoint.config
    shape = model_shape(config)
    check_disk([(bench.folder, shape.parameters * BYTES_PER_WEIGHT)])
    result = technique.make(bench)
    if isinstance(result, ArtifactFiles):
        return _with_kernel(technique, shape, result)
    spool = Spool(bench.checkpoint, bench.folder / "spool")
    spool.store(result)
    spool.finish()
    bench.progress.stage("writing the artifact", 1)
    why_not = unpackable(config)
    if technique.kernel == "onnxruntime" and why_not is None:
        assembled = _with_kernel(
            technique, shape, write_matrices(spool, bench.folder / technique.name)
        )
    else:
        made = write_values(spool, bench.folder / f"{technique.name}.gguf")
        reason = f"not packed: {why_not}" if technique.kernel else ""
        note = "; ".join(filter(None, (technique.note, reason)))
        assembled = Assembled(made, spool.bytes, spool.bytes, shape.parameters, None, None, note)
    spool.remove()
    bench.progress.advance(1)
    return assembled


def _with_kernel(technique: Technique, shape: ModelShape, made: ArtifactFiles) -> Assembled:
    """Return an artifact that a runtime has a kernel for."""
    found = footprint(made, shape)
    return Assembled(
        made,
        found.files,
        found.weights,
        shape.parameters,
        found.memory.total,
        technique.kernel,
        technique.note,
    )


def write_matrices(spool: Spool, folder: Path) -> ArtifactFiles:
    """Write an ONNX folder with the stored integer matrices."""
    make = partial(PackedWeights, find=spool.matrix)
    kind = ONNX_QUANTISATIONS["INT8"]
    write_onnx(folder, spool.with_original_tables, kind, make_weights=make)
    return ArtifactFiles("onnx", folder)


def write_values(spool: Spool, path: Path) -> ArtifactFiles:
    """Write a float32 GGUF of the stored values."""
    checkpoint = spool.checkpoint
    model = find_model(checkpoint.config)
    vocabulary = read_vocabulary(
        checkpoint.tokenizer_folder,
        model.shape.vocabulary,
        checkpoint.folder,
        checkpoint.whole_tokenizer,
    )
    write_gguf(path, checkpoint, model, vocabulary, find_quantisation("F32"))
    return ArtifactFiles("gguf", path)


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes of the ``files`` that a runtime opens and of their ``weights``; planned ``memory``."""

    files: int
    weights: int
    memory: MemoryPlan


def footprint(made: ArtifactFiles, shape: ModelShape, context: int = CONTEXT) -> Footprint:
    """Return the size of an artifact; ``context`` in tokens."""
    load = Load(GGUF.context(shape, None, context))
    measured = _folder_footprint if made.entry.is_dir() else _file_footprint
    return measured(made, shape, load)


def _file_footprint(made: ArtifactFiles, shape: ModelShape, load: Load) -> Footprint:
    header = gguf.read_header(made.entry)
    # The types that any board interleaves today, so that the plan is the largest.
    repacked = repacked_types(("dotprod",))
    plan = plan_memory(shape, header_tensors(header), load, repacked=repacked)
    weights = sum(tensor.bytes for tensor in header.tensors)
    return Footprint(made.entry.stat().st_size, weights, plan)


def _folder_footprint(made: ArtifactFiles, shape: ModelShape, load: Load) -> Footprint:
    folder = read_folder(made.entry)
    graph = onnx.load(folder.graph, load_external_data=False).graph
    half = graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT16
    mapped, copied = _graph_bytes(graph, load.context, half=half)
    plan = plan_stored(shape, mapped, copied, 2 if half else 4, load)
    return Footprint(folder.bytes, _weight_bytes(graph), plan)


def _places(graph: Any) -> dict[str, tuple[str, int]]:
    """Return offset and bytes of each tensor in the data file; two may share an offset."""
    places = {}
    for tensor in graph.initializer:
        entry = {each.key: each.value for each in tensor.external_data}
        if entry:
            places[tensor.name] = entry["offset"], int(entry["length"])
    return places


def _weight_bytes(graph: Any) -> int:
    """Return the bytes of the weights, which rotary tables are not."""
    found = _places(graph).items()
    return sum(dict(where for name, where in found if not name.startswith(ROTATIONS)).values())


def _graph_bytes(graph: Any, context: int, *, half: bool) -> tuple[int, int]:
    """Return the bytes that are mapped and those repacked, by ``formats.onnx``."""
    places = _places(graph)
    looked_up, multiplied, scales = set(), set(), set()
    for node in graph.node:
        inputs = [places.get(name, ("", 0))[0] for name in node.input]
        if node.op_type in _GATHERS:
            looked_up |= set(inputs)
        elif "MatMul" in node.op_type:
            multiplied |= set(inputs)
            if node.op_type == "MatMulNBits":
                scales.add(inputs[2])
    sizes = dict(places.values())
    only_looked_up = sum(sizes[place] for place in sizes.keys() & (looked_up - multiplied))
    mapped = min(only_looked_up, context * FAULT_AROUND_BYTES)
    copied = 0
    for place, size in sizes.items():
        twice = half or place in scales
        if place in multiplied:
            copied += 2 * size if twice else size
        if (place in multiplied) == (place in looked_up) or (place in multiplied and twice):
            mapped += size
    return mapped, copied
