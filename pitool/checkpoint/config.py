"""The settings of a checkpoint: ``config.json`` with every value checked as it is read."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

from pitool.catalog import reading
from pitool.catalog.files import path_kind
from pitool.checkpoint.tensors import Tensor
from pitool.checkpoint.weights import has_weights, read_index
from pitool.errors import BadInput

LARGEST = 1 << 31
# A plan has a row for every tensor of every layer.
LAYERS = frozenset({"num_hidden_layers", "n_layer", "n_layers", "num_layers"})
MOST_LAYERS = 1000
# The model_type of a GGUF file, which has its settings in itself.
GGUF = "gguf"
# Families whose embedding and head are two where no setting says so; of all others transformers
# assumes, and leaves out when it saves, that they are one.
UNTIED = frozenset((
    "apertus", "exaone4", "glm4", "gpt_neox", "gpt_oss", "granite", "granitemoehybrid",
    "hunyuan_v1_dense", "llama", "ministral3", "mistral", "mistral3", "mixtral", "olmo2", "olmoe",
    "phi3", "qwen2", "qwen3", "qwen3_5", "qwen3_5_text", "qwen3_moe", "seed_oss", "stablelm",
))  # fmt: skip
# The other name of that setting, which comes first where both are there.
TIED_ALIAS = {"lfm2": "tie_embedding", "lfm2_moe": "tie_embedding"}
# The settings of a text model inside a multimodal one, and the end of its head's name.
TEXT, HEAD = "text_config", "lm_head.weight"


class Config:
    """``config.json`` of a checkpoint folder.

    Getters raise BadInput with the key's name when a value is missing or absurd, because what
    follows from it would be sizes of arrays. ``tensors``: by the headers of weights that are not in
    the folder yet, where they were read.
    """

    def __init__(
        self, values: dict[str, Any], path: Path, tensors: Mapping[str, Tensor] | None = None
    ) -> None:
        self.values, self.path, self.tensors = values, path, tensors

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> Config:
        """Return the same settings with what the headers of the weights say."""
        return Config(self.values, self.path, tensors)

    @property
    def model_type(self) -> str:
        """The family's name, such as ``llama``."""
        return self.text("model_type")

    @property
    def architecture(self) -> str:
        """The class name in transformers, such as ``LlamaForCausalLM``."""
        names = self.values.get("architectures")
        return str(names[0]) if isinstance(names, list) and names else "unknown"

    def value(self, key: str) -> Any:
        """Return a value as it stands, None for a missing one; what every getter reads with."""
        return self.values.get(key)

    def text(self, key: str) -> str:
        """Return a non-empty string."""
        value = self.value(key)
        if not isinstance(value, str) or not value:
            raise self._bad(key, value, "a text")
        return value

    def count(self, key: str, default: int | None = None) -> int:
        """Return a positive integer."""
        value = self.value(key)
        if value is None and default is not None:
            return default
        if type(value) is not int or not 0 < value < LARGEST:
            raise self._bad(key, value, "a positive whole number")
        if key in LAYERS and value > MOST_LAYERS:
            raise self._bad(key, value, f"a number of layers up to {MOST_LAYERS}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """Return a finite number."""
        value = self.value(key)
        if value is None and default is not None:
            return default
        if not _finite(value):
            raise self._bad(key, value, "a number")
        return float(value)

    def flag(self, key: str, *, default: bool) -> bool:
        """Return true or false; null is false, as in transformers, not what a missing key is."""
        value = self.value(key)
        if value is None:
            return default and key not in self.values
        if not isinstance(value, bool):
            raise self._bad(key, value, "true or false")
        return value

    @property
    def tied(self) -> bool:
        """Whether embedding and head are one tensor.

        The owner of this setting: its names, and what transformers assumes where it is missing.
        Of a model inside a multimodal one transformers 4 reads its own setting and transformers 5
        the whole one's, so that its weights decide, where they are known.
        """
        said = self.flag("tie_word_embeddings", default=self.model_type not in UNTIED)
        if TEXT in self.values and (index := self._index()):
            return not any(name.endswith(HEAD) for name in index)
        alias = TIED_ALIAS.get(self.model_type)
        return self.flag(alias, default=said) if alias else said

    def _index(self) -> Mapping[str, Tensor]:
        """Return the tensors by their names, none where they are not known."""
        if self.tensors is not None:
            return self.tensors
        folder = self.path.parent
        return read_index(folder) if has_weights(folder) else {}

    def text_model(self) -> Config:
        """Return the settings with those of a text model inside a multimodal one at the top."""
        text = self.values.get(TEXT)
        if not isinstance(text, dict):
            return self
        values = {**self.values, **text, "model_type": self.model_type}
        return Config(values, self.path, self.tensors)

    def bad(self, key: str, wanted: str) -> BadInput:
        """Return the error of a value that is missing or cannot be."""
        return self._bad(key, self.value(key), wanted)

    def _bad(self, key: str, value: object, wanted: str) -> BadInput:
        found = "is missing" if value is None else f"is {value!r}"
        return BadInput(
            f"{self.path}: {key!r} {found}, but {wanted} is needed", "repair the checkpoint"
        )


def _finite(value: object) -> TypeGuard[float]:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return abs(value) <= sys.float_info.max


def read_config(folder: Path) -> Config:
    """Return the settings of a checkpoint folder or a GGUF; BadInput when there are none."""
    if path_kind(folder) == "file":
        return Config({"model_type": GGUF}, folder)
    path = folder / "config.json"
    missing = BadInput(
        f"{folder} is not a checkpoint: it has no config.json",
        "use a Hugging Face model folder or a hub id",
    )
    if (folder / "adapter_config.json").is_file():
        missing = BadInput(
            f"{folder} is a LoRA adapter, not a checkpoint",
            f"convert its base model with: --lora {folder}",
        )
    return Config(reading.read_object(path, missing=missing), path)
