"""Collects the nodes and weights of a graph; large tensors go to a file beside it as they come."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from pitool.planning.onnx_weights import ALIGNMENT

OPSET = 21
IR_VERSION = 10
DATA = "model.onnx.data"
GRAPH = "model.onnx"
# Operators of onnxruntime's own; all others are in the standard's domain.
CONTRIBUTED = frozenset(
    {
        "DynamicQuantizeMatMul",
        "FusedMatMul",
        "GatherBlockQuantized",
        "GroupQueryAttention",
        "MatMulIntegerToFloat",
        "MatMulNBits",
        "MoE",
        "QMoE",
        "QuickGelu",
        "SkipSimplifiedLayerNormalization",
    }
)
TYPES = {
    np.dtype(np.float32): TensorProto.FLOAT,
    np.dtype(np.float16): TensorProto.FLOAT16,
    np.dtype(np.int64): TensorProto.INT64,
    np.dtype(np.uint8): TensorProto.UINT8,
    np.dtype(np.int8): TensorProto.INT8,
}


class Graph:
    """A graph being built in ``folder``; values are known by their names.

    The data file grows by ``begin``, any number of ``append`` and one ``end`` a tensor. A context
    manager: the data file is closed at its end.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = (folder / DATA).open("wb")
        self._nodes: list[Any] = []
        self._weights: list[Any] = []
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self._start = 0

    def __enter__(self) -> Graph:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    # -- weights ---------------------------------------------------------------------------

    def begin(self) -> None:
        """Start a tensor at the next aligned byte."""
        self._file.write(b"\0" * (-self._file.tell() % ALIGNMENT))
        self._start = self._file.tell()

    def append(self, array: NDArray[Any]) -> None:
        """Add to the tensor that was begun."""
        self._file.write(np.ascontiguousarray(array).data)

    def end(self, name: str, kind: Any, shape: Sequence[int]) -> str:
        """Name the tensor that was begun, and return the name."""
        tensor = TensorProto(
            name=name,
            data_type=TYPES[np.dtype(kind)],
            dims=shape,
            data_location=TensorProto.EXTERNAL,
        )
        place = {"location": DATA, "offset": self._start, "length": self._file.tell() - self._start}
        for key, value in place.items():
            tensor.external_data.add(key=key, value=str(value))
        self._weights.append(tensor)
        return name

    def flat(self, name: str) -> str:
        """Return the name of the same bytes as a matrix of the same rows."""
        tensor = next(each for each in self._weights if each.name == name)
        rows, *rest = tensor.dims
        other = TensorProto()
        other.CopyFrom(tensor)
        other.name = f"{name}.flat"
        del other.dims[:]
        other.dims.extend([rows, prod(rest)])
        self._weights.append(other)
        return str(other.name)

    def stored(self, name: str, array: NDArray[Any]) -> str:
        """Write a whole tensor to the data file."""
        self.begin()
        self.append(array)
        return self.end(name, array.dtype, array.shape)

    def constant(self, name: str, value: Any, kind: Any = np.int64) -> str:
        """Keep a small tensor in the graph itself."""
        self._weights.append(numpy_helper.from_array(np.array(value, kind), name))
        return name

    # -- the graph -------------------------------------------------------------------------

    def node(self, kind: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """Add an operator with one output, which has the operator's name."""
        return self.nodes(kind, inputs, [name], **attributes)[0]

    def nodes(
        self, kind: str, inputs: Sequence[str], outputs: list[str], **attributes: Any
    ) -> list[str]:
        """Add an operator and return the names of its outputs."""
        domain = "com.microsoft" if kind in CONTRIBUTED else ""
        made = helper.make_node(kind, inputs, outputs, outputs[0], domain=domain, **attributes)
        self._nodes.append(made)
        return outputs

    def input(self, name: str, kind: Any, shape: Sequence[int | str]) -> str:
        """Declare an input; one that is a constant too has that as its default."""
        self._inputs.append(helper.make_tensor_value_info(name, TYPES[np.dtype(kind)], shape))
        return name

    def output(self, name: str, kind: Any, shape: Sequence[int | str]) -> None:
        """Declare an output."""
        self._outputs.append(helper.make_tensor_value_info(name, TYPES[np.dtype(kind)], shape))

    def save(self, name: str, properties: dict[str, str]) -> None:
        """Write the graph beside its data."""
        graph = helper.make_graph(self._nodes, name, self._inputs, self._outputs, self._weights)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(
            graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="pitool"
        )
        helper.set_model_props(model, properties)
        onnx.save_model(model, self._folder / GRAPH)
