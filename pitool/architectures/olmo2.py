"""OLMo 2: norms after attention and MLP instead of before, and over all queries and keys."""

from __future__ import annotations

from pitool.architectures.base import Architecture
from pitool.architectures.decoder import read_biases, read_decoder
from pitool.architectures.description import Description, Layout
from pitool.architectures.gguf import DecoderFile
from pitool.architectures.settings import Settings

LAYOUT = Layout(
    before_attention="",
    after_attention="post_attention_layernorm",
    before_mlp="",
    after_mlp="post_feedforward_layernorm",
    query_norm="self_attn.q_norm",
    key_norm="self_attn.k_norm",
)


def describe(settings: Settings) -> Description:
    """Return what the settings mean."""
    biases = read_biases(settings)
    return read_decoder(settings, epsilon=1e-5, biases=biases, layout=LAYOUT, head_norm="all")


class Olmo2File(DecoderFile):
    """llama.cpp wants a head even where it is tied."""

    architecture = "olmo2"
    headless = False


ARCHITECTURE = Architecture("OLMo 2", describe, Olmo2File())
