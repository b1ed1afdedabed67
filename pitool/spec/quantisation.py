"""Which tensor gets which type: llama.cpp's own mixtures, to know sizes beforehand.

A model of ``llama_tensor_get_type`` (src/llama-quant.cpp of the pinned llama.cpp) for dense
models without an importance matrix; checked against its dry run in the tests.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from pitool.spec.formats import TENSOR_TYPES, Quantisation, TensorType
from pitool.spec.model import ModelShape, TensorShape

_FALLBACK = {
    "IQ4_XS": "IQ4_NL",
    "Q2_K": "Q4_0",
    "Q3_K": "Q4_0",
    "Q4_K": "Q5_0",
    "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
}


@dataclass(frozen=True, slots=True)
class TypedTensor:
    """A tensor with the type it is stored in."""

    tensor: TensorShape
    type: TensorType

    @property
    def bytes(self) -> int:
        """Stored bytes."""
        return self.type.size(self.tensor.shape)


def assign_types(model: ModelShape, quantisation: Quantisation) -> tuple[TypedTensor, ...]:
    """Return every tensor of ``model`` with the type that llama.cpp would store it in."""
    return tuple(_assign(model, quantisation))


def _assign(model: ModelShape, quantisation: Quantisation) -> Iterator[TypedTensor]:
    # Counted in the order in which llama.cpp walks the tensors: by layer, as text.
    order = sorted(model.tensors, key=lambda tensor: _walk_key(tensor.name))
    attention_v = {
        t.name: i for i, t in enumerate(t for t in order if t.name.endswith("attn_v.weight"))
    }
    feed_forward = {
        t.name: i for i, t in enumerate(t for t in order if t.name.endswith("ffn_down.weight"))
    }
    for tensor in model.tensors:
        if not _quantisable(tensor):
            yield TypedTensor(tensor, TENSOR_TYPES["F32"])
            continue
        name = quantisation.base
        if quantisation.quantised:
            position = attention_v.get(tensor.name, feed_forward.get(tensor.name, 0))
            name = _mixture(model, quantisation, tensor, position)
            name = _fit_row(tensor.shape[-1], name)
        yield TypedTensor(tensor, TENSOR_TYPES[name])


def _walk_key(name: str) -> tuple[int, str]:
    """llama.cpp sorts tensors by block number, then by name."""
    match = re.match(r"blk\.(\d+)\.", name)
    return (int(match[1]) if match else -1, name)


def _quantisable(tensor: TensorShape) -> bool:
    return (
        len(tensor.shape) >= 2
        and tensor.name.endswith("weight")
        and not tensor.name.endswith("_norm.weight")
    )


def _fit_row(row: int, name: str) -> str:
    """Return a type whose blocks divide the row: the wanted one, its fallback, or F16."""
    if row % TENSOR_TYPES[name].block:
        name = _FALLBACK.get(name, name)
    return name if row % TENSOR_TYPES[name].block == 0 else "F16"


def _more_bits(i: int, n: int) -> bool:
    """The first and last eighth of the layers, and every third between."""
    return i < n // 8 or i >= 7 * n // 8 or (i - n // 8) % 3 == 2


def _mixture(
    model: ModelShape, quantisation: Quantisation, tensor: TensorShape, position: int
) -> str:
    """Return the type by the tensor's part in the model, before rows are looked at."""
    part = tensor.name.removeprefix("blk.").partition(".")[2].removesuffix(".weight")
    if tensor.name == "output.weight" or (tensor.name == "token_embd.weight" and model.tied):
        whole = tensor.shape[-1] % TENSOR_TYPES[quantisation.base].block == 0
        return "Q6_K" if whole and quantisation.base != "Q8_0" else "Q8_0"
    layers = model.layers
    if part == "attn_v":
        return _attention_v(model, quantisation, position)
    if part == "ffn_down":
        return _feed_forward_down(quantisation, position, layers)
    if part == "attn_output":
        return {"Q2_K": "Q3_K", "Q3_K_M": "Q4_K", "Q3_K_L": "Q5_K"}.get(
            quantisation.name, quantisation.base
        )
    if part == "attn_qkv":
        return {"Q3_K_M": "Q4_K", "Q3_K_L": "Q4_K", "Q4_K_M": "Q5_K", "Q5_K_M": "Q6_K"}.get(
            quantisation.name, quantisation.base
        )
    return quantisation.base


def _attention_v(model: ModelShape, quantisation: Quantisation, i: int) -> str:
    groups = model.heads // model.kv_heads
    # llama.cpp knows the 70B class, whose attn_v is small, by its 80 layers.
    spare = model.layers == 80 and (groups > 1 or model.architecture == "qwen2")
    match quantisation.name:
        case "Q2_K":
            name = "Q4_K" if groups >= 4 else "Q3_K"
        case "Q3_K_M":
            name = "Q5_K" if i < 2 else "Q4_K"
        case "Q3_K_L":
            name = "Q5_K"
        case "IQ4_NL" | "IQ4_XS" if groups >= 4:
            name = "Q5_K"
        case "Q4_K_M" | "Q5_K_M" if _more_bits(i, model.layers):
            name = "Q6_K"
        case "Q4_K_S" if i < 4:
            name = "Q5_K"
        case _:
            name = quantisation.base
    return "Q5_K" if spare and name in ("Q3_K", "Q4_K") else name


def _feed_forward_down(quantisation: Quantisation, i: int, n: int) -> str:
    match quantisation.name:
        case "Q2_K":
            return "Q3_K"
        case "Q3_K_M":
            return "Q5_K" if i < n // 16 else "Q4_K"
        case "Q3_K_L":
            return "Q5_K"
        case "Q4_K_M" | "Q5_K_M" if _more_bits(i, n):
            return "Q6_K"
        case "IQ4_NL" | "IQ4_XS" | "Q4_K_S" if i < n // 8:
            return "Q5_K"
        case _:
            return quantisation.base
