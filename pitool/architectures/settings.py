"""Reads ``config.json`` for a family, and refuses what nobody has read.

Owns which keys are harmless whatever the family; a family's file reads all others that it knows
through ``Settings``, which notes them. A key that nobody read is refused by its name, so that no
setting that changes the mathematics passes unseen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pitool.architectures.harmless import is_harmless
from pitool.catalog import tables
from pitool.checkpoint.config import Config
from pitool.checkpoint.scaled import KEY, is_readable, method
from pitool.errors import BadInput

REPAIR = "repair the checkpoint"
ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_pytorch_tanh",
    "gelu_new": "gelu_pytorch_tanh",
}
FULL, SLIDING = "full_attention", "sliding_attention"


@dataclass(frozen=True, slots=True)
class Sizes:
    """The numbers that nearly every decoder has."""

    layers: int
    hidden: int
    feed_forward: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    context: int


class Settings(Config):
    """The settings of a checkpoint with a family's defaults, which notes the keys that are read.

    Settings of a text model inside a multimodal one (``text_config``) stand at the top.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config.text_model().values, config.path, config.tensors)
        self._read: set[str] = {"text_config"}

    def value(self, key: str) -> Any:
        """Return a value as it stands, None for a missing one."""
        self._read.add(key)
        return super().value(key)

    def note(self, *keys: str) -> None:
        """Note keys as read that matter under a condition only."""
        self._read.update(keys)

    def ignore(self, *keys: str) -> None:
        """Drop keys that this family's model in transformers does not look at."""
        self.values = {key: value for key, value in self.values.items() if key not in keys}

    def default(self, **values: Any) -> None:
        """Complete the settings by what transformers assumes for a missing key."""
        self.values = {**values, **self.values}

    def rename(self, **names: str) -> None:
        """Let settings be read under the names of other families: own name by the usual one."""
        found = {usual: self.value(own) for usual, own in names.items() if own in self.values}
        self.values = {**self.values, **found}

    def alias(self, usual: str, other: str) -> None:
        """Let a setting be read by its ``other`` name where it does not stand under the usual one.

        Another value beside the usual one is read by nobody, and so refused.
        """
        if other not in self.values:
            return
        named = self.values[other]
        if self.values.get(usual, named) == named:
            self.values = {**self.values, usual: named}
            self.note(other)

    def only(self, key: str, wanted: object, what: str) -> None:
        """Raise BadInput where a setting has another value than the only one that is known."""
        value = self.value(key)
        if value is None and key in self.values and isinstance(wanted, bool):
            value = False  # as transformers takes null
        if value is not None and value != wanted:
            raise BadInput(
                f"{self.path}: {what} is not supported ({key!r} is {value!r})",
                f"convert a checkpoint whose {key!r} is {wanted!r}",
            )

    def sizes(self) -> Sizes:
        """Return the sizes, checked for what must divide what."""
        heads, hidden = self.count("num_attention_heads"), self.count("hidden_size")
        kv_heads = self.count("num_key_value_heads", heads)
        if heads % kv_heads:
            raise self.error(f"{heads} heads cannot be divided among {kv_heads} key-value heads")
        head_dim = self.count("head_dim", max(hidden // heads, 1))
        if self.value("head_dim") is None and hidden % heads:
            raise self.error(f"hidden size {hidden} cannot be divided among {heads} heads")
        if head_dim % 2:
            raise self.error(f"an odd head size ({head_dim}) cannot be rotated")
        return Sizes(
            layers=self.count("num_hidden_layers"),
            hidden=hidden,
            feed_forward=self.count("intermediate_size"),
            heads=heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            vocabulary=self.count("vocab_size"),
            context=self.count("max_position_embeddings"),
        )

    def activation(self, key: str = "hidden_act", default: str = "silu") -> str:
        """Return the activation by our name for it, or its own where we have none."""
        name = self.value(key) or default
        return ACTIVATIONS.get(name, name) if isinstance(name, str) else repr(name)

    def epsilon(self, key: str, default: float) -> float:
        """Return what is added to a mean square before its root is taken."""
        if (value := self.number(key, default)) < 0:
            raise self.bad(key, "a number from 0 on")
        return value

    def cap(self, key: str, default: float = 0.0) -> float:
        """Return a bound, 0 for none; ``default`` is that of a missing key, null means none."""
        if self.value(key) is None and key in self.values:
            return 0.0
        return self.number(key, default)

    def flags(self, key: str, layers: int) -> list[bool]:
        """Return true or false for each layer, from a list of these or of 1 and 0."""
        value = self.value(key)
        if not isinstance(value, list) or len(value) != layers:
            count = len(value) if isinstance(value, list) else 0
            raise self.error(f"{key!r} lists {count} layers")
        return [bool(each) for each in value]

    def layer_types(
        self, default: list[str], known: tuple[str, ...] = (FULL, SLIDING)
    ) -> list[str]:
        """Return the kind of each layer; ``default`` is what transformers assumes."""
        types = self.value("layer_types") or default
        if not isinstance(types, list) or len(types) != len(default):
            raise self.error(f"'layer_types' does not list {len(default)} layers")
        if wrong := set(map(str, types)) - set(known):
            raise BadInput(
                f"{self.path}: 'layer_types' has an unsupported type",
                tables.nearest(wrong.pop(), list(known)),
            )
        return types

    def windows(self, types: list[str], default: int = 4096) -> tuple[int, ...]:
        """Return the window of each layer by its kind, 0 for one that attends to all."""
        size = self.count("sliding_window", default)
        return tuple(size if kind == SLIDING else 0 for kind in types)

    def switched_windows(self, layers: int) -> tuple[int, ...]:
        """Return the windows of the families with a switch for them, as Qwen 2 has it."""
        first = self.value("max_window_layers")
        first = 28 if first is None else first
        default = [SLIDING if i >= first else FULL for i in range(layers)]
        types = self.layer_types(default)
        windows = self.windows(types)
        switched = self.flag("use_sliding_window", default=False)
        sized = "sliding_window" not in self.values or self.value("sliding_window") is not None
        return windows if switched and sized else (0,) * layers

    def check_all_read(self) -> None:
        """Raise BadInput for the first key that nobody read and that is not harmless."""
        for key, value in self.values.items():
            if key == KEY and is_readable(self.values):
                continue
            if key not in self._read and not is_harmless(key, value, self.values):
                raise refuse_key(self, key, value)

    def error(self, what: str) -> BadInput:
        """Return the error of settings that cannot be."""
        return BadInput(f"{self.path}: {what}", REPAIR)


def refuse_key(settings: Config, key: str, value: object) -> BadInput:
    """Return the error of a key that is not known."""
    if key in (KEY, "quantization", "compression_config"):
        return BadInput(
            f"{settings.path}: the weights are already quantised"
            f" ({method(settings.values) or key})",
            "convert the original float checkpoint, or take a GGUF of the model: pitool pull",
        )
    shown = repr(value)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    return BadInput(
        f"{settings.path} sets {key!r} to {shown}, which pitool does not support for a"
        f" {settings.model_type!r} model",
        "report this model, or remove the key from config.json if the model does not depend on it",
    )
