"""Gemma 4, its dense text models (E2B, E4B): each layer takes an embedding of its own besides.

Heads have two sizes, by whether their layer has a window; the last layers borrow keys and values.
Pictures and sound are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import sqrt
from typing import Any

import numpy as np

from pitool.architectures import gemma3
from pitool.architectures.base import Architecture, Wanted
from pitool.architectures.decoder import read_biases, read_decoder
from pitool.architectures.description import Description, LayerInputs, Norm
from pitool.architectures.gguf import DecoderFile, matrix, tensor
from pitool.architectures.rope import Proportional, Rope, rope_table
from pitool.architectures.settings import FULL, SLIDING, Settings
from pitool.architectures.windows import MixedWindows, check_lenders
from pitool.catalog.model_shape import TensorShape
from pitool.checkpoint.config import Config

LAYOUT = replace(gemma3.LAYOUT, scalar="layer_scalar")
PERIOD = 6
# What transformers assumes; the settings inside a multimodal model leave some of it out.
DEFAULTS: dict[str, Any] = {
    "vocab_size": 262144,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 30,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "max_position_embeddings": 131072,
    "sliding_window": 512,
    "hidden_size_per_layer_input": 256,
    "vocab_size_per_layer_input": 262144,
}
ROPES = {
    SLIDING: {"rope_type": "default", "rope_theta": 10_000.0},
    FULL: {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1_000_000.0},
}
# What llama.cpp divides the frequencies of pairs by that are not rotated.
STILL = 1e30


def describe(settings: Settings) -> Description:
    """Return what the settings mean."""
    settings.default(**DEFAULTS)
    settings.only("enable_moe_block", wanted=False, what="a mixture of experts beside the MLP")
    settings.only("attention_k_eq_v", wanted=False, what="attention whose values are its keys")
    if settings.value("use_bidirectional_attention") not in (None, "vision"):
        raise settings.bad("use_bidirectional_attention", "no other direction for texts")
    # Of models with experts, with keys for values, or of one rotation for all layers.
    settings.ignore(
        "num_experts", "top_k_experts", "moe_intermediate_size", "num_global_key_value_heads",
        "rope_theta", "partial_rotary_factor",
    )  # fmt: skip
    layers, local = settings.count("num_hidden_layers"), settings.count("head_dim")
    types = settings.layer_types([SLIDING if (i + 1) % PERIOD else FULL for i in range(layers)])
    settings.values = {**settings.values, "head_dim": _head_dim(settings, types, local)}
    sizes = settings.sizes()
    borrowing = settings.value("num_kv_shared_layers") or 0
    kinds = [set(types[: layers - borrowing]), set(types)]
    if borrowing not in range(layers) or types[-1] != FULL or kinds[0] != kinds[1]:
        raise settings.error("'num_kv_shared_layers' and 'layer_types' do not go together")
    size = settings.value("hidden_size_per_layer_input")
    settings.note("vocab_size_per_layer_input")
    return read_decoder(
        settings,
        biases=read_biases(settings),
        norm=Norm(settings.epsilon("rms_norm_eps", 1e-6)),
        layout=LAYOUT,
        head_norm="head",
        value_norm=True,
        scale=1.0,
        windows=settings.windows(types),
        local_head_dim=local,
        rope=_rope(settings, FULL, sizes.head_dim),
        local_rope=_rope(settings, SLIDING, local),
        activation=settings.activation("hidden_activation", "gelu_pytorch_tanh"),
        embedding_scale=sqrt(sizes.hidden),
        final_softcap=settings.cap("final_logit_softcapping"),
        borrowing=borrowing,
        wide_borrowers=settings.flag("use_double_wide_mlp", default=False),
        layer_inputs=_layer_inputs(settings) if size else None,
    )


def _layer_inputs(settings: Settings) -> LayerInputs:
    return LayerInputs(
        settings.count("hidden_size_per_layer_input"),
        settings.count("vocab_size_per_layer_input"),
    )


def _head_dim(settings: Settings, types: list[str], local: int) -> int:
    """Return the head size of layers without a window, in either of its two places."""
    named = settings.value("per_layer_config")
    if named is None:
        return settings.count("global_head_dim", 512)
    settings.note("global_head_dim")
    if named == {}:
        return local
    found = {
        Config(each, settings.path).count("head_dim", local)
        for key, each in named.items()
        if isinstance(each, dict) and set(each) == {"head_dim"} and types[int(key)] == FULL
    }
    if len(found) != 1 or len(named) != types.count(FULL):
        raise settings.error("'per_layer_config' is not a head size for each full layer")
    return found.pop()


def _rope(settings: Settings, kind: str, dim: int) -> Rope:
    """Return the rotation of a kind of layers."""
    given = settings.value("rope_parameters") or settings.value("rope_scaling")
    table = rope_table(settings, kind) if given else ROPES[kind]
    numbers = Config(table, settings.path)
    name, theta = table.get("rope_type", "default"), numbers.number("rope_theta", 10_000.0)
    known = {"rope_type", "rope_theta", "partial_rotary_factor", "factor"}
    if theta <= 0 or name not in ("default", "proportional") or set(table) - known:
        raise settings.error(
            f"the rotation {table} in 'rope_parameters' or 'rope_scaling' is not supported"
        )
    if name == "default":
        return Rope(theta, dim)
    share, factor = numbers.number("partial_rotary_factor", 1.0), numbers.number("factor", 1.0)
    if not 0 < share <= 1 or factor <= 0:
        raise settings.error(f"the rotation {table} in 'rope_parameters' cannot be")
    return Rope(theta, dim, name, Proportional(int(share * dim // 2), factor))


class Gemma4File(MixedWindows, DecoderFile):
    """llama.cpp divides the frequencies of layers without a window by numbers of a tensor."""

    architecture = "gemma4"
    own_heads = True
    activations = ("gelu_pytorch_tanh",)

    def check_rope(self, model: Description, _rope: Rope) -> None:
        """Refuse a rotation within a window that is not whole."""
        if model.local_rope and model.local_rope.scaling:
            raise model.error(
                f"rope scaling {model.local_rope.kind!r} in sliding-window layers is not supported",
                "convert a checkpoint without it",
            )

    def check_shape(self, model: Description) -> None:
        """Refuse a table of layers' inputs for other tokens than the vocabulary's."""
        super().check_shape(model)
        inputs = model.layer_inputs
        if inputs and inputs.vocabulary != model.sizes.vocabulary:
            raise model.error(
                f"'vocab_size_per_layer_input' {inputs.vocabulary} beside a vocabulary of"
                f" {model.sizes.vocabulary} is not supported",
                "choose a checkpoint in which both are the same",
            )

    def check(self, model: Description) -> None:
        """Refuse to borrow from other layers than llama.cpp does: the last two with their own."""
        super().check(model)
        check_lenders(model)

    def computed(self, model: Description) -> Iterator[Wanted]:
        """Yield the divisors of the rotation, and the tables and matrices of all layers' inputs."""
        assert model.rope
        pairs = model.rope.dim // 2
        scaling = model.rope.scaling
        turning = scaling if isinstance(scaling, Proportional) else Proportional(pairs)
        values = [turning.factor] * turning.pairs + [STILL] * (pairs - turning.pairs)
        yield Wanted(TensorShape("rope_freqs.weight", (pairs,)), value=np.array(values, np.float32))
        yield from input_tables(model)

    def layer(self, i: int, model: Description) -> Iterator[Wanted]:
        """Yield the tensors of one layer; one that borrows has no keys and values."""
        here, there, layout = model.layout.layer.format(i), f"blk.{i}", model.layout
        own = replace(model.sizes, head_dim=model.head_dim(i), feed_forward=model.feed_forward(i))
        each = replace(model, sizes=own)
        borrowed = ("attn_k.", "attn_v.", "attn_k_norm.")
        for want in super().layer(i, each):
            part = want.target.name.removeprefix(f"{there}.")
            if model.lender(i) == i or not part.startswith(borrowed):
                yield want
        yield tensor(f"{there}.layer_output_scale.weight", f"{here}{layout.scalar}", 1)
        yield from input_matrices(here, there, model)

    def special(self, model: Description) -> dict[str, Any]:
        """Return both head sizes, rotations, windows, and who borrows."""
        sizes, inputs = model.sizes, model.layer_inputs
        assert model.local_rope
        layers = range(sizes.layers)
        keys: dict[str, Any] = {
            "attention.key_length": sizes.head_dim,
            "attention.value_length": sizes.head_dim,
            "attention.key_length_swa": model.local_head_dim,
            "attention.value_length_swa": model.local_head_dim,
            "attention.sliding_window": max(model.windows),
            "attention.sliding_window_pattern": [model.windows[i] > 0 for i in layers],
            "attention.shared_kv_layers": model.borrowing,
            "embedding_length_per_layer_input": inputs.size if inputs else 0,
            "rope.freq_base_swa": model.local_rope.theta,
            "rope.dimension_count": sizes.head_dim,
            "rope.dimension_count_swa": model.local_head_dim,
            # llama.cpp caps at 30 where the key is missing.
            "final_logit_softcapping": model.final_softcap,
        }
        if model.wide_borrowers:
            keys["feed_forward_length"] = [model.feed_forward(i) for i in layers]
        return keys


