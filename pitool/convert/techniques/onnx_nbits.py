"""Round-to-nearest in blocks for onnxruntime's MatMulNBits, 4 and 8 bits: pitool's ONNX writer."""

from __future__ import annotations

from functools import partial

from pitool.convert.onnx.writer import write_onnx
from pitool.convert.techniques.base import ArtifactFiles, Technique
from pitool.convert.techniques.workbench import Workbench
from pitool.planning.onnx_weights import find_onnx_quantisation

SOURCE = "onnxruntime, MatMulNBits (docs/ContribOperators.md)"


def make(kind: str, bench: Workbench) -> ArtifactFiles:
    """Write the fused graph in a quantisation of the ONNX writer."""
    quantisation = find_onnx_quantisation(kind)
    folder = bench.folder / quantisation.folder
    layers = bench.checkpoint.config.count("num_hidden_layers")
    bench.progress.stage(f"writing ONNX {kind}", layers)
    advance = bench.progress.advance
    write_onnx(folder, bench.checkpoint, quantisation, on_layer=lambda: advance(1))
    return ArtifactFiles("onnx", folder)


def _row(name: str, kind: str, title: str, bits: float, effect: str) -> Technique:
    return Technique(
        name=name,
        title=title,
        effect=effect,
        source=SOURCE,
        make=partial(make, kind),
        bits=bits,
        kernel="onnxruntime",
    )


INT8 = _row(
    "nbits-int8", "INT8", "MatMulNBits 8 bits", 9,
    "Rounds weights to 8 bits in blocks of 32, including embedding and head.",
)  # fmt: skip
INT4 = _row(
    "nbits-int4", "INT4", "MatMulNBits 4 bits", 5,
    "Rounds weights to 4 bits in blocks of 32, including embedding and head.",
)  # fmt: skip
INT4_HEAD8 = _row(
    "nbits-int4-head8", "INT4_HEAD8", "MatMulNBits 4 bits, head 8", 5,
    "Rounds weights to 4 bits in blocks of 32, embedding and head to 8.",
)  # fmt: skip
INT4_ASYMMETRIC = _row(
    "nbits-int4-asymmetric", "INT4_ASYMMETRIC", "MatMulNBits 4 bits, zero points", 5.1,
    "Rounds weights to 4 bits in blocks of 32, between the smallest and the largest value.",
)  # fmt: skip
