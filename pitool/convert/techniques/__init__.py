"""Quantization techniques: one a file, and this one table of them, in the order of the lab.

A row: the module, and the name of the ``Technique`` in it. Modules are imported when their row is
asked for, since some need torch.
"""

from __future__ import annotations

import importlib

from pitool.convert.techniques.base import Technique
from pitool.errors import UsageError
from pitool.spec import tables

BASELINE = "fp32"

# Name -> module in this package, and the technique in it.
TECHNIQUES: dict[str, tuple[str, str]] = {
    "fp32": ("gguf", "FP32"),
    "fp16": ("gguf", "FP16"),
    "bf16": ("gguf", "BF16"),
}


def find_technique(name: str) -> Technique:
    """Return a technique by its name; UsageError names the nearest."""
    module, attribute = tables.lookup(TECHNIQUES, name.lower(), "technique", UsageError)
    technique: Technique = getattr(importlib.import_module(f"{__name__}.{module}"), attribute)
    assert technique.name == name.lower()
    return technique
