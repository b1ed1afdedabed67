"""Quantisation techniques: one per file, and the one table that names them all.

The table is in the order in which the lab runs them. It is read when a technique is looked up, so
a row can be added from outside; a module is imported only then, because some need torch.
"""

from __future__ import annotations

import importlib

from pitool.catalog import tables
from pitool.convert.techniques.base import Technique
from pitool.errors import UsageError

BASELINE = "fp32"
# Suffix of a llama.cpp type that is quantised with an importance matrix.
IMATRIX = "-imatrix"
# Of a quantisation whose matrices are rounded with error feedback.
FEEDBACK = "-feedback"

# Name -> module (relative to this package, or absolute) and the name of the Technique in it.
TECHNIQUES: dict[str, tuple[str, str]] = {
    "fp32": (".gguf", "FP32"),
    "fp16": (".gguf", "FP16"),
    "bf16": (".gguf", "BF16"),
    "dynamic-int8": (".onnx_dynamic", "TECHNIQUE"),
    "static-int8": (".onnx_static", "TECHNIQUE"),
    "onnx-int8": (".onnx_library", "TECHNIQUE"),
    "symmetric-int8": (".symmetric", "TECHNIQUE"),
    "asymmetric-int8": (".asymmetric", "TECHNIQUE"),
    "absmax-int8": (".absmax", "TECHNIQUE"),
    "minmax-int8": (".minmax", "TECHNIQUE"),
    "block-int8-32": (".blockwise", "BLOCK_32"),
    "block-int8-64": (".blockwise", "BLOCK_64"),
    "block-int8-128": (".blockwise", "BLOCK_128"),
    "per-channel-int8": (".per_channel", "TECHNIQUE"),
    "percentile-int8": (".percentile", "TECHNIQUE"),
    "kmeans-4bit": (".kmeans", "FOUR"),
    "kmeans-8bit": (".kmeans", "EIGHT"),
    "mixed-int8-int4": (".mixed", "TECHNIQUE"),
    "qat-int4": (".qat", "TECHNIQUE"),
    "prune-int8": (".pruning", "MAGNITUDE"),
    "prune-2of4-int8": (".pruning", "STRUCTURED"),
    "nf4": (".floats4", "NF4_DOUBLE"),
    "fp4": (".floats4", "FP4_DOUBLE"),
    "rtn-int4": (".awq", "RTN"),
    "gptq-int4": (".gptq", "TECHNIQUE"),
    "awq-int4": (".awq", "TECHNIQUE"),
    "qlora": (".qlora", "SEPARATE"),
    "qlora-merged": (".qlora", "MERGED"),
    "hqq-int4": (".hqq", "TECHNIQUE"),
    "nbits-int8": (".onnx_nbits", "INT8"),
    "nbits-int4": (".onnx_nbits", "INT4"),
    "nbits-int4-head8": (".onnx_nbits", "INT4_HEAD8"),
    "nbits-int4-asymmetric": (".onnx_nbits", "INT4_ASYMMETRIC"),
    **{
        f"nbits-{kind}{FEEDBACK}": (".feedback", kind.upper().replace("-", "_"))
        for kind in ("int8", "int4", "int4-head8")
    },
    **{
        f"{kind}{suffix}": (".gguf", f"{kind.upper()}{suffix.upper().replace('-', '_')}")
        for kind in ("q8_0", "q6_k", "q5_k_m", "q4_k_m", "iq4_nl", "q4_0", "q3_k_s", "q2_k")
        for suffix in ("", IMATRIX)
    },
    **{
        f"{kind}{FEEDBACK}": (".feedback", kind.upper())
        for kind in ("q8_0", "q6_k", "q5_k_m", "q4_k_m", "iq4_nl", "q4_0")
    },
}


def find_technique(name: str) -> Technique:
    """Return a technique by its name; UsageError suggests the nearest name."""
    module, attribute = tables.lookup(TECHNIQUES, name.lower(), "technique", UsageError)
    technique: Technique = getattr(importlib.import_module(module, __name__), attribute)
    assert technique.name == name.lower()
    return technique


def find_techniques(names: str | None) -> tuple[Technique, ...]:
    """Return techniques by comma-separated names, or all of them for None."""
    if names is None:
        return tuple(find_technique(name) for name in TECHNIQUES)
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    if not wanted:
        raise UsageError("--techniques is empty", "choose one, such as q4_k_m, or drop the option")
    return tuple(find_technique(name) for name in dict.fromkeys(wanted))
