"""Granite 4: Mamba-2 in most layers, attention in the others; dense, or with experts.

Those with attention alone are a Granite 3 to llama.cpp, with or without experts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import inf
from typing import Any

from pitool.architectures.base import Architecture, Wanted
from pitool.architectures.decoder import read_decoder
from pitool.architectures.description import Biases, Description, Experts, Layout, Mamba2
from pitool.architectures.gguf import halves, matrix, tensor
from pitool.architectures.granite import GraniteFile, read_multipliers
from pitool.architectures.qwen3_5 import decay
from pitool.architectures.settings import Settings
from pitool.catalog.model_shape import TensorShape

MAMBA, ATTENTION = "mamba", "attention"
# What transformers 5 calls them.
NEWER = {"linear_attention": MAMBA, "full_attention": ATTENTION}
LAYOUT = replace(
    Layout(),
    gate="",
    up="",
    gate_up="shared_mlp.input_linear",
    down="shared_mlp.output_linear",
    router="block_sparse_moe.router.layer",
    experts_gate_up="block_sparse_moe.input_linear.weight",
    experts_down="block_sparse_moe.output_linear.weight",
)
# No bounds on the steps of Mamba, as versions of transformers write them.
UNLIMITED_STEPS = (None, [0.0, inf], [0.0, {"__float__": "Infinity"}])
# llama.cpp's context of a model whose positions are told by its recurrent layers.
UNLIMITED = 1 << 20


def describe(settings: Settings) -> Description:
    """Return what the settings mean; the rotation is there, though mostly no layer has it."""
    settings.ignore("mamba_chunk_size", "init_method", "head_dim", "time_step_min", "time_step_max")
    if settings.value("time_step_limit") not in UNLIMITED_STEPS:
        raise settings.bad("time_step_limit", "no limit")
    settings.default(shared_intermediate_size=1024, mamba_conv_bias=True)
    settings.only("mamba_conv_bias", wanted=True, what="a convolution without a bias")
    settings.only("mamba_proj_bias", wanted=False, what="a bias in Mamba's projections")
    settings.only("normalization_function", "rmsnorm", "a different norm")
    count = settings.value("num_local_experts")
    experts = None
    if count != 0:
        experts = Experts(
            settings.count("num_local_experts", 8),
            settings.count("num_experts_per_tok", 2),
            settings.count("intermediate_size"),
            shared=True,
        )
    settings.note("num_experts_per_tok", "intermediate_size")
    shared = settings.count("shared_intermediate_size")
    settings.values = {**settings.values, "intermediate_size": shared}
    sizes = settings.sizes()
    named = settings.layer_types([MAMBA] * sizes.layers, (MAMBA, ATTENTION, *NEWER))
    types = [NEWER.get(kind, kind) for kind in named]
    attention = settings.flag("attention_bias", default=False)
    rotated = settings.value("position_embedding_type") == "rope"
    return read_decoder(
        settings,
        **read_multipliers(settings),
        biases=Biases(qkv=attention, output=attention),
        layout=LAYOUT,
        unrotated=frozenset() if rotated else frozenset(range(sizes.layers)),
        recurrence=_mamba(settings, sizes.hidden),
        recurrent=frozenset(i for i, kind in enumerate(types) if kind == MAMBA),
        experts=experts,
    )


def _mamba(settings: Settings, hidden: int) -> Mamba2:
    inner = settings.count("mamba_expand", 2) * hidden
    heads = settings.count("mamba_n_heads", 128)
    named = settings.value("mamba_d_head")
    size = inner // heads if named in (None, "auto") else settings.count("mamba_d_head")
    # transformers 4 normalises all groups together, transformers 5 and llama.cpp each alone.
    settings.only("mamba_n_groups", 1, "Mamba-2 with several groups")
    if heads * size != inner:
        raise settings.error(f"{heads} heads of {size} are not Mamba's {inner} numbers")
    state, taps = settings.count("mamba_d_state", 256), settings.count("mamba_d_conv", 4)
    return Mamba2(heads, size, 1, state, taps)


class GraniteHybridFile(GraniteFile):
    """Granite 3's tensors, and Mamba-2's in other layers."""

    architecture = "granitehybrid"

    def of(self, model: Description) -> GraniteHybridFile:
        """Return a Granite 3, with experts or without, of a model with attention alone."""
        if model.recurrent:
            return self
        return WithExperts() if model.experts else AttentionAlone()

    def check(self, model: Description) -> None:
        """Refuse what llama.cpp's graph of Mamba-2 does not compute."""
        super().check(model)
        net = _net(model)
        if len(model.recurrent) == model.sizes.layers:
            raise model.error(
                "layers of one kind alone are not supported",
                f"choose a checkpoint whose 'layer_types' has {ATTENTION!r}",
            )
        if model.recurrent and net.inner != 2 * model.sizes.hidden:
            raise model.error(
                "Mamba-2 that is not twice as wide as the model is not supported",
                "choose a checkpoint whose 'mamba_expand' is 2",
            )

    def layer(self, i: int, model: Description) -> Iterator[Wanted]:
        """Yield the tensors of one layer."""
        here, there, layout = model.layout.layer.format(i), f"blk.{i}", model.layout
        yield from self.norm(f"{there}.attn_norm", f"{here}{layout.before_attention}", model)
        yield from self.norm(f"{there}.ffn_norm", f"{here}{layout.before_mlp}", model)
        if i in model.recurrent:
            yield from _mamba2(f"{here}mamba", there, model)
        else:
            yield from self.attention(here, there, model)
        if model.experts:
            yield from _experts(here, there, model)
        yield from self.feed_forward(here, there, model)

    def feed_forward(self, here: str, there: str, model: Description) -> Iterator[Wanted]:
        """Yield the MLP, which is one expert more where there are others."""
        sizes, layout = model.sizes, model.layout
        end = "_shexp" if model.experts else ""
        targets = (f"{there}.ffn_gate{end}", f"{there}.ffn_up{end}")
        yield from halves(targets, f"{here}{layout.gate_up}", sizes.feed_forward, sizes.hidden)
        down = (sizes.hidden, sizes.feed_forward)
        yield from matrix(f"{there}.ffn_down{end}", f"{here}{layout.down}", *down)

    def special(self, model: Description) -> dict[str, Any]:
        """Return Granite's keys, Mamba's sizes, and which layers have keys and values."""
        net, sizes = _net(model), model.sizes
        rotated = not model.unrotated
        keys = {
            **super().special(model),
            "attention.head_count_kv": [
                0 if i in model.recurrent else sizes.kv_heads for i in range(sizes.layers)
            ],
            "ssm.conv_kernel": net.taps,
            "ssm.state_size": net.state,
            "ssm.group_count": net.groups,
            "ssm.inner_size": net.inner,
            "ssm.time_step_rank": net.heads,
            "rope.scaling.finetuned": rotated,
        }
        if not rotated:
            keys["context_length"] = UNLIMITED
        if model.experts:
            keys["feed_forward_length"] = model.experts.size
        else:
            keys |= {"expert_count": 0, "expert_used_count": 0}
        return {**keys, "expert_shared_feed_forward_length": sizes.feed_forward}


