"""How large an artifact is that was made: on the disk, by weight, and in memory by the plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnx

from pitool.convert.techniques.base import Made
from pitool.spec import gguf
from pitool.spec.formats import repacked_types
from pitool.spec.memory import Load, MemoryPlan, plan_memory
from pitool.spec.memory_onnx import plan_stored
from pitool.spec.model import ModelShape
from pitool.spec.onnx import read_folder
from pitool.spec.shapes import header_tensors

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
    weights, mapped, copied, width = _graph_bytes(
        onnx.load(folder.graph, load_external_data=False).graph
    )
    return Footprint(folder.bytes, weights, plan_stored(shape, mapped, copied, width, load))


def _graph_bytes(graph: Any) -> tuple[int, int, int, int]:
    """Return bytes of weights, mapped bytes, bytes that are repacked, and those of a float.

    A product's matrix is repacked; an embedding that is looked up in only counts as nothing; one
    that is the head stays mapped beside its copy. Rotations are no weights.
    """
    sizes: dict[str, tuple[str, int]] = {}
    for tensor in graph.initializer:
        entry = {each.key: each.value for each in tensor.external_data}
        if entry:
            sizes[tensor.name] = entry["offset"], int(entry["length"])
    looked_up, multiplied = set(), set()
    for node in graph.node:
        places = {sizes[name][0] for name in node.input if name in sizes}
        if node.op_type in _GATHERS:
            looked_up |= places
        elif "MatMul" in node.op_type:
            multiplied |= places
    by_place = dict(sizes.values())
    copied = sum(size for place, size in by_place.items() if place in multiplied)
    mapped = sum(
        size for place, size in by_place.items() if (place in multiplied) == (place in looked_up)
    )
    weights = dict(where for name, where in sizes.items() if not name.startswith(ROTATIONS))
    half = graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT16
    return sum(weights.values()), mapped, copied, 2 if half else 4
