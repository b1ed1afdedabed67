"""Qwen3.5, its text model: a gated delta rule in three layers of four, gated attention in one.

The layer that predicts a further token is kept in the GGUF where the checkpoint has it; llama.cpp
drafts with it if it is asked to. Pictures are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pitool.architectures.base import Architecture, Transform, Wanted
from pitool.architectures.decoder import read_decoder
from pitool.architectures.description import Biases, DeltaNet, Description, Layout, Norm
from pitool.architectures.gguf import DecoderFile, head_lengths, matrix, tensor
from pitool.architectures.rope import Rope, make_rope, rope_table
from pitool.architectures.settings import FULL, Settings

LINEAR = "linear_attention"
LAYOUT = Layout(query_norm="self_attn.q_norm", key_norm="self_attn.k_norm", predictor="mtp.fc")
# What transformers assumes; the settings inside a multimodal model leave some of it out.
DEFAULTS: dict[str, Any] = {
    "vocab_size": 248320,
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "max_position_embeddings": 32768,
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
}
SECTIONS = (11, 11, 10)
# The epsilon of the keys' and queries' norm in the delta rule, whatever that of other norms.
DELTA_EPSILON = 1e-6


def describe(settings: Settings) -> Description:
    """Return what the settings mean; norms multiply by one plus the stored weight."""
    settings.default(**DEFAULTS)
    # Of other code: transformers gates always, keeps states in float32, and predicts nothing.
    settings.only("attn_output_gate", wanted=True, what="attention without output gates")
    settings.only("mtp_use_dedicated_embeddings", wanted=False, what="an embedding of its own")
    settings.ignore("mamba_ssm_dtype")
    layers, head_dim = settings.count("num_hidden_layers"), settings.count("head_dim")
    every = settings.count("full_attention_interval", 4)
    default = [LINEAR if (i + 1) % every else FULL for i in range(layers)]
    types = settings.layer_types(default, (FULL, LINEAR))
    attention = settings.flag("attention_bias", default=False)
    table = rope_table(settings)
    return read_decoder(
        settings,
        norm=Norm(settings.epsilon("rms_norm_eps", 1e-6), offset=1.0),
        biases=Biases(qkv=attention, output=attention),
        layout=LAYOUT,
        head_norm="head",
        output_gate=True,
        own_head_dim=True,
        rope=_rope(settings, table, head_dim),
        sections=_sections(settings, table),
        recurrence=_delta_net(settings),
        recurrent=frozenset(i for i, kind in enumerate(types) if kind == LINEAR),
        predictors=_predictors(settings),
    )


def _rope(settings: Settings, table: dict[str, Any], head_dim: int) -> Rope:
    own = ("mrope_section", "mrope_interleaved")
    rest = {key: value for key, value in table.items() if key not in own}
    return make_rope(settings, rest, head_dim, share=0.25)


def _sections(settings: Settings, table: dict[str, Any]) -> tuple[int, ...]:
    """Return the pairs for time, height and width; a text is rotated the same by any."""
    sections = table.get("mrope_section") or SECTIONS
    if len(sections) != 3 or any(type(n) is not int or n < 0 for n in sections):
        raise settings.error("'mrope_section' does not list three numbers")
    return tuple(sections)


def _predictors(settings: Settings) -> int:
    value = settings.value("mtp_num_hidden_layers")
    return settings.count("mtp_num_hidden_layers") if value else 0


def _delta_net(settings: Settings) -> DeltaNet:
    found = DeltaNet(
        key_heads=settings.count("linear_num_key_heads"),
        value_heads=settings.count("linear_num_value_heads"),
        key_dim=settings.count("linear_key_head_dim"),
        value_dim=settings.count("linear_value_head_dim"),
        taps=settings.count("linear_conv_kernel_dim"),
    )
    if found.value_heads % found.key_heads:
        raise settings.error(
            f"{found.value_heads} value heads cannot be divided among {found.key_heads} key heads"
        )
    return found


class Qwen35File(DecoderFile):
    """llama.cpp repeats key heads side by side, so that value heads are reordered."""

    architecture = "qwen35"
    own_heads = True
    partial = True

    def check(self, model: Description) -> None:
        """Refuse what llama.cpp's graph of the delta rule and of the rotation does not compute."""
        super().check(model)
        net = _net(model)
        if net.key_dim != net.value_dim:
            raise model.error(
                "keys and values of two sizes in linear attention are not supported",
                f"choose a checkpoint whose 'linear_value_head_dim' is {net.key_dim}",
            )
        if model.norm.epsilon != DELTA_EPSILON:
            raise model.error(
                f"'rms_norm_eps' {model.norm.epsilon:g} is not supported in linear attention",
                f"choose a checkpoint whose 'rms_norm_eps' is {DELTA_EPSILON:g}",
            )
        if len(model.recurrent) in (0, model.sizes.layers):
            raise model.error(
                "layers of one kind alone are not supported",
                f"choose a checkpoint whose 'layer_types' has {LINEAR!r} and {FULL!r}",
            )
        assert model.rope
        pairs = range(model.rope.dim // 2)
        whole = sum(model.sections)
        covered = all(i < 3 * model.sections[i % 3] and i < whole for i in pairs)
        if not covered or whole > model.sizes.head_dim:
            raise model.error(
                f"'mrope_section' {list(model.sections)} is not supported for {len(pairs)} rotated"
                f" pairs in a head of {model.sizes.head_dim}",
                "choose a checkpoint whose 'mrope_section' adds up to the pairs",
            )

    def wanted(self, model: Description) -> list[Wanted]:
        """Return every tensor, those of the layers that predict further tokens at the end."""
        after = range(model.predictors)
        return [
            *super().wanted(model),
            *(want for i in after for want in _predictor(self, i, model)),
        ]

    def layer(self, i: int, model: Description) -> Iterator[Wanted]:
        """Yield the tensors of one layer."""
        yield from self.block(model.layout.layer.format(i), f"blk.{i}", model, i in model.recurrent)

    def block(self, here: str, there: str, model: Description, recurrent: bool) -> Iterator[Wanted]:
        """Yield the tensors of a layer by the beginnings of their names."""
        layout = model.layout
        yield from self.norm(f"{there}.attn_norm", f"{here}{layout.before_attention}", model)
        yield from self.norm(f"{there}.post_attention_norm", f"{here}{layout.before_mlp}", model)
        if recurrent:
            yield from _linear_attention(f"{here}linear_attn", there, model)
        else:
            yield from self.attention(here, there, model)
        yield from self.feed_forward(here, there, model)

    def special(self, model: Description) -> dict[str, Any]:
        """Return sizes of heads, of the delta rule and of the rotation, and the kinds of layers."""
        sizes, net = model.sizes, _net(model)
        assert model.rope
        all_layers = range(sizes.layers + model.predictors)
        full = set(range(sizes.layers)) - model.recurrent
        keys = {
            "block_count": len(all_layers),
            **head_lengths(sizes.head_dim),
            "rope.dimension_sections": [*model.sections, 0],
            "rope.dimension_count": model.rope.dim,
            "ssm.conv_kernel": net.taps,
            "ssm.state_size": net.key_dim,
            "ssm.group_count": net.key_heads,
            "ssm.time_step_rank": net.value_heads,
            "ssm.inner_size": net.values,
            "attention.recurrent_layers": [i in model.recurrent for i in all_layers],
            "full_attention_interval": 1 + min(full, default=3),
        }
        return {**keys, "nextn_predict_layers": model.predictors} if model.predictors else keys


def _net(model: Description) -> DeltaNet:
    assert isinstance(model.recurrence, DeltaNet)
    return model.recurrence


def _order(net: DeltaNet, size: int, before: int = 0) -> NDArray[np.intp] | None:
    """Return the order of the rows of value heads of ``size`` behind ``before`` other rows.

    From those of one key head together to the first of each key head together.
    """
    if net.value_heads == net.key_heads:
        return None
    rows = np.arange(net.value_heads * size).reshape(net.key_heads, -1, size)
    return np.concatenate([np.arange(before), before + rows.swapaxes(0, 1).reshape(-1)])


def _reordered(order: NDArray[np.intp] | None) -> dict[str, Any]:
    """Return the details of a tensor whose rows have another order in the GGUF."""
    if order is None:
        return {}

    def transform(rows: NDArray[Any]) -> NDArray[Any]:
        return rows[order]

    return {"transform": transform, "rows": len(order)}


def _flat(order: NDArray[np.intp] | None) -> Transform:
    """Return the transform of a convolution's taps to a matrix, channels reordered."""
    return lambda rows: (rows if order is None else rows[order])[:, 0]


def _linear_attention(here: str, there: str, model: Description) -> Iterator[Wanted]:
    """Yield the matrices, taps and decays of the gated delta rule."""
    net, hidden = _net(model), model.sizes.hidden
    channels, heads = 2 * net.keys + net.values, net.value_heads
    mixed = _order(net, net.value_dim, 2 * net.keys)
    of_heads, of_values = _reordered(_order(net, 1)), _order(net, net.value_dim)
    for part, source, rows, details in (
        ("attn_qkv", "in_proj_qkv", channels, _reordered(mixed)),
        ("attn_gate", "in_proj_z", net.values, _reordered(of_values)),
        ("ssm_alpha", "in_proj_a", heads, of_heads),
        ("ssm_beta", "in_proj_b", heads, of_heads),
    ):
        yield from matrix(f"{there}.{part}", f"{here}.{source}", rows, hidden, **details)
    yield tensor(
        f"{there}.ssm_conv1d.weight",
        f"{here}.conv1d.weight",
        channels,
        net.taps,
        transform=_flat(mixed),
        rows=1 if mixed is None else channels,
        shape=(channels, 1, net.taps),
    )
    yield tensor(f"{there}.ssm_dt.bias", f"{here}.dt_bias", heads, **of_heads)
    yield tensor(f"{there}.ssm_a", f"{here}.A_log", heads, function=decay, **of_heads)
    yield tensor(f"{there}.ssm_norm.weight", f"{here}.norm.weight", net.value_dim)
    yield tensor(
        f"{there}.ssm_out.weight", f"{here}.out_proj.weight", hidden, net.values, columns=of_values
    )


def decay(logarithms: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the decay of each head from its logarithm."""
    return -np.exp(logarithms.astype(np.float64)).astype(np.float32)


def _predictor(file: Qwen35File, i: int, model: Description) -> Iterator[Wanted]:
    """Yield a layer that predicts a further token, and what it takes hidden state and token by."""
    hidden, there = model.sizes.hidden, f"blk.{model.sizes.layers + i}"
    yield from file.block(f"mtp.layers.{i}.", there, model, recurrent=False)
    if i:
        return
    yield from matrix(f"{there}.nextn.eh_proj", model.layout.predictor, hidden, 2 * hidden)
    for part, source in (
        ("enorm", "pre_fc_norm_embedding"),
        ("hnorm", "pre_fc_norm_hidden"),
        ("shared_head_norm", "norm"),
    ):
        yield from file.norm(f"{there}.nextn.{part}", f"mtp.{source}", model)


ARCHITECTURE = Architecture("Qwen3.5 (text)", describe, Qwen35File(), transformers=5)
