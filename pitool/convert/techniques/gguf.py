"""The types of llama.cpp, by its own quantizer: float types, K-quants, with importance matrix."""

from __future__ import annotations

from functools import partial

from pitool.convert.gguf.families import find_family
from pitool.convert.gguf.families.base import model_shape
from pitool.convert.gguf.vocabulary import read_vocabulary
from pitool.convert.gguf.writer import write_gguf
from pitool.convert.techniques.base import Made, Technique
from pitool.convert.techniques.workbench import Workbench
from pitool.spec.formats import find_quantisation


def make_float(name: str, bench: Workbench) -> Made:
    """Write the checkpoint as a GGUF in a float type."""
    checkpoint = bench.checkpoint
    family = find_family(checkpoint.config)
    shape = model_shape(family, checkpoint.config)
    vocabulary = read_vocabulary(checkpoint.folder, shape.vocabulary)
    path = bench.folder / f"{name}.gguf"
    kind = find_quantisation(name)
    width = 4 if name == "F32" else 2
    bench.progress.stage(f"writing {name}", shape.parameters * width, bytes_=True)
    write_gguf(path, checkpoint, family, shape, vocabulary, kind, bench.progress.advance)
    return Made("gguf", path)


def float_technique(name: str, kind: str, bits: int, effect: str) -> Technique:
    """Return the row of a float type."""
    return Technique(
        name=name,
        title=name.upper(),
        effect=effect,
        source="IEEE 754" if kind != "BF16" else "Kalamkar et al. 2019 (arXiv:1905.12322)",
        make=partial(make_float, kind),
        bits=bits,
        kernel="llama.cpp",
    )


FP32 = float_technique("fp32", "F32", 32, "Stores weights as they are: the baseline.")
FP16 = float_technique("fp16", "F16", 16, "Rounds weights to half precision.")
BF16 = float_technique("bf16", "BF16", 16, "Keeps the upper 16 bits of each weight, rounded.")
