"""LoRA adapters in PEFT's layout, merged into a checkpoint's tensors as these are read.

Follows LoRA (Hu et al. 2021), rank-stabilised LoRA (Kalajdzievski 2023) and PEFT's
``adapter_config.json``. A merged tensor is the float32 sum of the base and each low-rank product,
computed slab by slab. The files of base and adapter are never changed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod, sqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pitool.catalog import reading
from pitool.checkpoint.tensors import Tensor, read_header, to_float32
from pitool.errors import BadInput

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
_LOW_RANK = re.compile(r"(.+)\.(lora_A|lora_B)\.weight|(.+)\.(lora_embedding_A|lora_embedding_B)")
# Settings that select a formula which is not supported here, and its name.
_OTHER_FORMULAS = {
    "use_dora": "DoRA",
    "lora_bias": "a LoRA with biases",
    "use_qalora": "QA-LoRA",
    "layer_replication": "a LoRA that replicates layers",
    "alora_invocation_tokens": "an activated LoRA",
    "trainable_token_indices": "a LoRA with trainable tokens",
    "target_parameters": "a LoRA on bare parameters",
    "megatron_config": "a Megatron LoRA",
}


@dataclass(frozen=True, slots=True)
class Adapter:
    """A folder in PEFT's layout, and the scale of its change."""

    folder: Path
    scale: float = 1.0

    @property
    def files(self) -> tuple[Path, Path]:
        """Settings and weights."""
        return self.folder / CONFIG, self.folder / WEIGHTS


