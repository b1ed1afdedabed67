"""LFM2 with a mixture of experts behind its first layers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pitool.architectures.base import Architecture
from pitool.architectures.description import Description, Experts
from pitool.architectures.gguf import check_normalised
from pitool.architectures.lfm2 import LAYOUT as DENSE
from pitool.architectures.lfm2 import Lfm2File, read_hybrid
from pitool.architectures.settings import FULL, Settings

LAYOUT = replace(
    DENSE,
    router="feed_forward.gate",
    router_bias="feed_forward.expert_bias",
    expert="feed_forward.experts.{}.",
    expert_gate="w1",
    expert_up="w3",
    expert_down="w2",
)
# llama.cpp's number for scores that are the sigmoid of each.
SIGMOID = 2


def describe(settings: Settings) -> Description:
    """Return what the settings mean."""
    settings.default(num_key_value_heads=8, moe_intermediate_size=1792, use_expert_bias=True)
    settings.only("routed_scaling_factor", 1.0, "a factor on the experts' results")
    sizes = settings.sizes()
    if settings.value("layer_types") is None:
        raise settings.bad("layer_types", "a list")
    dense = settings.value("num_dense_layers")
    return read_hybrid(
        settings,
        [FULL] * sizes.layers,
        layout=LAYOUT,
        experts=Experts(
            settings.count("num_experts", 32),
            settings.count("num_experts_per_tok", 4),
            settings.count("moe_intermediate_size"),
            dense=0 if dense == 0 else settings.count("num_dense_layers", 2),
            sigmoid=True,
            normalised=settings.flag("norm_topk_prob", default=True),
            biased=settings.flag("use_expert_bias", default=True),
        ),
    )


class Lfm2MoeFile(Lfm2File):
    """llama.cpp always normalises the weights of the experts, and adds a bias for their choice."""

    architecture = "lfm2moe"

    def check(self, model: Description) -> None:
        """Refuse weights as they come, and experts that are chosen by their scores alone."""
        super().check(model)
        check_normalised(model, wanted=True)
        assert model.experts
        if not model.experts.biased:
            raise model.error(
                "routing without a bias is not supported ('use_expert_bias' is False)",
                "choose a checkpoint whose 'use_expert_bias' is True",
            )

    def special(self, model: Description) -> dict[str, Any]:
        """Return LFM2's keys and those of the experts."""
        experts = model.experts
        assert experts
        return {
            **super().special(model),
            "expert_feed_forward_length": experts.size,
            "leading_dense_block_count": experts.dense,
            "expert_gating_func": SIGMOID,
        }


ARCHITECTURE = Architecture("LFM2 with experts", describe, Lfm2MoeFile(), transformers=5)
