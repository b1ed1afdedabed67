"""Ministral 3: Mistral with YaRN, and queries that grow beyond the context of the pretraining.

Also the text model of ``mistral3``, which is this one or a Mistral. Pictures are left out.
"""

from __future__ import annotations

from math import isclose, log
from typing import Any

from pitool.architectures import mistral
from pitool.architectures.base import Architecture
from pitool.architectures.decoder import read_decoder
from pitool.architectures.description import Description
from pitool.architectures.rope import ORIGINAL, Rope, Yarn, make_rope, rope_table
from pitool.architectures.settings import Settings

DEFAULTS: dict[str, Any] = {
    "vocab_size": 131072,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 34,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 262144,
}
# What transformers takes where no rotation is named.
ROPE = {
    "rope_type": "yarn",
    "rope_theta": 1000000.0,
    "factor": 16.0,
    ORIGINAL: 16384,
    "mscale_all_dim": 1.0,
    "mscale": 1.0,
    "llama_4_scaling_beta": 0.1,
}
# Of the table of the rotation, and none of its own.
OTHERS = ("llama_4_scaling_beta", "max_position_embeddings")


def describe(settings: Settings) -> Description:
    """Return what the settings mean."""
    inner = settings.value("text_config")
    kind = inner.get("model_type", "mistral") if isinstance(inner, dict) else "ministral3"
    if kind != "ministral3":
        return mistral.describe(settings)
    settings.default(**DEFAULTS)
    layers, head_dim = settings.count("num_hidden_layers"), settings.count("head_dim")
    windowed = settings.value("sliding_window") is not None
    window = settings.count("sliding_window") if windowed else 0
    table = rope_table(settings) or ROPE
    rest = {key: value for key, value in table.items() if key not in OTHERS}
    return read_decoder(
        settings,
        epsilon=1e-5,
        windows=(window,) * layers,
        rope=make_rope(settings, rest, head_dim),
        temperature=_temperature(settings, table),
    )


def _temperature(settings: Settings, table: dict[str, Any]) -> tuple[float, int]:
    beta, original = table.get("llama_4_scaling_beta"), table.get(ORIGINAL)
    if not isinstance(beta, int | float) or type(original) is not int or original < 1:
        raise settings.error(
            f"'rope_parameters' or 'rope_scaling' has no 'llama_4_scaling_beta' or {ORIGINAL!r}"
        )
    return float(beta), original


class Ministral3File(mistral.MistralFile):
    """llama.cpp takes all of YaRN's numbers in this family, and the temperature of attention."""

    architecture = "mistral3"

    def check_rope(self, model: Description, rope: Rope) -> None:
        """Accept YaRN's own numbers; refuse a temperature of attention without it."""
        yarn = rope.scaling
        if not model.temperature:
            super().check_rope(model, rope)
        elif not isinstance(yarn, Yarn):
            raise model.error(
                "queries that grow with the context are not supported without YaRN",
                "choose a checkpoint whose 'rope_type' is 'yarn'",
            )
        elif not yarn.truncate:
            raise model.error(
                "YaRN with a custom 'truncate' is not supported",
                "choose a checkpoint without it",
            )

    def special(self, model: Description) -> dict[str, Any]:
        """Return Llama's keys and the temperature of attention."""
        keys = super().special(model)
        if model.temperature:
            keys["attention.temperature_scale"] = model.temperature[0]
        return keys

    def scaling(self, rope: Rope) -> dict[str, Any]:
        """Return YaRN's keys with the factor of attention as llama.cpp computes it."""
        keys = super().scaling(rope)
        if isinstance(rope.scaling, Yarn) and (share := _log_mul(rope.scaling)):
            keys["yarn_log_multiplier"] = share
        return keys


def _log_mul(yarn: Yarn) -> float:
    """Return the ``mscale_all_dim`` that makes the factor of attention beside an ``mscale`` of 1.

    0 for the usual factor, which needs none.
    """
    growth = 0.1 * log(yarn.factor) if yarn.factor > 1 else 0.0
    if not growth or isclose(yarn.attention, 1 + growth, rel_tol=1e-9):
        return 0.0
    return round(((1 + growth) / yarn.attention - 1) / growth, 9)


ARCHITECTURE = Architecture(
    "Ministral 3, Mistral Small 3 (text)", describe, Ministral3File(), transformers=5
)
