"""Phi-3, Phi-3.5-mini and Phi-4: fused matrices, LongRoPE, partial rotary embedding."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from pitool.architectures.base import Architecture, Wanted
from pitool.architectures.decoder import read_decoder
from pitool.architectures.description import Description, Layout
from pitool.architectures.gguf import DecoderFile, longrope_divisors
from pitool.architectures.rope import LongRope, Rope, read_rope
from pitool.architectures.settings import Settings
from pitool.catalog.model_shape import CONTEXT_STEP, loaded_within

LAYOUT = Layout(
    query="",
    key="",
    value="",
    qkv="self_attn.qkv_proj",
    gate="",
    up="",
    gate_up="mlp.gate_up_proj",
)
# Older names of LongRoPE, as transformers takes them.
ALIASES = {"su": "longrope", "yarn": "longrope"}


def describe(settings: Settings) -> Description:
    """Return what the settings mean; a missing window is none."""
    settings.default(original_max_position_embeddings=4096)
    settings.only("attention_bias", wanted=False, what="a bias")
    sizes = settings.sizes()
    window = settings.count("sliding_window", 0)
    return read_decoder(
        settings,
        epsilon=1e-5,
        layout=LAYOUT,
        windows=(window,) * sizes.layers,
        rope=read_rope(settings, sizes.head_dim, share=1.0, aliases=ALIASES),
        original_context=settings.count("original_max_position_embeddings"),
    )


class Phi3File(DecoderFile):
    """llama.cpp's graph takes the divisors of LongRoPE as tensors."""

    architecture = "phi3"
    scalings: ClassVar = {"dynamic": DecoderFile.scalings["dynamic"], "longrope": LongRope}
    partial = True

    def check_windows(self, model: Description) -> None:
        """Accept a window, which llama.cpp drops: the context of the GGUF ends with it."""

    def check_rope(self, model: Description, rope: Rope) -> None:
        """Refuse LongRoPE whose short factors llama.cpp never uses."""
        super().check_rope(model, rope)
        short = model.short_context()
        if short and not loaded_within(short):
            raise model.error(
                f"LongRoPE from a context of {short} tokens is not supported in GGUF: llama.cpp"
                f" loads {CONTEXT_STEP} tokens at least, and would take every text for a long one",
                "convert it with --format onnx",
            )

    def computed(self, model: Description) -> Iterator[Wanted]:
        """Yield the divisors of LongRoPE."""
        if model.rope and isinstance(model.rope.scaling, LongRope):
            yield from longrope_divisors(model.rope.scaling)

    def special(self, model: Description) -> dict[str, Any]:
        """Return rotated size, original context and window; 0 for a model without one."""
        assert model.rope
        return {
            "rope.dimension_count": model.rope.dim,
            "rope.scaling.original_context_length": model.original_context,
            "attention.sliding_window": max(model.windows),
        }

    def scaling(self, rope: Rope) -> dict[str, Any]:
        """Return the attention factor of LongRoPE."""
        return {"attn_factor": rope.scaling.attention} if isinstance(rope.scaling, LongRope) else {}


ARCHITECTURE = Architecture("Phi-3, Phi-3.5-mini, Phi-4", describe, Phi3File())
