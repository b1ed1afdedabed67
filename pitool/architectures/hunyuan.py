"""Hunyuan (dense): norms on queries and keys after their rotation, whose base is stretched."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pitool.architectures.base import Architecture
from pitool.architectures.decoder import read_decoder
from pitool.architectures.description import Biases, Description, Layout
from pitool.architectures.gguf import DecoderFile, head_lengths
from pitool.architectures.rope import Rope, make_rope, rope_table
from pitool.architectures.settings import Settings
from pitool.checkpoint.config import Config

LAYOUT = Layout(query_norm="self_attn.query_layernorm", key_norm="self_attn.key_layernorm")
ALPHA = "alpha"
# The context that the base is stretched for, by its makers' report; the settings say less.
STRETCHED = 256 * 1024


def describe(settings: Settings) -> Description:
    """Return what the settings mean."""
    sizes = settings.sizes()
    bias = settings.flag("attention_bias", default=False)
    return read_decoder(
        settings,
        epsilon=1e-5,
        biases=Biases(bias, bias),
        layout=LAYOUT,
        head_norm="head",
        late_norm=True,
        rope=_rope(settings, sizes.head_dim),
    )


def _rope(settings: Settings, head_dim: int) -> Rope:
    """Return the rotation, its base stretched by ``alpha`` where the scaling is dynamic."""
    table = rope_table(settings)
    rest = {key: value for key, value in table.items() if key != ALPHA}
    rope = make_rope(settings, rest, head_dim)
    if rope.kind != "dynamic":
        return rope
    alpha = Config(table, settings.path).number(ALPHA)
    if alpha < 0:
        raise settings.error(f"rope scaling has {ALPHA!r} {alpha}")
    if alpha == 0:
        return rope
    theta = rope.theta * alpha ** (head_dim / (head_dim - 2))
    return replace(rope, theta=theta, scaling=None)


class HunyuanFile(DecoderFile):
    """llama.cpp is told the base as it is stretched."""

    architecture = "hunyuan-dense"
    own_heads = True

    def special(self, model: Description) -> dict[str, Any]:
        """Return the head size, and the context of a stretched base."""
        keys = head_lengths(model.sizes.head_dim)
        if _stretched(model.rope):
            keys["context_length"] = STRETCHED
        return keys

    def scaling(self, rope: Rope) -> dict[str, Any]:
        """Return no scaling of a base that is stretched."""
        if not _stretched(rope):
            return super().scaling(rope)
        return {"type": "none", "factor": 1.0, "original_context_length": STRETCHED}


def _stretched(rope: Rope | None) -> bool:
    return rope is not None and rope.kind == "dynamic" and rope.scaling is None


ARCHITECTURE = Architecture("Hunyuan (dense)", describe, HunyuanFile())