@dataclass(frozen=True, slots=True)
class LowRankProduct:
    """A product of ``a`` (rank, in) and ``b`` (out, rank); ``transposed``: for (in, out)."""

    a: Tensor
    b: Tensor
    scale: float
    transposed: bool

    def factors(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the two matrices whose product is added, in the order of the stored tensor."""
        a, b = self.a.float32(), self.b.float32()
        left, right = (a.T, b.T) if self.transposed else (b, a)
        return left * np.float32(self.scale), right


@dataclass(frozen=True, slots=True)
class MergedTensor(Tensor):
    """A tensor that reads as float32 with all its low-rank products added."""

    base: Tensor
    changes: tuple[LowRankProduct, ...]

    @property
    def bytes(self) -> int:
        """Bytes in float32."""
        return prod(self.shape) * 4

    def slabs(self, largest: int, multiple: int = 1) -> Iterator[NDArray[Any]]:
        """Yield runs of merged rows, as ``Tensor.slabs`` does."""
        factors = [change.factors() for change in self.changes]
        first = 0
        for slab in self.base.slabs(largest, multiple):
            rows = to_float32(slab, self.base.kind).copy()
            for left, right in factors:
                rows += left[first : first + len(rows)] @ right
            first += len(rows)
            yield rows

    def float32(self) -> NDArray[np.float32]:
        """Return the whole merged tensor."""
        (whole,) = self.slabs(self.bytes or 1)
        return np.asarray(whole, np.float32).reshape(self.shape)


def merge(tensors: Mapping[str, Tensor], adapter: Adapter, *, tied: bool) -> dict[str, Tensor]:
    """Return the tensors with one adapter merged; BadInput when it is not for this model.

    ``tied``: embedding and head are one tensor, so an adapter cannot change only one of them.
    """
    settings = _settings(adapter)
    if not (adapter.folder / WEIGHTS).is_file():
        raise BadInput(f"{adapter.folder} has no {WEIGHTS}", "save the adapter as safetensors")
    merged = dict(tensors)
    pairs: dict[str, dict[str, Tensor]] = {}
    for tensor in read_header(adapter.folder / WEIGHTS):
        name = tensor.name.removeprefix(_PREFIX)
        if match := _LOW_RANK.fullmatch(name):
            pairs.setdefault(match[1] or match[3], {})[match[2] or match[4]] = tensor
        else:
            target = _target(adapter, tensors, _saved_name(name), tied=tied)
            merged[target] = _replaced(adapter, tensors[target], tensor)
    if not pairs and len(merged) == len(tensors) and all(merged[n] is tensors[n] for n in merged):
        raise BadInput(f"{adapter.folder} changes no tensor", "choose another adapter")
    for module, pair in pairs.items():
        target = _target(adapter, tensors, f"{module}.weight", tied=tied)
        merged[target] = _added(adapter, settings, module, merged[target], pair)
    return merged


def _settings(adapter: Adapter) -> dict[str, Any]:
    path = adapter.folder / CONFIG
    none = BadInput(
        f"{adapter.folder} is not an adapter: it has no {CONFIG}",
        "use the folder that PEFT's save_pretrained wrote",
    )
    settings = reading.read_object(path, _AGAIN, missing=none)
    if settings.get("peft_type") != "LORA":
        raise _unsupported(adapter, str(settings.get("peft_type") or "an unknown adapter type"))
    for key, what in _OTHER_FORMULAS.items():
        if settings.get(key):
            raise _unsupported(adapter, what)
    return settings


def _unsupported(adapter: Adapter, what: str) -> BadInput:
    return BadInput(
        f"{adapter.folder} is {what}, and pitool can only merge a plain LoRA",
        "merge it with PEFT's merge_and_unload, then convert the result",
    )


def _saved_name(name: str) -> str:
    """Return the base model's name of a fully trained tensor."""
    return name.replace(".modules_to_save.", ".").replace(".base_layer.", ".")


def _target(adapter: Adapter, tensors: Mapping[str, Tensor], name: str, *, tied: bool) -> str:
    """Return the checkpoint's name for an adapter's name; a bare decoder lacks the first part."""
    if tied and re.search(r"(embed_tokens|lm_head|wte|embed_in|embed_out)\.weight$", name):
        raise BadInput(
            f"{adapter.folder} changes {name!r}, which this model uses as both embedding and head",
            "merge it with PEFT's merge_and_unload, then convert the result",
        )
    for known in (name, name.partition(".")[2]):
        if known in tensors:
            return known
    raise BadInput(
        f"{adapter.folder} changes {name!r}, which the checkpoint does not have",
        "use the base model that the adapter was trained on",
    )


def _replaced(adapter: Adapter, base: Tensor, tensor: Tensor) -> Tensor:
    if tensor.shape != base.shape:
        raise _other_model(adapter, base, tensor.shape)
    return tensor


def _added(
    adapter: Adapter, settings: dict[str, Any], module: str, base: Tensor, pair: dict[str, Tensor]
) -> MergedTensor:
    """Return ``base`` with one more low-rank product, its shapes checked."""
    try:
        a, b = (pair[key] for key in sorted(pair))
    except ValueError:
        raise BadInput(
            f"{adapter.folder} has only one of the two factors of {module!r}", "download it again"
        ) from None
    embedding = any(key.startswith("lora_embedding") for key in pair)
    if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[0] != b.shape[1]:
        raise BadInput(f"{adapter.folder}: the factors of {module!r} do not match", _AGAIN)
    outward, inward = b.shape[0], a.shape[1]
    transposed = (
        embedding or bool(settings.get("fan_in_fan_out")) or base.shape != (outward, inward)
    )
    shape = (inward, outward) if transposed else (outward, inward)
    if base.shape != shape:
        raise _other_model(adapter, base, (outward, inward))
    change = LowRankProduct(
        a, b, adapter.scale * _scaling(adapter, settings, module, a.shape[0]), transposed
    )
    root, earlier = (base.base, base.changes) if isinstance(base, MergedTensor) else (base, ())
    return MergedTensor(
        base.name, "F32", base.shape, root.path, root.start, root.end, root, (*earlier, change)
    )


_AGAIN = "download it again"


def _scaling(adapter: Adapter, settings: dict[str, Any], module: str, rank: int) -> float:
    """Return alpha / rank or alpha / sqrt(rank), with the values that match the module's name."""
    said = _by_pattern(settings, "rank_pattern", module, settings.get("r"))
    alpha = _by_pattern(settings, "alpha_pattern", module, settings.get("lora_alpha"))
    if said != rank or not isinstance(alpha, int | float) or isinstance(alpha, bool):
        raise BadInput(
            f"{adapter.folder}: {module!r} has rank {rank}, but {CONFIG} says rank {said!r} and"
            f" alpha {alpha!r}",
            "use both files from the same release",
        )
    return float(alpha) / (sqrt(rank) if settings.get("use_rslora") else rank)


def _by_pattern(settings: dict[str, Any], key: str, module: str, default: Any) -> Any:
    """Return the value of the first pattern that matches the end of the module's name, as PEFT."""
    patterns = settings.get(key) or {}
    for pattern, value in patterns.items() if isinstance(patterns, dict) else ():
        try:
            if re.fullmatch(rf"(?:.*\.)?(?:{pattern})", module):
                return value
        except re.error:
            continue
    return default


def _other_model(adapter: Adapter, base: Tensor, shape: tuple[int, ...]) -> BadInput:
    return BadInput(
        f"{adapter.folder} changes {base.name!r} of shape {shape}, but the checkpoint's has shape"
        f" {base.shape}",
        "use the base model that the adapter was trained on",
    )
