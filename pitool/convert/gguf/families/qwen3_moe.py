"""Qwen3 with a mixture of experts in every layer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from pitool.catalog.model_shape import TensorShape
from pitool.checkpoint.config import Config
from pitool.convert.gguf.families.base import Layers, Sizes, Wanted, refuse
from pitool.convert.gguf.families.decoder import tensor
from pitool.convert.gguf.families.qwen3 import Qwen3
from pitool.errors import BadInput


class Qwen3Moe(Qwen3):
    """``model_type`` qwen3_moe."""

    architecture = "qwen3moe"
    defaults: ClassVar = {
        "norm_topk_prob": False,
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "moe_intermediate_size": 768,
        "head_dim": 128,
    }

    def layers(self, config: Config) -> Layers:
        """Return the counts of experts."""
        config = self.settings(config)
        return Layers(
            experts=config.count("num_experts"), experts_used=config.count("num_experts_per_tok")
        )

    def wanted(self, config: Config) -> list[Wanted]:
        """Return every tensor; BadInput for layers without experts, which llama.cpp lacks."""
        settings = self.settings(config)
        refuse(settings, "norm_topk_prob", wanted=True, what="routing without normalised weights")
        refuse(config, "decoder_sparse_step", 1, "a dense layer")
        if config.values.get("mlp_only_layers"):
            raise BadInput(
                f"{config.path}: layers without experts are not supported",
                "convert a checkpoint without 'mlp_only_layers'",
            )
        return super().wanted(config)

    def feed_forward(self, here: str, there: str, config: Config, sizes: Sizes) -> Iterator[Wanted]:
        """Yield the router and the experts, stacked."""
        experts, size = config.count("num_experts"), config.count("moe_intermediate_size")
        yield tensor(f"{there}.ffn_gate_inp.weight", f"{here}.gate.weight", experts, sizes.hidden)
        wide, narrow = (size, sizes.hidden), (sizes.hidden, size)
        for part, shape in (("gate", wide), ("up", wide), ("down", narrow)):
            yield Wanted(
                TensorShape(f"{there}.ffn_{part}_exps.weight", (experts, *shape)),
                parts=tuple(f"{here}.experts.{n}.{part}_proj.weight" for n in range(experts)),
                shape=shape,
            )

    def special(self, config: Config) -> dict[str, Any]:
        """Return Qwen3's keys and those of the experts."""
        return {
            **super().special(config),
            "expert_count": config.count("num_experts"),
            "expert_used_count": config.count("num_experts_per_tok"),
            "expert_feed_forward_length": config.count("moe_intermediate_size"),
        }


FAMILY = Qwen3Moe()
