"""StableLM 2 and StableLM 3B: layer norms with biases, partial rotary embedding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from pitool.architectures.base import Architecture, Wanted
from pitool.architectures.decoder import read_decoder
from pitool.architectures.description import Biases, Description, Layout, Norm
from pitool.architectures.gguf import DecoderFile, layer_norm_keys, without_default_theta
from pitool.architectures.rope import read_rope
from pitool.architectures.settings import Settings
from pitool.catalog.model_shape import TensorShape

LAYOUT = Layout()
NORMED = replace(LAYOUT, query_norm="self_attn.q_layernorm", key_norm="self_attn.k_layernorm")


def describe(settings: Settings) -> Description:
    """Return what the settings mean; a layer with parallel branches has a single norm."""
    settings.ignore("rms_norm_eps", "norm_eps", "head_dim")
    sizes = settings.sizes()
    parallel = settings.flag("use_parallel_residual", default=False)
    normed = settings.flag("qk_layernorm", default=False)
    layout = NORMED if normed else LAYOUT
    return read_decoder(
        settings,
        norm=Norm(settings.epsilon("layer_norm_eps", 1e-5), layer=True),
        biases=Biases(qkv=settings.flag("use_qkv_bias", default=False)),
        layout=replace(layout, before_mlp="") if parallel else layout,
        rope=read_rope(settings, sizes.head_dim, share=0.25),
        head_norm="each" if normed else "",
        parallel=parallel,
    )


class StableLMFile(DecoderFile):
    """Stacks the norms of the heads; llama.cpp wants a head even where it is tied."""

    architecture = "stablelm"
    headless = False
    partial = True

    def head_norms(self, here: str, there: str, model: Description) -> Iterator[Wanted]:
        """Yield the norms of queries and keys, one a head."""
        sizes, layout = model.sizes, model.layout
        for part, source, heads in (
            ("q", layout.query_norm, sizes.heads),
            ("k", layout.key_norm, sizes.kv_heads),
        ):
            yield Wanted(
                TensorShape(f"{there}.attn_{part}_norm.weight", (heads, sizes.head_dim)),
                parts=tuple(f"{here}{source}.norms.{n}.weight" for n in range(heads)),
                shape=(sizes.head_dim,),
            )

    def common(self, model: Description) -> dict[str, Any]:
        """Return the common keys, without the epsilon of RMS norms."""
        keys = super().common(model)
        del keys["attention.layer_norm_rms_epsilon"]
        return without_default_theta(keys)

    def special(self, model: Description) -> dict[str, Any]:
        """Return rotated size, epsilon and whether the branches are parallel."""
        return layer_norm_keys(model)


ARCHITECTURE = Architecture("StableLM 2, StableLM 3B", describe, StableLMFile())
