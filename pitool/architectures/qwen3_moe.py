"""Qwen3 with a mixture of experts in every layer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pitool.architectures.base import Architecture, Wanted
from pitool.architectures.decoder import read_biases, read_decoder
from pitool.architectures.description import Description, Experts
from pitool.architectures.gguf import tensor
from pitool.architectures.qwen3 import LAYOUT, Qwen3File
from pitool.architectures.settings import Settings
from pitool.catalog.model_shape import TensorShape
from pitool.errors import BadInput


def describe(settings: Settings) -> Description:
    """Return what the settings mean; BadInput for what no reader of ours computes."""
    settings.default(
        head_dim=128,
        norm_topk_prob=False,
        num_experts=128,
        num_experts_per_tok=8,
        moe_intermediate_size=768,
    )
    settings.only("norm_topk_prob", wanted=True, what="routing without normalised weights")
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
    """Stacks the experts of a layer, and adds their router."""

    architecture = "qwen3moe"

    def feed_forward(self, here: str, there: str, model: Description) -> Iterator[Wanted]:
        """Yield the router and the experts, stacked."""
        assert model.experts
        count, size, hidden = model.experts.count, model.experts.size, model.sizes.hidden
        yield tensor(f"{there}.ffn_gate_inp.weight", f"{here}mlp.gate.weight", count, hidden)
        wide, narrow = (size, hidden), (hidden, size)
        for part, shape in (("gate", wide), ("up", wide), ("down", narrow)):
            yield Wanted(
                TensorShape(f"{there}.ffn_{part}_exps.weight", (count, *shape)),
                parts=tuple(f"{here}mlp.experts.{n}.{part}_proj.weight" for n in range(count)),
                shape=shape,
            )

    def special(self, model: Description) -> dict[str, Any]:
        """Return Qwen3's keys and those of the experts."""
        assert model.experts
        return {
            **super().special(model),
            "expert_count": model.experts.count,
            "expert_used_count": model.experts.used,
            "expert_feed_forward_length": model.experts.size,
        }


ARCHITECTURE = Architecture("Qwen3 with experts", describe, Qwen3MoeFile())
