"""Gemma 3, its text model: norms on queries and keys, five layers of six with a window."""

from __future__ import annotations

from typing import Any, ClassVar

from pitool.checkpoint.config import Config
from pitool.convert.gguf.families.base import Layers, Sizes, Wanted, read_sizes, refuse
from pitool.convert.gguf.families.decoder import GEMMA_NORMS, Decoder, head_lengths
from pitool.errors import BadInput

PERIOD = 6


class Gemma3(Decoder):
    """``model_type`` gemma3_text, and gemma3 without its vision part.

    transformers' norms multiply by one plus the stored weight.
    """

    architecture = "gemma3"
    norms = GEMMA_NORMS
    norm_shift = 1.0
    activation = ("gelu_pytorch_tanh",)
    activation_key = "hidden_activation"
    defaults: ClassVar = {
        "tie_word_embeddings": True,
        "vocab_size": 262208,
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "max_position_embeddings": 131072,
        "query_pre_attn_scalar": 256,
        "sliding_window": 4096,
        "rope_theta": 1_000_000.0,
        "rope_local_base_freq": 10_000.0,
    }
    # llama.cpp's loader knows the size that scales its scores otherwise (27B) by its layers.
    largest = 62

    def layers(self, config: Config) -> Layers:
        """Return the windows: every sixth layer sees all."""
        config = self.settings(config)
        window, count = config.count("sliding_window"), config.count("num_hidden_layers")
        return Layers(windows=tuple(0 if (i + 1) % PERIOD == 0 else window for i in range(count)))

    def qk_norms(self, sizes: Sizes) -> tuple[int, int]:
        """Return one norm a head."""
        return sizes.head_dim, sizes.head_dim

    def wanted(self, config: Config) -> list[Wanted]:
        """Return every tensor; BadInput for what llama.cpp's graph does otherwise."""
        settings = self.settings(config)
        if settings.count("num_hidden_layers") != self.largest:
            scale = settings.count("head_dim")
            refuse(settings, "query_pre_attn_scalar", scale, "another scale of scores")
        for key in ("sliding_window_pattern", "_sliding_window_pattern"):
            refuse(settings, key, PERIOD, "another pattern of windows")
        refuse(settings, "attn_logit_softcapping", None, "a soft cap on scores")
        kinds = settings.values.get("layer_types")
        windows = [bool(w) for w in self.layers(settings).windows]
        if kinds and [kind == "sliding_attention" for kind in kinds] != windows:
            raise BadInput(
                f"{config.path}: another pattern of windows is not supported",
                "convert a checkpoint in which every sixth layer sees all",
            )
        return super().wanted(config)

    def special(self, config: Config) -> dict[str, Any]:
        """Return head size, window and the base of the rotation within a window."""
        cap = config.values.get("final_logit_softcapping")
        return {
            **head_lengths(read_sizes(config).head_dim),
            "attention.sliding_window": config.count("sliding_window"),
            "rope.freq_base_swa": config.local_theta(config.number("rope_local_base_freq")),
            **({"final_logit_softcapping": float(cap)} if cap else {}),
        }


FAMILY = Gemma3()
