"""Qwen3 with a mixture of experts in every layer."""

from __future__ import annotations

from typing import Any

from pitool.architectures.base import Architecture
from pitool.architectures.decoder import read_biases, read_decoder
from pitool.architectures.description import Description, Experts
from pitool.architectures.gguf import check_normalised
from pitool.architectures.qwen3 import LAYOUT, Qwen3File
from pitool.architectures.settings import Settings
from pitool.errors import BadInput


def describe(settings: Settings) -> Description:
    """Return what the settings mean; BadInput for dense layers among the others."""
    settings.alias("num_experts", "num_local_experts")  # transformers 5 saves it so
    settings.default(
        head_dim=128,
        norm_topk_prob=False,
        num_experts=128,
        num_experts_per_tok=8,
        moe_intermediate_size=768,
    )
    settings.only("decoder_sparse_step", 1, "a dense layer")
    if settings.value("mlp_only_layers"):
        raise BadInput(
            f"{settings.path}: layers without experts are not supported",
            "convert a checkpoint without 'mlp_only_layers'",
        )
    layers = settings.count("num_hidden_layers")
    settings.ignore("max_window_layers")
    size = settings.count("sliding_window", 4096)
    window = size if settings.flag("use_sliding_window", default=False) else 0
    experts = Experts(
        settings.count("num_experts"),
        settings.count("num_experts_per_tok"),
        settings.count("moe_intermediate_size"),
        normalised=settings.flag("norm_topk_prob", default=False),
    )
    return read_decoder(
        settings,
        biases=read_biases(settings),
        windows=(window,) * layers,
        layout=LAYOUT,
        head_norm="head",
        experts=experts,
    )


class Qwen3MoeFile(Qwen3File):
    """llama.cpp always normalises the weights of the experts that are used."""

    architecture = "qwen3moe"

    def check(self, model: Description) -> None:
        """Refuse weights as they come."""
        super().check(model)
        check_normalised(model, wanted=True)

    def special(self, model: Description) -> dict[str, Any]:
        """Return Qwen3's keys and the size of the experts."""
        assert model.experts
        return {**super().special(model), "expert_feed_forward_length": model.experts.size}


ARCHITECTURE = Architecture("Qwen3 with experts", describe, Qwen3MoeFile())
