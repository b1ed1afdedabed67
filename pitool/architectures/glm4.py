"""GLM-4 (0414): norms around attention and MLP, and half of each head is rotated by neighbours."""

from __future__ import annotations

from typing import Any

from pitool.architectures.base import Architecture
from pitool.architectures.decoder import read_decoder
from pitool.architectures.description import Biases, Description, Layout
from pitool.architectures.gguf import DecoderFile, head_lengths
from pitool.architectures.rope import read_rope
from pitool.architectures.settings import Settings

LAYOUT = Layout(
    after_attention="post_self_attn_layernorm",
    before_mlp="post_attention_layernorm",
    after_mlp="post_mlp_layernorm",
    gate="",
    up="",
    gate_up="mlp.gate_up_proj",
)


def describe(settings: Settings) -> Description:
    """Return what the settings mean."""
    settings.default(head_dim=128, num_key_value_heads=2)
    sizes = settings.sizes()
    return read_decoder(
        settings,
        epsilon=0.00000015625,
        biases=Biases(qkv=settings.flag("attention_bias", default=True)),
        layout=LAYOUT,
        rope=read_rope(settings, sizes.head_dim, share=0.5),
        neighbours=True,
    )


class Glm4File(DecoderFile):
    """llama.cpp rotates neighbours, and takes gate and up in one matrix."""

    architecture = "glm4"
    own_heads = True
    partial = True

    def special(self, model: Description) -> dict[str, Any]:
        """Return head size and rotated size."""
        assert model.rope
        return {**head_lengths(model.sizes.head_dim), "rope.dimension_count": model.rope.dim}


ARCHITECTURE = Architecture("GLM-4 (0414)", describe, Glm4File())
