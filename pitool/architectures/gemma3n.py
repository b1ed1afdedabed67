"""Gemma 3n, its text model: AltUp, Laurel, inputs of each layer, and a gate that is mostly cut off.

The last layers borrow keys and values. Pictures and sound are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import inf, sqrt
from statistics import NormalDist
from typing import Any

from pitool.architectures import gemma3
from pitool.architectures.base import Architecture, Wanted
from pitool.architectures.decoder import read_biases, read_decoder
from pitool.architectures.description import AltUp, Description, LayerInputs, Norm
from pitool.architectures.gemma3 import check_scaling, local_rope
from pitool.architectures.gemma4 import input_matrices, input_tables
from pitool.architectures.gguf import DecoderFile, head_lengths, matrix, tensor
from pitool.architectures.rope import read_rope
from pitool.architectures.settings import FULL, SLIDING, Settings
from pitool.architectures.windows import MixedWindows, check_lenders
from pitool.catalog.model_shape import TensorShape

PERIOD = 5
# What transformers assumes.
DEFAULTS: dict[str, Any] = {
    "vocab_size": 262400,
    "hidden_size": 2048,
    "intermediate_size": 16384,
    "num_hidden_layers": 35,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 256,
    "max_position_embeddings": 32768,
    "sliding_window": 512,
    "hidden_size_per_layer_input": 256,
    "vocab_size_per_layer_input": 262144,
    "num_kv_shared_layers": 15,
    "altup_num_inputs": 4,
    "altup_coef_clip": 120.0,
    "laurel_rank": 64,
    "final_logit_softcapping": 30.0,
}
SPARSE_LAYERS, SPARSITY = 10, 0.95


def describe(settings: Settings) -> Description:
    """Return what the settings mean."""
    settings.default(**DEFAULTS)
    settings.only("altup_active_idx", 0, "another stream that is computed")
    settings.only("altup_correct_scale", wanted=True, what="a first stream that is not scaled")
    check_scaling(settings)
    layers = settings.count("num_hidden_layers")
    types = settings.layer_types([SLIDING if (i + 1) % PERIOD else FULL for i in range(layers)])
    settings.values = {**settings.values, "intermediate_size": _feed_forward(settings, layers)}
    sizes = settings.sizes()
    borrowing = settings.value("num_kv_shared_layers") or 0
    kinds = [set(types[: layers - borrowing]), set(types)]
    if borrowing not in range(layers) or kinds[0] != kinds[1]:
        raise settings.error("'num_kv_shared_layers' and 'layer_types' do not go together")
    return read_decoder(
        settings,
        biases=read_biases(settings),
        norm=Norm(settings.epsilon("rms_norm_eps", 1e-6)),
        layout=gemma3.LAYOUT,
        head_norm="head",
        value_norm=True,
        scale=1.0,
        windows=settings.windows(types),
        rope=read_rope(settings, sizes.head_dim, theta=1_000_000.0),
        local_rope=local_rope(settings, sizes.head_dim),
        activation=settings.activation("hidden_activation", "gelu_pytorch_tanh"),
        embedding_scale=sqrt(sizes.hidden),
        final_softcap=settings.cap("final_logit_softcapping"),
        borrowing=borrowing,
        layer_inputs=LayerInputs(
            settings.count("hidden_size_per_layer_input"),
            settings.count("vocab_size_per_layer_input"),
        ),
        altup=AltUp(
            settings.count("altup_num_inputs"),
            settings.number("altup_coef_clip"),
            settings.count("laurel_rank"),
        ),
        sparsity=_sparsity(settings, layers),
    )


def _feed_forward(settings: Settings, layers: int) -> int:
    """Return the size of the MLP, of which the settings may list one for each layer."""
    value = settings.value("intermediate_size")
    if not isinstance(value, list):
        return settings.count("intermediate_size")
    if len(value) != layers or len(set(map(repr, value))) != 1 or type(value[0]) is not int:
        raise settings.error("'intermediate_size' is not one size for all layers")
    return int(value[0])


def _sparsity(settings: Settings, layers: int) -> tuple[float, ...]:
    """Return the share of each layer's gate that is cut off."""
    value = settings.value("activation_sparsity_pattern")
    if value is None:
        first = SPARSE_LAYERS if layers > SPARSE_LAYERS else 0
        return (SPARSITY,) * first + (0.0,) * (layers - first)
    number = (isinstance(share, int | float) and 0 <= share < 1 for share in value or ())
    if not isinstance(value, list) or len(value) != layers or not all(number):
        raise settings.bad("activation_sparsity_pattern", f"a list of {layers} shares")
    return tuple(map(float, value))


