"""Gemma 2: four norms a layer, soft caps on scores and logits, every other layer with a window."""

from __future__ import annotations

from typing import Any, ClassVar

from pitool.checkpoint.config import Config
from pitool.convert.gguf.families.base import Layers, Wanted, read_sizes, refuse
from pitool.convert.gguf.families.decoder import GEMMA_NORMS, Decoder, head_lengths


class Gemma2(Decoder):
    """``model_type`` gemma2. transformers' norms multiply by one plus the stored weight."""

    architecture = "gemma2"
    norms = GEMMA_NORMS
    norm_shift = 1.0
    activation = ("gelu_pytorch_tanh",)
    activation_key = "hidden_activation"
    defaults: ClassVar = {
        "tie_word_embeddings": True,
        "head_dim": 256,
        "query_pre_attn_scalar": 256,
        "sliding_window": 4096,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
    }
    # llama.cpp's loader knows the size that scales its scores otherwise by its layers.
    largest = 46

    def layers(self, config: Config) -> Layers:
        """Return the window of the even layers."""
        config = self.settings(config)
        window = config.count("sliding_window")
        count = config.count("num_hidden_layers")
        return Layers(windows=tuple(0 if i % 2 else window for i in range(count)))

    def wanted(self, config: Config) -> list[Wanted]:
        """Return every tensor; BadInput for a scale of the scores that llama.cpp does not use."""
        settings = self.settings(config)
        if settings.count("num_hidden_layers") != self.largest:
            scale = settings.count("head_dim")
            refuse(settings, "query_pre_attn_scalar", scale, "another scale of scores")
        return super().wanted(config)

    def common(self, config: Config, sizes: Any) -> dict[str, Any]:
        """Return the common keys; the loader knows the base of the rotation."""
        keys = super().common(config, sizes)
        if keys["rope.freq_base"] == 10000.0:
            del keys["rope.freq_base"]
        return keys

    def special(self, config: Config) -> dict[str, Any]:
        """Return head size, soft caps and window."""
        return {
            **head_lengths(read_sizes(config).head_dim),
            "attn_logit_softcapping": config.number("attn_logit_softcapping"),
            "final_logit_softcapping": config.number("final_logit_softcapping"),
            "attention.sliding_window": config.count("sliding_window"),
        }


FAMILY = Gemma2()
