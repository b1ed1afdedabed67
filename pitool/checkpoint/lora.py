"""LoRA adapters in PEFT's layout, merged into a checkpoint's tensors.

Follows LoRA (Hu et al. 2021), rank-stabilised LoRA (Kalajdzievski 2023) and PEFT's
``adapter_config.json``, whose values are a stranger's: a formula that is not known is refused, and
a pattern is matched for a bounded time. The files of base and adapter are never changed.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import sqrt
from pathlib import Path
from typing import Any, TypeGuard

from pitool.catalog import reading
from pitool.checkpoint.merged import LowRankProduct, MergedTensor
from pitool.checkpoint.tensors import Tensor, read_header
from pitool.checkpoint.weights import find_name, is_buffer, plain_name
from pitool.errors import BadInput

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_AGAIN = "download it again"
_MERGE = "merge it with PEFT's merge_and_unload, then convert the result"
# Seconds for all patterns of an adapter on all its modules; honest ones take milliseconds.
PATTERN_SECONDS = 5.0
_PREFIX = "base_model.model."
# What torch's wrappers put into names.
_WRAPPER = re.compile(
    r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.|^module\."
)
# Module, half of the pair, and the adapter's name, which PEFT leaves out.
_LOW_RANK = re.compile(
    r"(.+)\.(lora_A|lora_B|lora_embedding_A|lora_embedding_B)(?:\.(?!(?:weight|bias)$)([^.]+))?"
    r"(?:\.weight)?"
)
_TABLE = re.compile(r"(?:.*\.)?(?:embed_tokens|lm_head|wte|embed_in|embed_out)\.weight")
_PLAIN = re.compile(r"[\w.]+")
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
# The same by parts of tensors' names, where the settings do not say it.
_OTHER_PARTS = {
    "lora_magnitude_vector": "DoRA",
    "lora_B.bias": "a LoRA with biases",
    "lora_E": "AdaLoRA",
    "token_adapter": "a LoRA with trainable tokens",
}
# Beginnings of ``init_lora_weights`` that change the base model before it is trained.
_OTHER_BASES = ("pissa", "olora", "corda", "loftq")


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
class _Stored:
    """What an adapter's file holds: pairs of factors by module, and tensors trained as a whole."""

    pairs: dict[str, dict[str, Tensor]]
    whole: dict[str, Tensor]


def merge(tensors: Mapping[str, Tensor], adapter: Adapter, *, tied: bool) -> dict[str, Tensor]:
    """Return the tensors with one adapter merged; BadInput when it is not for this model.

    ``tied``: embedding and head are one tensor, so an adapter cannot change only one of them.
    """
    settings = _settings(adapter)
    stored = _read(adapter)
    if not stored.pairs and not stored.whole:
        raise BadInput(f"{adapter.folder} changes no tensor", "choose another adapter")
    scaling = _Scaling(adapter, settings)
    merged, changed = dict(tensors), set[str]()
    for name, tensor in stored.whole.items():
        target = _target(adapter, tensors, name, tensor.shape[:1], tied=tied)
        merged[target] = _replaced(adapter, tensors[target], tensor)
    for module, pair in stored.pairs.items():
        a, b = _factors(adapter, module, pair)
        embedding = any(key.startswith("lora_embedding") for key in pair)
        rows = a.shape[1:] if embedding else b.shape[:1]
        target = _target(adapter, tensors, f"{module}.weight", rows, tied=tied)
        if target in changed:
            raise BadInput(f"{adapter.folder} changes {target!r} under two names", _AGAIN)
        changed.add(target)
        transposed = embedding or bool(settings.get("fan_in_fan_out"))
        change = LowRankProduct(a, b, scaling.of(module, a.shape[0]), transposed)
        merged[target] = _added(adapter, merged[target], change)
    return merged