class Gemma3nFile(MixedWindows, DecoderFile):
    """llama.cpp knows many of the models' numbers by heart, so that others cannot be told to it."""

    architecture = "gemma3n"
    own_heads = True
    activations = ("gelu_pytorch_tanh",)
    streams, rank, inputs, own_keys, cap = 4, 64, 256, 20, 30.0

    def check_shape(self, model: Description) -> None:
        """Refuse other numbers than llama.cpp's."""
        super().check_shape(model)
        altup, inputs, layers = model.altup, model.layer_inputs, model.sizes.layers
        assert altup
        assert inputs
        for key, value, wanted in (
            ("altup_num_inputs", altup.streams, self.streams),
            ("laurel_rank", altup.laurel, self.rank),
            ("hidden_size_per_layer_input", inputs.size, self.inputs),
            ("num_kv_shared_layers", model.borrowing, max(layers - self.own_keys, 0)),
            ("final_logit_softcapping", model.final_softcap, self.cap),
        ):
            if value != wanted:
                raise model.error(
                    f"{key!r} {value:g} is not supported", f"choose a checkpoint with {wanted:g}"
                )
        if inputs.vocabulary > model.sizes.vocabulary:
            raise model.error(
                f"'vocab_size_per_layer_input' {inputs.vocabulary} beside a vocabulary of"
                f" {model.sizes.vocabulary} is not supported",
                "choose a checkpoint in which it is no larger",
            )
        first = min(SPARSE_LAYERS, layers)
        if model.sparsity != (SPARSITY,) * first + (0.0,) * (layers - first):
            raise model.error(
                "this pattern of cut gates is not supported",
                f"choose a checkpoint whose first {first} layers alone have a sparsity, of"
                f" {SPARSITY}",
            )

    def check(self, model: Description) -> None:
        """Refuse a scaled local rotation, and to borrow from other layers than llama.cpp does."""
        super().check(model)
        if model.local_rope and model.local_rope.scaling:
            raise model.error(
                f"rope scaling {model.local_rope.kind!r} in sliding-window layers is not supported",
                "choose a checkpoint without it",
            )
        check_lenders(model)

    def computed(self, model: Description) -> Iterator[Wanted]:
        """Yield the matrices between the streams, and those of all layers' inputs."""
        assert model.altup
        side, others = model.sizes.hidden, model.altup.streams - 1
        for target, source in (
            ("altup_proj", "altup_projections"),
            ("altup_unembd_proj", "altup_unembed_projections"),
        ):
            yield Wanted(
                TensorShape(f"{target}.weight", (others, side, side)),
                parts=tuple(f"model.{source}.{i}.weight" for i in range(others)),
                shape=(side, side),
            )
        yield from input_tables(model)

    def layer(self, i: int, model: Description) -> Iterator[Wanted]:
        """Yield the tensors of one layer; of one that borrows, the keys are spare."""
        here, there = model.layout.layer.format(i), f"blk.{i}"
        spare = ("attn_k.", "attn_v.", "attn_k_norm.")
        for want in super().layer(i, model):
            part = want.target.name.removeprefix(f"{there}.")
            borrowed = model.lender(i) != i and part.startswith(spare)
            yield replace(want, spare=True) if borrowed else want
        yield from input_matrices(here, there, model)
        yield from _altup(f"{here}altup", f"{there}.altup", model)
        yield from _laurel(f"{here}laurel", f"{there}.laurel", model)

    def special(self, model: Description) -> dict[str, Any]:
        """Return head size, windows, the second base, the streams, and who borrows."""
        altup, inputs = model.altup, model.layer_inputs
        assert altup
        assert inputs
        assert model.local_rope
        return {
            **head_lengths(model.sizes.head_dim),
            "attention.sliding_window": max(model.windows),
            "attention.sliding_window_pattern": [window > 0 for window in model.windows],
            "attention.shared_kv_layers": model.borrowing,
            "feed_forward_length": [model.sizes.feed_forward] * model.sizes.layers,
            "rope.freq_base_swa": model.local_rope.theta,
            "final_logit_softcapping": model.final_softcap,
            "altup.active_idx": 0,
            "altup.num_inputs": altup.streams,
            "embedding_length_per_layer_input": inputs.size,
            "activation_sparsity_scale": [_deviations(s) for s in model.sparsity],
        }


def _deviations(share: float) -> float:
    """Return how many standard deviations above the mean a share of a distribution ends."""
    return NormalDist().inv_cdf(share) if share else -inf


def _altup(here: str, there: str, model: Description) -> Iterator[Wanted]:
    """Yield what mixes and corrects the streams."""
    assert model.altup
    n, hidden = model.altup.streams, model.sizes.hidden
    scale = f"{here}.correct_output_scale"
    yield tensor(f"{there}_correct_scale.weight", scale, hidden)
    yield from matrix(f"{there}_correct_coef", f"{here}.correction_coefs", n, n)
    yield from matrix(f"{there}_predict_coef", f"{here}.prediction_coefs", n * n, n)
    yield from matrix(f"{there}_router", f"{here}.modality_router", n, hidden)
    yield from matrix(f"{there}_router_norm", f"{here}.router_norm", hidden)


def _laurel(here: str, there: str, model: Description) -> Iterator[Wanted]:
    """Yield the product of low rank."""
    assert model.altup
    rank, hidden = model.altup.laurel, model.sizes.hidden
    yield from matrix(f"{there}_l", f"{here}.linear_left", rank, hidden)
    yield from matrix(f"{there}_r", f"{here}.linear_right", hidden, rank)
    yield from matrix(f"{there}_post_norm", f"{here}.post_laurel_norm", hidden)


ARCHITECTURE = Architecture("Gemma 3n (text)", describe, Gemma3nFile())