def input_tables(model: Description) -> Iterator[Wanted]:
    """Yield the table and the matrix of all layers' inputs; a table may end before the vocabulary.

    A row of it that is missing is one of zeros, which no text asks for.
    """
    inputs, sizes = model.layer_inputs, model.sizes
    if inputs is None:
        return
    rows = sizes.layers * inputs.size
    yield tensor(
        "per_layer_token_embd.weight",
        "model.embed_tokens_per_layer.weight",
        sizes.vocabulary,
        rows,
        shape=(inputs.vocabulary, rows),
        padding=sizes.vocabulary - inputs.vocabulary,
    )
    yield from matrix(
        "per_layer_model_proj", "model.per_layer_model_projection", rows, sizes.hidden
    )
    yield from matrix("per_layer_proj_norm", "model.per_layer_projection_norm", inputs.size)


def input_matrices(here: str, there: str, model: Description) -> Iterator[Wanted]:
    """Yield what a layer makes of its own input."""
    if inputs := model.layer_inputs:
        size, hidden = inputs.size, model.sizes.hidden
        yield from matrix(f"{there}.inp_gate", f"{here}per_layer_input_gate", size, hidden)
        yield from matrix(f"{there}.proj", f"{here}per_layer_projection", hidden, size)
        yield from matrix(f"{there}.post_norm", f"{here}post_per_layer_input_norm", hidden)


ARCHITECTURE = Architecture("Gemma 4 E2B, E4B (text)", describe, Gemma4File(), transformers=5)
