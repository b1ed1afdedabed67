"""llama.cpp's types: float types, and K-quants with or without an importance matrix."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from pitool.catalog.tensor_types import find_quantisation
from pitool.convert.gguf import importance
from pitool.convert.gguf.origins import find_origin
from pitool.convert.techniques import IMATRIX
from pitool.convert.techniques.base import ArtifactFiles, Need, Technique
from pitool.convert.techniques.workbench import Workbench
from pitool.errors import BadInput

EXACT = "f32.gguf"
IMPORTANCE = "importance.gguf"
SOURCE = "llama.cpp, ggml-quants.c"
EFFECTS = {
    "Q2_K": "2-bit levels in blocks of 16, scales and minima in superblocks of 256.",
    "Q3_K_S": "3-bit levels in blocks of 16, scales in superblocks of 256.",
    "Q4_0": "4-bit levels in blocks of 32 with a half-precision scale.",
    "Q4_K_M": "4-bit levels in blocks of 32 of superblocks of 256; sensitive tensors in Q6_K.",
    "Q5_K_M": "5-bit levels in blocks of 32 of superblocks of 256; sensitive tensors in Q6_K.",
    "Q6_K": "6-bit levels in blocks of 16 of superblocks of 256.",
    "Q8_0": "8-bit levels in blocks of 32 with a half-precision scale.",
    "IQ4_NL": "4-bit levels of a fixed uneven codebook in blocks of 32.",
}
BITS = {"Q2_K": 2.6, "Q3_K_S": 3.4, "Q5_K_M": 5.7, "Q6_K": 6.6, "Q8_0": 8.5}


def make_float(kind: str, bench: Workbench) -> ArtifactFiles:
    """Write the checkpoint as a GGUF in a float type; the one in F32 is shared."""
    if kind == "F32":
        return ArtifactFiles("gguf", exact(bench))
    return ArtifactFiles("gguf", write_float(kind, bench, bench.folder / f"{kind}.gguf"))


def exact(bench: Workbench) -> Path:
    """Return the checkpoint as a GGUF in F32, which quantisation and the lab start from."""
    return bench.once(EXACT, lambda path: write_float("F32", bench, path))


def write_float(kind: str, bench: Workbench, path: Path) -> Path:
    """Write the checkpoint as a GGUF in a float type; return the path."""
    find_origin(bench.checkpoint).write(find_quantisation(kind), path, bench.progress)
    return path


def make_quantised(kind: str, with_importance: bool, bench: Workbench) -> ArtifactFiles:
    """Quantise the shared GGUF to one of llama.cpp's types."""
    source = exact(bench)
    matrix = importance_of(bench, source) if with_importance else None
    target = bench.folder / f"{kind}.gguf"
    bench.progress.stage(f"quantising to {kind}", 1)
    run = find_origin(bench.checkpoint).quantise
    run(source, target, find_quantisation(kind), bench.threads, importance=matrix)
    return ArtifactFiles("gguf", target)


def importance_of(bench: Workbench, source: Path) -> Path:
    """Return the importance matrix of the shared GGUF, which techniques share as well."""
    return bench.once(IMPORTANCE, lambda path: _collect(bench, source, path))


def _collect(bench: Workbench, source: Path, target: Path) -> None:
    """Collect the importance matrix on the calibration text."""
    if not bench.calibration or bench.open_calibrator is None:
        raise BadInput("this technique needs a calibration text", "use --text FILE")
    bench.progress.stage("collecting the importance matrix", len(bench.calibration))
    with bench.open_calibrator(source) as engine:
        found = importance.collect(
            engine, bench.calibration, "calibration text", bench.progress.advance
        )
    importance.write(target, found)


def _float(kind: str, name: str, bits: int, effect: str, source: str) -> Technique:
    return Technique(
        name=name,
        title=name.upper(),
        effect=effect,
        source=source,
        make=partial(make_float, kind),
        bits=bits,
        kernel="llama.cpp",
    )


def _quantised(kind: str, *, with_importance: bool) -> Technique:
    return Technique(
        name=kind.lower() + IMATRIX * with_importance,
        title=f"GGUF {kind}" + ", importance matrix" * with_importance,
        effect=EFFECTS[kind],
        source=SOURCE,
        make=partial(make_quantised, kind, with_importance),
        bits=BITS.get(kind, 4.5),
        kernel="llama.cpp",
        needs=frozenset({Need.CALIBRATION}) if with_importance else frozenset(),
        note="errors are weighted by mean squared activations" * with_importance,
    )


FP32 = _float("F32", "fp32", 32, "Stores weights as they are: the baseline.", "IEEE 754")
FP16 = _float("F16", "fp16", 16, "Rounds weights to half precision.", "IEEE 754")
BF16 = _float("BF16", "bf16", 16, "Keeps the upper half of each weight.", "arXiv:1905.12322")
Q8_0 = _quantised("Q8_0", with_importance=False)
Q8_0_IMATRIX = _quantised("Q8_0", with_importance=True)
Q6_K = _quantised("Q6_K", with_importance=False)
Q6_K_IMATRIX = _quantised("Q6_K", with_importance=True)
Q5_K_M = _quantised("Q5_K_M", with_importance=False)
Q5_K_M_IMATRIX = _quantised("Q5_K_M", with_importance=True)
Q4_K_M = _quantised("Q4_K_M", with_importance=False)
Q4_K_M_IMATRIX = _quantised("Q4_K_M", with_importance=True)
IQ4_NL = _quantised("IQ4_NL", with_importance=False)
IQ4_NL_IMATRIX = _quantised("IQ4_NL", with_importance=True)
Q4_0 = _quantised("Q4_0", with_importance=False)
Q4_0_IMATRIX = _quantised("Q4_0", with_importance=True)
Q3_K_S = _quantised("Q3_K_S", with_importance=False)
Q3_K_S_IMATRIX = _quantised("Q3_K_S", with_importance=True)
Q2_K = _quantised("Q2_K", with_importance=False)
Q2_K_IMATRIX = _quantised("Q2_K", with_importance=True)
