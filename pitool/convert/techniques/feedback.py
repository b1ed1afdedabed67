"""Error feedback and folded scales inside the grids of GGUF and of MatMulNBits: ``--effort``."""

from __future__ import annotations

from functools import partial

from pitool.catalog import gguf
from pitool.catalog.tensor_types import find_quantisation
from pitool.convert.effort import EFFORTS, NORMAL
from pitool.convert.gguf import quantise
from pitool.convert.gguf.layers import round_layers
from pitool.convert.gguf.model import find_model
from pitool.convert.layerwise import unwalkable
from pitool.convert.onnx.layers import RoundedFolder, takes
from pitool.convert.onnx.writer import write_onnx
from pitool.convert.techniques.base import ArtifactFiles, Kernel, Need, Technique
from pitool.convert.techniques.gguf import BITS, exact, importance_of
from pitool.convert.techniques.workbench import Workbench
from pitool.errors import BadInput
from pitool.planning.onnx_weights import find_onnx_quantisation
from pitool.planning.shapes import header_shape
from pitool.planning.type_mixture import assign_types

EFFORT = EFFORTS[NORMAL]
SOURCE = (
    "Frantar et al. 2022 (arXiv:2210.17323), Lin et al. 2023 (arXiv:2306.00978),"
    " Arai and Ichikawa 2025 (arXiv:2504.09629)"
)


def make_gguf(kind: str, bench: Workbench) -> ArtifactFiles:
    """Quantise the shared GGUF to a type, with the layers' matrices by error feedback."""
    _check(bench)
    source, quantisation = exact(bench), find_quantisation(kind)
    matrix, config = importance_of(bench, source), bench.checkpoint.config
    mixture = assign_types(header_shape(gguf.read_header(source)), quantisation, importance=True)
    types = {t.tensor.name: t.type for t in mixture}
    scratch = bench.folder / "layers"
    scratch.mkdir()
    made = round_layers(
        bench.checkpoint, find_model(config), types, bench.calibration, EFFORT, scratch,
        bench.progress,
    )  # fmt: skip
    target = bench.folder / f"{kind}.gguf"
    bench.progress.stage(f"quantising to {kind}", 1)
    quantise.quantise(source, target, quantisation, bench.threads, importance=matrix, made=made)
    return ArtifactFiles("gguf", target)


def make_onnx(kind: str, bench: Workbench) -> ArtifactFiles:
    """Write the fused graph in a quantisation, with the layers' matrices by error feedback."""
    _check(bench)
    quantisation, config = find_onnx_quantisation(kind), bench.checkpoint.config
    if not takes(quantisation, config):
        raise BadInput(
            f"this technique cannot pack {config.model_type!r} models", "choose a GGUF technique"
        )
    scratch = bench.folder / "layers"
    scratch.mkdir()
    rounded = RoundedFolder(scratch)
    rounded.make(bench.checkpoint, quantisation, bench.calibration, EFFORT, bench.progress)
    folder = bench.folder / quantisation.folder
    bench.progress.stage(f"writing ONNX {kind}", 1)
    write_onnx(
        folder, rounded.checkpoint(bench.checkpoint), quantisation,
        make_weights=rounded.make_weights,
    )  # fmt: skip
    return ArtifactFiles("onnx", folder)


def _check(bench: Workbench) -> None:
    config = bench.checkpoint.config
    if not bench.calibration:
        raise BadInput("this technique needs a calibration text", "use --text FILE")
    if why := unwalkable(config):
        raise BadInput(
            f"this technique does not support {config.model_type!r} models: {why}",
            "choose a technique without error feedback",
        )


def _row(name: str, title: str, kernel: Kernel, bits: float, kind: str) -> Technique:
    make = make_gguf if kernel == "llama.cpp" else make_onnx
    return Technique(
        name=name,
        title=f"{title}, error feedback",
        effect=(
            "Scales columns, folds the scales away, and feeds rounding errors to later columns"
            " and layers."
        ),
        source=SOURCE,
        make=partial(make, kind),
        bits=bits,
        kernel=kernel,
        needs=frozenset({Need.CALIBRATION}),
        note=f"as --effort {EFFORT.name}",
    )


def _gguf(kind: str) -> Technique:
    name = f"{kind.lower()}-feedback"
    return _row(name, f"GGUF {kind}", "llama.cpp", BITS.get(kind, 4.5), kind)


Q8_0, Q6_K, Q5_K_M = _gguf("Q8_0"), _gguf("Q6_K"), _gguf("Q5_K_M")
Q4_K_M, IQ4_NL, Q4_0 = _gguf("Q4_K_M"), _gguf("IQ4_NL"), _gguf("Q4_0")
INT8 = _row("nbits-int8-feedback", "MatMulNBits 8 bits", "onnxruntime", 9, "INT8")
INT4 = _row("nbits-int4-feedback", "MatMulNBits 4 bits", "onnxruntime", 5, "INT4")
INT4_HEAD8 = _row(
    "nbits-int4-head8-feedback", "MatMulNBits 4 bits, head 8", "onnxruntime", 5, "INT4_HEAD8"
)
