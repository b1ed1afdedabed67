"""gpt-oss: experts in MXFP4, kept bit for bit; sinks in attention, a window in every other layer.

llama.cpp rounds the range of YaRN's dimensions to whole numbers, which the models do not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pitool.architectures.base import Architecture, Wanted
from pitool.architectures.decoder import read_decoder
from pitool.architectures.description import (
    Biases,
    ClampedExperts,
    Description,
    Experts,
    Layout,
)
from pitool.architectures.gguf import head_lengths, tensor
from pitool.architectures.rope import ORIGINAL, Rope, Yarn, default_rope, read_rope
from pitool.architectures.seed_oss import SeedOssFile
from pitool.architectures.settings import FULL, SLIDING, Settings
from pitool.architectures.windows import MixedWindows
from pitool.catalog.model_shape import TensorShape
from pitool.errors import BadInput

LAYOUT = replace(
    Layout(),
    router="mlp.router",
    experts_gate_up="mlp.experts.gate_up_proj",
    experts_down="mlp.experts.down_proj",
    sinks="self_attn.sinks",
)
# What transformers takes where no rotation is named.
ROPE = {
    "rope_type": "yarn",
    "factor": 32.0,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "truncate": False,
    ORIGINAL: 4096,
}
THETA = 150_000.0
DEFAULTS: dict[str, Any] = {
    "head_dim": 64,
    "num_key_value_heads": 8,
    "num_local_experts": 128,
    "num_experts_per_tok": 4,
    "sliding_window": 128,
}


def describe(settings: Settings) -> Description:
    """Return what the settings mean."""
    settings.alias("num_local_experts", "num_experts")
    settings.default(**DEFAULTS)
    default_rope(settings, ROPE)
    # The names of OpenAI's own code beside those of transformers; the experts have one activation.
    settings.ignore("initial_context_length", "experts_per_token", "hidden_act", "mlp_bias")
    # transformers 4 knows these values alone.
    settings.only("swiglu_limit", 7.0, "another bound of the experts")
    settings.only("swiglu_alpha", 1.702, "another sigmoid of the experts")
    sizes = settings.sizes()
    types = settings.layer_types([FULL if i % 2 else SLIDING for i in range(sizes.layers)])
    attention = settings.flag("attention_bias", default=True)
    return read_decoder(
        settings,
        epsilon=1e-5,
        biases=Biases(attention, attention),
        layout=LAYOUT,
        rope=read_rope(settings, sizes.head_dim, theta=THETA),
        windows=settings.windows(types, 128),
        experts=Experts(
            settings.count("num_local_experts"),
            settings.count("num_experts_per_tok"),
            sizes.feed_forward,
            clamped=ClampedExperts(packed=_packed(settings)),
        ),
    )


def _packed(settings: Settings) -> bool:
    """Tell whether the experts are stored in MXFP4; BadInput for any other quantisation."""
    said = settings.value("quantization_config")
    if said is None:
        return False
    if not isinstance(said, dict) or said.get("quant_method") != "mxfp4":
        how = said.get("quant_method") if isinstance(said, dict) else said
        raise BadInput(
            f"{settings.path}: the weights are already quantised ({how})",
            "convert the checkpoint whose experts are in MXFP4, or a float one",
        )
    return not said.get("dequantize")


def sinks(here: str, there: str, model: Description) -> Wanted:
    """Return the sinks of one layer's attention, a number for each head."""
    source = f"{here}{model.layout.sinks}"
    return tensor(f"{there}.attn_sinks.weight", source, model.sizes.heads)