def _settings(adapter: Adapter) -> dict[str, Any]:
    path = adapter.folder / CONFIG
    missing = BadInput(
        f"{adapter.folder} is not an adapter: it has no {CONFIG}",
        "use the folder that PEFT's save_pretrained wrote",
    )
    settings = reading.read_object(path, missing=missing)
    if settings.get("peft_type") != "LORA":
        raise _unsupported(adapter, str(settings.get("peft_type") or "an unknown adapter type"))
    for key, what in _OTHER_FORMULAS.items():
        if settings.get(key):
            raise _unsupported(adapter, what)
    initial = settings.get("init_lora_weights")
    if isinstance(initial, str) and initial.lower().startswith(_OTHER_BASES):
        raise _unsupported(adapter, f"a LoRA on a changed base (init_lora_weights {initial!r})")
    return settings


def _unsupported(adapter: Adapter, what: str) -> BadInput:
    return BadInput(f"{adapter.folder} is {what}, and pitool can only merge a plain LoRA", _MERGE)


# -- names -----------------------------------------------------------------------------------------


def _read(adapter: Adapter) -> _Stored:
    """Return an adapter's tensors by their names in the base model, as PEFT has them."""
    path = adapter.folder / WEIGHTS
    if not os.path.lexists(path):
        raise BadInput(f"{adapter.folder} has no {WEIGHTS}", "save the adapter as safetensors")
    found = [(_unwrapped(tensor.name), tensor) for tensor in read_header(path)]
    others = [what for name, _ in found for part, what in _OTHER_PARTS.items() if part in name]
    if others:
        raise _unsupported(adapter, others[0])
    matches = [(_LOW_RANK.fullmatch(name), name, tensor) for name, tensor in found]
    adapters = sorted({match[3] or "default" for match, _, _ in matches if match}) or ["default"]
    if len(adapters) > 1:
        raise BadInput(
            f"{path} holds several adapters ({', '.join(adapters)})", "save each in its own folder"
        )
    stored = _Stored({}, {})
    for match, name, tensor in matches:
        if match:
            into, key = stored.pairs.setdefault(match[1], {}), match[2]
        elif is_buffer(name) or ".original_module." in name:
            continue
        else:
            into, key = stored.whole, _saved_name(name, adapters[0])
        if key in into:
            raise BadInput(f"{path} holds {name!r} under two names", _AGAIN)
        into[key] = tensor
    return stored


def _unwrapped(name: str) -> str:
    return _WRAPPER.sub("", name).removeprefix(_PREFIX)


def _saved_name(name: str, adapter: str) -> str:
    """Return the base model's name of a fully trained tensor."""
    name = name.replace(".modules_to_save.", ".").replace(".base_layer.", ".")
    return name.replace(f".{adapter}.", ".")


def _target(
    adapter: Adapter, tensors: Mapping[str, Tensor], name: str, rows: tuple[int, ...], *, tied: bool
) -> str:
    """Return the checkpoint's name for an adapter's name; ``rows``: how many its change has."""
    known = find_name(tensors, name) or find_name(tensors, plain_name(name))
    table = _TABLE.fullmatch(name) is not None
    if table and known and tensors[known].shape[:1] != rows:
        raise BadInput(
            f"{adapter.folder} was trained with a resized vocabulary: its change of {name!r} has"
            f" {'x'.join(map(str, rows))} rows, the checkpoint's {tensors[known].shape[0]}",
            "merge it with PEFT into the resized base model, then convert the result",
        )
    if table and tied:
        raise BadInput(
            f"{adapter.folder} changes {name!r}, which this model uses as both embedding and head",
            _MERGE,
        )
    if not known:
        raise BadInput(
            f"{adapter.folder} changes {name!r}, which the checkpoint does not have",
            "use the base model that the adapter was trained on",
        )
    return known


# -- values ----------------------------------------------------------------------------------------


def _replaced(adapter: Adapter, base: Tensor, tensor: Tensor) -> Tensor:
    if tensor.shape != base.shape:
        raise _other_model(adapter, base, tensor.shape)
    return _readable(tensor)


