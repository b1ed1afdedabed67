"""OLMoE: many small experts, and norms over all queries and keys."""

from __future__ import annotations

from pitool.architectures.base import Architecture
from pitool.architectures.decoder import read_biases, read_decoder
from pitool.architectures.description import Description, Experts, Layout
from pitool.architectures.gguf import DecoderFile, check_normalised
from pitool.architectures.settings import Settings

LAYOUT = Layout(query_norm="self_attn.q_norm", key_norm="self_attn.k_norm")


def describe(settings: Settings) -> Description:
    """Return what the settings mean."""
    biases = read_biases(settings)
    return read_decoder(
        settings,
        epsilon=1e-5,
        biases=biases,
        layout=LAYOUT,
        head_norm="all",
        experts=Experts(
            settings.count("num_experts", 64),
            settings.count("num_experts_per_tok", 8),
            settings.count("intermediate_size"),
            normalised=settings.flag("norm_topk_prob", default=False),
        ),
    )


class OlmoeFile(DecoderFile):
    """llama.cpp has as many keys as queries, weights as they come, and a head of its own."""

    architecture = "olmoe"
    headless = False

    def check(self, model: Description) -> None:
        """Refuse fewer keys than queries, and weights that are normalised."""
        super().check(model)
        check_normalised(model, wanted=False)
        if model.sizes.kv_heads != model.sizes.heads:
            raise model.error(
                "fewer key-value heads than heads are not supported",
                f"convert a checkpoint whose 'num_key_value_heads' is {model.sizes.heads}",
            )


ARCHITECTURE = Architecture("OLMoE", describe, OlmoeFile())
