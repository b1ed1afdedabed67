"""Which tensor gets which type: llama.cpp's own mixtures, to know sizes beforehand.

A model of ``llama_tensor_get_type`` (src/llama-quant.cpp of the pinned llama.cpp), with and
without an importance matrix; checked against its dry run in the tests.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from pitool.catalog.model_shape import EMBEDDING, HEAD, ModelShape, TensorShape
from pitool.catalog.tensor_types import TENSOR_TYPES, Quantisation, TensorType

_FALLBACK = {
    "IQ4_XS": "IQ4_NL",
    "Q2_K": "Q4_0",
    "Q3_K": "Q4_0",
    "Q2_0": "Q4_0",
    "TQ1_0": "Q4_0",
    "TQ2_0": "Q4_0",
    "Q4_K": "Q5_0",
    "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
}


# What llama.cpp treats as values, alone or in one matrix with queries and keys.
_VALUES = ("attn_v.weight", "attn_qkv.weight")
# It gives more bits to the attention of models with as many experts as Mixtral.
_MIXTRAL = 8
# Their embedding gets more bits, for it is one row a token.
_TERNARY = frozenset({"Q2_0", "TQ1_0", "TQ2_0"})
_MIXTRAL_OUTPUT = frozenset({"Q2_K", "Q3_K_S", "Q3_K_M", "IQ4_NL", "IQ4_XS", "Q4_K_S", "Q4_K_M"})


@dataclass(frozen=True, slots=True)
class TypedTensor:
    """A tensor with the type it is stored in; ``bytes`` are those stored.

    A plan sums the hundreds of a model a thousand times.
    """

    tensor: TensorShape
    type: TensorType
    bytes: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "bytes", self.type.size(self.tensor.shape))


@lru_cache(maxsize=64)
def assign_types(
    model: ModelShape, quantisation: Quantisation, *, importance: bool = False
) -> tuple[TypedTensor, ...]:
    """Return every tensor of ``model`` with the type that llama.cpp would store it in.

    ``importance``: it quantises with an importance matrix.
    """
    return tuple(_assign(model, quantisation, importance=importance))


def _assign(
    model: ModelShape, quantisation: Quantisation, *, importance: bool
) -> Iterator[TypedTensor]:
    # Counted in the order in which llama.cpp walks the tensors: by layer, then by name.
    order = sorted(
        (t for t in model.tensors if quantisable(t)), key=lambda tensor: (tensor.layer, tensor.name)
    )
    values = [t.name for t in order if t.name.endswith(_VALUES)]
    down = [t.name for t in order if t.part.startswith("ffn_down")]
    positions = {name: i for part in (values, down) for i, name in enumerate(part)}
    for tensor in model.tensors:
        if not quantisable(tensor):
            yield TypedTensor(tensor, TENSOR_TYPES["F32"])
            continue
        name = quantisation.base
        if model.keeps(tensor):
            name = model.packed
        elif quantisation.quantised and is_carried(tensor.name):
            name = "F16"  # or BF16, which takes as much
        elif quantisation.quantised:
            position = positions.get(tensor.name, 0)
            if model.experts and tensor.part.startswith("ffn_down"):
                position = tensor.layer  # beside the experts there may be one that all tokens use
            name = _mixture(model, quantisation, tensor, position, len(values))
            if importance and tensor.part.startswith("ffn_down"):
                name = _with_importance(quantisation, position, _layers(model), name)
            name = _fit_row(tensor.shape[-1], name)
        yield TypedTensor(tensor, TENSOR_TYPES[name])


Grids = Mapping[str, Sequence[TensorType]]
"""By the names of tensors that lie on a grid: the types that hold them exactly, the best first."""


def keep_grids(
    tensors: Iterable[TypedTensor], quantisation: Quantisation, grids: Grids
) -> tuple[TypedTensor, ...]:
    """Return tensors with the type whose grid they lie on, where that takes no more bytes.

    It is the basic type of the quantisation if that is one of them, else the first.
    """
    if not grids:
        return tuple(tensors)
    return tuple(_kept(t, quantisation, grids.get(t.tensor.name, ())) for t in tensors)


def whole_grid(model: ModelShape, quantisation: Quantisation) -> Grids:
    """Return the grids of a model that its makers trained for a type: embedding and head as well.

    Empty for a quantisation that is made of any weights.
    """
    kind = TENSOR_TYPES[quantisation.base]
    matrices = (t for t in model.tensors if quantisable(t) and t.shape[-1] % kind.block == 0)
    return {t.name: (kind,) for t in matrices} if quantisation.trained else {}


# Of the layers' weights, above which a grid is the model's own.
_MOST = 0.5


def own_grid(model: ModelShape, grids: Grids) -> str:
    """Return the type on whose grid most weights of the layers lie, as trained; empty for none."""
    first = dict.fromkeys(kinds[0].name for kinds in grids.values() if kinds)
    return next((name for name in first if lies_on(model, grids, name)), "")


def lies_on(model: ModelShape, grids: Grids, name: str) -> bool:
    """Tell whether most weights of the layers lie on the grid of a type."""
    matrices = [t for t in model.tensors if t.name.startswith("blk.") and quantisable(t)]
    held = (t for t in matrices if any(kind.name == name for kind in grids.get(t.name, ())))
    return sum(t.weights for t in held) > _MOST * sum(t.weights for t in matrices)


def _kept(
    stored: TypedTensor, quantisation: Quantisation, types: Sequence[TensorType]
) -> TypedTensor:
    if not types or not quantisation.quantised:
        return stored
    named = [kind for kind in types if kind.name == quantisation.base]
    best = (named or types)[0]
    kept = TypedTensor(stored.tensor, best)
    return kept if named or kept.bytes <= stored.bytes else stored


# Of Gemma's small models: llama.cpp writes them in a float file's own type, and never quantises
# them.
_CARRIED = ("per_layer_model_proj", "altup", "laurel")
# Matrices that stay in F32: norms by head, routers, positions and short convolutions.
_KEPT = (
    "_norm.weight",
    "ffn_gate_inp.weight",
    "position_embd.weight",
    "token_types.weight",
    "shortconv.conv.weight",
    "ssm_conv1d.weight",
    "altup_correct_coef.weight",
    "altup_predict_coef.weight",
)


def quantisable(tensor: TensorShape) -> bool:
    """Tell whether llama.cpp quantises a tensor at all."""
    return (
        len(tensor.shape) >= 2
        and tensor.name.endswith("weight")
        and not tensor.name.endswith(_KEPT)
    )


def is_rounded(tensor: TensorShape) -> bool:
    """Tell whether a quantisation rounds a tensor: a matrix that does not stay a float."""
    return quantisable(tensor) and not is_carried(tensor.name)


def is_carried(name: str) -> bool:
    """Tell whether a matrix stays in the float type that it has, whatever the quantisation."""
    return any(part in name for part in _CARRIED)


def _fit_row(row: int, name: str) -> str:
    """Return a type whose blocks divide the row: the wanted one, its fallback, or F16."""
    if row % TENSOR_TYPES[name].block:
        name = _FALLBACK.get(name, name)
    return name if row % TENSOR_TYPES[name].block == 0 else "F16"


def _layers(model: ModelShape) -> int:
    """Count the layers as llama.cpp does here: with those that predict further tokens."""
    return model.layers + model.predictors


def _more_bits(i: int, n: int) -> bool:
    """The first and last eighth of the layers, and every third between."""
    return i < n // 8 or i >= 7 * n // 8 or (i - n // 8) % 3 == 2


def _mixture(
    model: ModelShape, quantisation: Quantisation, tensor: TensorShape, position: int, values: int
) -> str:
    """Return the type by the tensor's part in the model, before rows are looked at.

    ``position``: which of its kind it is; ``values``: how many matrices of values there are.
    """
    part = tensor.part
    if quantisation.name == "MXFP4_MOE":
        return quantisation.base if len(tensor.shape) > 2 else "Q8_0"
    if tensor.name == HEAD or (tensor.name.endswith(EMBEDDING) and model.tied):
        whole = tensor.shape[-1] % TENSOR_TYPES[quantisation.base].block == 0
        return "Q6_K" if whole and quantisation.base != "Q8_0" else "Q8_0"
    if tensor.name.endswith(EMBEDDING) and quantisation.name in _TERNARY:
        return "Q4_K"
    if tensor.name.endswith(_VALUES):
        return _attention_v(model, quantisation, position, values)
    if part.startswith("ffn_down"):
        return _feed_forward_down(quantisation, position, _layers(model))
    if part == "attn_k" and model.experts == _MIXTRAL:
        return "Q8_0"
    if part == "attn_output" and model.experts == _MIXTRAL:
        return "Q5_K" if quantisation.name in _MIXTRAL_OUTPUT else quantisation.base
    if part == "attn_output":
        return {"Q2_K": "Q3_K", "Q3_K_M": "Q4_K", "Q3_K_L": "Q5_K"}.get(
            quantisation.name, quantisation.base
        )
    return quantisation.base


def _attention_v(model: ModelShape, quantisation: Quantisation, i: int, n: int) -> str:
    if model.experts == _MIXTRAL:
        return "Q8_0"
    # It looks at the first layer, which may have a recurrent state instead of keys.
    groups = model.heads // model.kv_heads if model.layer_caches()[0][1] else 0
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
        case "Q4_K_M" | "Q5_K_M" if _more_bits(i, n):
            name = "Q6_K"
        case "Q4_K_S" if i < 4:
            name = "Q5_K"
        case _:
            name = quantisation.base
    return "Q5_K" if spare and name in ("Q3_K", "Q4_K") else name


def _with_importance(quantisation: Quantisation, i: int, n: int, name: str) -> str:
    """Return what the first layers have instead when there is an importance matrix."""
    if i >= n // 8:
        return name
    if quantisation.name in ("IQ4_NL", "IQ4_XS"):
        return quantisation.base
    return {"Q4_0": "Q4_1", "Q5_0": "Q5_1"}.get(quantisation.name, name)


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
