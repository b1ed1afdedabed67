"""How large an artifact is that was made: on the disk, by weight, and in memory by the plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnx

from pitool.catalog import gguf
from pitool.catalog.model_shape import ModelShape
from pitool.catalog.onnx import read_folder
from pitool.catalog.tensor_types import repacked_types
from pitool.convert.techniques.base import Made
from pitool.planning.memory import Load, MemoryPlan, plan_memory
from pitool.planning.memory_onnx import FAULT_AROUND_BYTES, plan_stored
from pitool.planning.shapes import header_tensors

# Tokens of context that memory is planned for, unless the model was trained for fewer.
CONTEXT = 2048
ROTATIONS = "rotary."
_GATHERS = ("Gather", "GatherBlockQuantized")


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes of the ``files`` that a runtime opens, of their ``weights``; ``memory`` by plan."""

    files: int
    weights: int
    memory: MemoryPlan


def footprint(made: Made, shape: ModelShape, context: int = CONTEXT) -> Footprint:
    """Return how large an artifact is; ``context`` in tokens."""
    load = Load(min(context, shape.context))
    if made.format == "gguf":
        header = gguf.read_header(made.entry)
        # What any board of today interleaves: the plan is for the most that is held.
        repacked = repacked_types(("dotprod",))
        plan = plan_memory(shape, header_tensors(header), load, repacked=repacked)
        weights = sum(tensor.bytes for tensor in header.tensors)
        return Footprint(made.entry.stat().st_size, weights, plan)
    folder = read_folder(made.entry)
    graph = onnx.load(folder.graph, load_external_data=False).graph
    half = graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT16
    mapped, copied = _graph_bytes(graph, load.context, half=half)
    plan = plan_stored(shape, mapped, copied, 2 if half else 4, load)
    return Footprint(folder.bytes, _weight_bytes(graph), plan)


def _places(graph: Any) -> dict[str, tuple[str, int]]:
    """Return place and bytes of each tensor in the data file; two may share a place."""
    places = {}
    for tensor in graph.initializer:
        entry = {each.key: each.value for each in tensor.external_data}
        if entry:
            places[tensor.name] = entry["offset"], int(entry["length"])
    return places


def _weight_bytes(graph: Any) -> int:
    """Return the bytes of weights; rotations are none."""
    found = _places(graph).items()
    return sum(dict(where for name, where in found if not name.startswith(ROTATIONS)).values())


def _graph_bytes(graph: Any, context: int, *, half: bool) -> tuple[int, int]:
    """Return mapped bytes and bytes that are repacked, by the rules of ``planning.memory_onnx``."""
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