def _factors(adapter: Adapter, module: str, pair: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the factors (rank, in) and (out, rank) of a module, checked against each other."""
    try:
        a, b = (_readable(pair[key]) for key in sorted(pair))
    except ValueError:
        raise BadInput(
            f"{adapter.folder} has only one of the two factors of {module!r}", _AGAIN
        ) from None
    if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[0] != b.shape[1]:
        raise BadInput(f"{adapter.folder}: the factors of {module!r} do not match", _AGAIN)
    return a, b


def _readable(tensor: Tensor) -> Tensor:
    """Return a tensor whose type can be read."""
    _ = tensor.type
    return tensor


def _added(adapter: Adapter, base: Tensor, change: LowRankProduct) -> MergedTensor:
    """Return ``base`` with one more low-rank product, its shapes checked."""
    outward, inward = change.b.shape[0], change.a.shape[1]
    transposed = change.transposed or base.shape != (outward, inward)
    if base.shape != ((inward, outward) if transposed else (outward, inward)):
        raise _other_model(adapter, base, (outward, inward))
    root, earlier = (base.base, base.changes) if isinstance(base, MergedTensor) else (base, ())
    changes = (*earlier, replace(change, transposed=transposed))
    return MergedTensor(
        base.name, "F32", base.shape, root.path, root.start, root.end, root, changes
    )


class _Scaling:
    """The factor of each module's product: the user's scale times alpha / rank or / sqrt(rank)."""

    def __init__(self, adapter: Adapter, settings: dict[str, Any]) -> None:
        self._adapter, self._settings, self._seconds = adapter, settings, PATTERN_SECONDS

    def of(self, module: str, rank: int) -> float:
        """Return the factor, with the values whose patterns match the module's name."""
        said = self._by_pattern("rank_pattern", module, self._settings.get("r"))
        alpha = self._by_pattern("alpha_pattern", module, self._settings.get("lora_alpha"))
        if said != rank or rank < 1 or not _is_number(alpha):
            raise BadInput(
                f"{self._adapter.folder}: {module!r} has rank {rank}, but {CONFIG} says rank"
                f" {said!r} and alpha {alpha!r}",
                "use both files from the same release",
            )
        divisor = sqrt(rank) if self._settings.get("use_rslora") else rank
        return self._adapter.scale * float(alpha) / divisor

    def _by_pattern(self, key: str, module: str, default: Any) -> Any:
        """Return the value of the first pattern that matches the end of a name, as PEFT."""
        patterns = self._settings.get(key) or {}
        for pattern, value in patterns.items() if isinstance(patterns, dict) else ():
            if self._matches(pattern, module):
                return value
        return default

    def _matches(self, pattern: str, module: str) -> bool:
        if _PLAIN.fullmatch(pattern):
            return f".{module}".endswith(f".{pattern}")
        import regex  # the one engine with a limit of time

        start = time.monotonic()
        try:
            whole = regex.compile(rf"(?:.*\.)?(?:{pattern})")
            found = whole.fullmatch(module, timeout=max(self._seconds, 0.001)) is not None
        except TimeoutError:
            raise BadInput(
                f"{self._adapter.folder / CONFIG} has a pattern that takes too long to match"
                f" ({pattern[:60]!r})",
                "use a simpler pattern, such as the module's name",
            ) from None
        except (regex.error, RecursionError, OverflowError):
            return False
        self._seconds -= time.monotonic() - start
        return found


def _is_number(value: object) -> TypeGuard[float]:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return abs(value) <= sys.float_info.max


def _other_model(adapter: Adapter, base: Tensor, shape: tuple[int, ...]) -> BadInput:
    return BadInput(
        f"{adapter.folder} changes {base.name!r} of shape {shape}, but the checkpoint's has shape"
        f" {base.shape}",
        "use the base model that the adapter was trained on",
    )
