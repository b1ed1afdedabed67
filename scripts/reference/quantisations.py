"""What a model can be quantised to: types of GGUF, types of ONNX, techniques."""

from __future__ import annotations

from collections.abc import Iterator

from pitool.catalog.tensor_types import QUANTISATIONS, REPACKED, TENSOR_TYPES
from pitool.convert.techniques import find_techniques
from pitool.convert.techniques.base import Technique
from pitool.planning.onnx_weights import ONNX_QUANTISATIONS
from scripts.reference.markdown import table


def gguf() -> Iterator[str]:
    """Yield llama.cpp's quantisations, the best quality first."""
    heads = ("name", "basic type", "bits", "weights a block", "fast with dotprod", "trained for")
    yield from table(heads, map(_gguf, QUANTISATIONS))


def _gguf(name: str) -> tuple[object, ...]:
    quantisation = QUANTISATIONS[name]
    base = TENSOR_TYPES[quantisation.base]
    fast = _yes(base.name in REPACKED["dotprod"])
    return f"`{name}`", base.name, f"{base.bits:.4g}", base.block, fast, _yes(quantisation.trained)


def onnx() -> Iterator[str]:
    """Yield the quantisations of the ONNX writer."""
    rows = (
        (f"`{q.name}`", q.bits, q.head_bits, _yes(q.asymmetric), _yes(q.dynamic))
        for q in ONNX_QUANTISATIONS.values()
    )
    yield from table(("name", "bits", "bits of embedding and head", "zero points", "dynamic"), rows)


def techniques() -> Iterator[str]:
    """Yield the techniques in the order of the lab."""
    heads = ("name", "what it does", "bits", "runs on", "needs", "source")
    yield from table(heads, map(_technique, find_techniques(None)))


def _technique(technique: Technique) -> tuple[object, ...]:
    needs = ", ".join(sorted(technique.needs))
    note = f"{technique.note[0].upper()}{technique.note[1:]}." if technique.note else ""
    effect = " ".join(filter(None, (technique.effect, note)))
    name, bits = f"`{technique.name}`", f"{technique.bits:g}"
    return name, effect, bits, technique.kernel, needs, technique.source


def _yes(value: bool) -> str:
    return "yes" if value else ""
