"""What a quantisation technique is: its description, and the function that applies it.

``Technique.make`` gets a ``Workbench`` and returns one of two things:

- ``ArtifactFiles``: a GGUF file or an ONNX folder, written by a runtime's own tool;
- a stream of quantised tensors, in any order: ``IntegerMatrix`` for a matrix that onnxruntime's
  MatMulNBits can read, ``FloatTensor`` for any other format.

``kernel`` decides what the stream becomes. With a kernel, the integer matrices are written as they
are into an ONNX folder, which really runs. Without one, the dequantised values are written as a
float GGUF, and only size and quality are reported. Tensors of the layers that are not yielded
stay as in the checkpoint. An embedding and a head that are not yielded are stored in 8-bit blocks
for every technique alike, so that sizes can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal

from pitool.convert.techniques.rounding import QuantisedTensor
from pitool.convert.techniques.workbench import Workbench

Kernel = Literal["llama.cpp", "onnxruntime"]


class Need(StrEnum):
    """What a technique requires."""

    CALIBRATION = "calibration text"
    TORCH = "torch"


@dataclass(frozen=True, slots=True)
class ArtifactFiles:
    """An artifact as a runtime opens it: a GGUF file or an ONNX folder."""

    format: Literal["gguf", "onnx"]
    entry: Path


@dataclass(frozen=True, slots=True)
class Technique:
    """A quantisation technique, as named by one row of the table in ``techniques``.

    ``effect``: one sentence on what it does to weights or activations; ``source``: the paper or
    implementation; ``kernel``: the runtime that runs its result, None where it is evaluated with
    dequantised weights; ``bits``: nominal bits per weight; ``note``: anything else that a reader
    of the results must know. Raise ``version`` when the same checkpoint gives another result, so
    that stored results are measured again.
    """

    name: str
    title: str
    effect: str
    source: str
    make: Callable[[Workbench], ArtifactFiles | Iterator[QuantisedTensor]]
    bits: float
    kernel: Kernel | None = None
    needs: frozenset[Need] = frozenset()
    note: str = ""
    version: int = 1