class AttentionAlone(GraniteHybridFile):
    """A Granite 3."""

    architecture = "granite"


class WithExperts(GraniteHybridFile):
    """A Granite 3 with experts, which llama.cpp always rotates."""

    architecture = "granitemoe"

    def check(self, model: Description) -> None:
        """Refuse layers without positions."""
        super().check(model)
        if model.unrotated:
            raise model.error(
                "attention without positions is not supported beside experts alone",
                "choose a checkpoint whose 'position_embedding_type' is 'rope'",
            )


def _net(model: Description) -> Mamba2:
    assert isinstance(model.recurrence, Mamba2)
    return model.recurrence


def _mamba2(here: str, there: str, model: Description) -> Iterator[Wanted]:
    """Yield the matrices, taps, decays and weights of Mamba-2."""
    net, hidden = _net(model), model.sizes.hidden
    rows = net.inner + net.channels + net.heads
    yield from matrix(f"{there}.ssm_in", f"{here}.in_proj", rows, hidden)
    yield tensor(
        f"{there}.ssm_conv1d.weight",
        f"{here}.conv1d.weight",
        net.channels,
        net.taps,
        transform=lambda rows: rows[:, 0],
        shape=(net.channels, 1, net.taps),
    )
    yield tensor(f"{there}.ssm_conv1d.bias", f"{here}.conv1d.bias", net.channels)
    yield tensor(f"{there}.ssm_dt.bias", f"{here}.dt_bias", net.heads)
    column: dict[str, Any] = {"shape": (net.heads,)}
    yield tensor(f"{there}.ssm_a", f"{here}.A_log", net.heads, 1, function=decay, **column)
    yield tensor(f"{there}.ssm_d", f"{here}.D", net.heads, 1, **column)
    yield tensor(
        f"{there}.ssm_norm.weight", f"{here}.norm.weight", 1, net.inner, shape=(net.inner,)
    )
    yield from matrix(f"{there}.ssm_out", f"{here}.out_proj", hidden, net.inner)


def _experts(here: str, there: str, model: Description) -> Iterator[Wanted]:
    """Yield the router and the experts, of which gate and up lie in one tensor."""
    layout, experts, hidden = model.layout, model.experts, model.sizes.hidden
    assert experts
    count, size = experts.count, experts.size
    router = f"{here}{layout.router}.weight"
    yield tensor(f"{there}.ffn_gate_inp.weight", router, count, hidden)
    for part, half in (("gate", slice(size)), ("up", slice(size, None))):
        yield Wanted(
            TensorShape(f"{there}.ffn_{part}_exps.weight", (count, size, hidden)),
            f"{here}{layout.experts_gate_up}",
            transform=lambda slab, half=half: slab[:, half],  # type: ignore[misc]
            shape=(count, 2 * size, hidden),
        )
    down = f"{here}{layout.experts_down}"
    yield tensor(f"{there}.ffn_down_exps.weight", down, count, hidden, size)


ARCHITECTURE = Architecture("Granite 4 (hybrid, dense and experts)", describe, GraniteHybridFile())