class GptOssFile(MixedWindows, SeedOssFile):
    """llama.cpp calls the norm before the experts as Seed-OSS's, and wants all biases."""

    architecture = "gpt-oss"
    more_biases = True
    headless = False

    def check_shape(self, model: Description) -> None:
        """Refuse attention without biases, which the loader wants."""
        super().check_shape(model)
        if not model.biases.qkv:
            raise model.error(
                "attention without biases is not supported ('attention_bias' is False)",
                "choose a checkpoint whose 'attention_bias' is True",
            )
        experts = model.experts
        assert experts
        assert experts.clamped
        rows = (experts.size, model.sizes.hidden)
        if experts.clamped.packed and any(row % 32 for row in rows):
            raise model.error(
                f"experts of {rows[0]} x {rows[1]} cannot be in blocks of 32", "download it again"
            )

    def check_rope(self, model: Description, rope: Rope) -> None:
        """Accept YaRN whose range of dimensions is not rounded; see ``remark``."""
        if isinstance(rope.scaling, Yarn):
            rope = replace(rope, scaling=replace(rope.scaling, truncate=True))
        super().check_rope(model, rope)

    def remark(self, model: Description) -> str:
        """Return that llama.cpp rounds YaRN's range."""
        scaling = model.rope.scaling if model.rope else None
        if not isinstance(scaling, Yarn) or scaling.truncate:
            return ""
        return (
            "llama.cpp rounds the range in which this model's rotation is stretched, so that no"
            " GGUF of it gives exactly the checkpoint's logits: the certificate says how far they"
            " are apart"
        )

    def attention(self, here: str, there: str, model: Description) -> Iterator[Wanted]:
        """Yield the matrices of attention, and the sinks."""
        yield from super().attention(here, there, model)
        yield sinks(here, there, model)

    def experts(self, here: str, there: str, model: Description) -> Iterator[Wanted]:
        """Yield the router and the experts; rows of gate and up alternate in one tensor."""
        layout, experts, hidden = model.layout, model.experts, model.sizes.hidden
        assert experts
        count, size = experts.count, experts.size
        router = f"{here}{layout.router}"
        yield tensor(f"{there}.ffn_gate_inp.weight", f"{router}.weight", count, hidden)
        yield tensor(f"{there}.ffn_gate_inp.bias", f"{router}.bias", count)
        both, down = f"{here}{layout.experts_gate_up}", f"{here}{layout.experts_down}"
        for part, first in (("gate", 0), ("up", 1)):
            name = f"{there}.ffn_{part}_exps"
            yield self._matrices(name, both, (count, size, hidden), 2, first, model)
            yield Wanted(
                TensorShape(f"{name}.bias", (count, size)),
                f"{both}_bias",
                transform=lambda rows, first=first: rows[:, first::2],  # type: ignore[misc]
                shape=(count, 2 * size),
            )
        name = f"{there}.ffn_down_exps"
        yield self._matrices(name, down, (count, hidden, size), 1, 0, model)
        yield tensor(f"{name}.bias", f"{down}_bias", count, hidden)

    def _matrices(
        self,
        target: str,
        source: str,
        shape: tuple[int, int, int],
        every: int,
        first: int,
        model: Description,
    ) -> Wanted:
        """Return the matrices of all experts, of which a tensor has ``every`` which row."""
        assert model.experts
        assert model.experts.clamped
        packed = model.experts.clamped.packed

        def rows(slab: NDArray[Any]) -> NDArray[Any]:
            turned = slab if packed else slab.swapaxes(1, 2)
            return np.ascontiguousarray(turned[:, first::every])

        count, height, width = shape
        return Wanted(
            TensorShape(f"{target}.weight", shape),
            source,
            transform=rows,
            shape=(count, width, every * height),
        )

    def special(self, model: Description) -> dict[str, Any]:
        """Return the head size, the window, and the size of the experts."""
        assert model.experts
        layers = range(model.sizes.layers)
        keys = {
            **head_lengths(model.sizes.head_dim),
            "attention.sliding_window": max(model.windows),
            "expert_feed_forward_length": model.experts.size,
        }
        usual = [i % 2 == 0 for i in layers]
        if (windowed := [model.windows[i] > 0 for i in layers]) != usual:
            keys["attention.sliding_window_pattern"] = windowed
        return keys


ARCHITECTURE = Architecture("gpt-oss", describe, GptOssFile())
