"""What a GGUF of a decoder holds: tensors by the description's layout, and metadata.

A family's file makes a ``DecoderFile`` and states what is its own. Names and keys are those of
llama.cpp's converter, order included.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import ceil, floor, isclose, log, pi
from operator import itemgetter
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pitool.architectures.base import Gguf, Transform, Wanted
from pitool.architectures.description import Description
from pitool.architectures.rope import Dynamic, Linear, Llama3, LongRope, Rope, Yarn
from pitool.catalog.model_shape import TensorShape


def tensor(target: str, source: str, *shape: int, **details: Any) -> Wanted:
    """Return a wanted tensor."""
    return Wanted(TensorShape(target, shape), source, **details)


def matrix(
    target: str, source: str, *shape: int, bias: bool = False, **details: Any
) -> Iterator[Wanted]:
    """Yield a weight and, where it has one, its bias; ``details`` go for both."""
    yield tensor(f"{target}.weight", f"{source}.weight", *shape, **details)
    if bias:
        yield tensor(f"{target}.bias", f"{source}.bias", shape[0], **details)


def halves(targets: tuple[str, str], source: str, rows: int, columns: int) -> Iterator[Wanted]:
    """Yield two matrices of so many rows each that lie in one, one after the other."""
    for target, rows_of in zip(targets, (slice(rows), slice(rows, None)), strict=True):
        yield Wanted(
            TensorShape(f"{target}.weight", (rows, columns)),
            f"{source}.weight",
            transform=itemgetter(rows_of),
            rows=2 * rows,
            shape=(2 * rows, columns),
        )


def head_lengths(head_dim: int) -> dict[str, Any]:
    """Return the keys of a head size that is not the hidden size over the heads."""
    return {"attention.key_length": head_dim, "attention.value_length": head_dim}


class DecoderFile:
    """A decoder with rotary embedding, grouped-query attention and a gated MLP."""

    architecture = ""
    activations: tuple[str, ...] = ("silu",)
    # The scalings of the rotation that can be said in a GGUF of the family.
    scalings: ClassVar[Mapping[str, type]] = {"dynamic": Dynamic, "linear": Linear, "yarn": Yarn}
    # Whether llama.cpp's graph of the family rotates a part of each head.
    partial = False
    # Whether its loader takes a head size of its own, biases behind attention and in the MLP, and
    # a model whose head is the embedding: where not, the embedding is written twice.
    own_heads = False
    more_biases = False
    headless = True

    def of(self, _model: Description) -> Gguf:
        """Return the file of a model: for most families this one."""
        return self

    def check(self, model: Description) -> None:
        """Raise BadInput for what llama.cpp's graph of the family does not compute."""
        if model.activation not in self.activations:
            raise model.error(
                f"the activation {model.activation!r} is not supported",
                f"convert a checkpoint whose activation is {self.activations[0]}",
            )
        self.check_shape(model)
        if model.rope:
            self.check_rope(model, model.rope)
        self.check_windows(model)

    def check_shape(self, model: Description) -> None:
        """Raise BadInput for tensors that llama.cpp's loader of the family has no place for."""
        sizes, biases = model.sizes, model.biases
        quotient = sizes.hidden // sizes.heads
        if sizes.head_dim != quotient and not self.own_heads:
            raise model.error(
                f"a custom head size is not supported ('head_dim' is {sizes.head_dim})",
                f"convert a checkpoint whose 'head_dim' is {quotient}",
            )
        if (biases.output or biases.mlp) and not self.more_biases:
            raise model.error(
                "biases of attention's output or of the MLP are not supported",
                "convert a checkpoint whose 'attention_bias' and 'mlp_bias' are False",
            )

    def check_rope(self, model: Description, rope: Rope) -> None:
        """Raise BadInput for a rotation that would be converted wrongly."""
        if rope.scaling is not None and type(rope.scaling) not in self.scalings.values():
            raise model.error(
                f"rope scaling {rope.kind!r} is not supported",
                "convert a checkpoint whose scaling is one of: default,"
                f" {', '.join(self.scalings)}",
            )
        if rope.dim != model.sizes.head_dim and not self.partial:
            raise model.error(
                f"rotating only {rope.dim} dimensions of a head is not supported",
                "convert a checkpoint whose 'partial_rotary_factor' is 1",
            )
        if isinstance(rope.scaling, Yarn):
            check_yarn(model, rope, rope.scaling)

    def check_windows(self, model: Description) -> None:
        """Raise BadInput for a window, which llama.cpp's graph of most families does not know."""
        if any(model.windows):
            raise model.error(
                f"a sliding window is not supported ('use_sliding_window' is True, of"
                f" {max(model.windows)} tokens)",
                "convert a checkpoint whose 'use_sliding_window' is False",
            )

    def windows(self, _model: Description) -> tuple[int, ...]:
        """Return the windows that llama.cpp keeps, for each layer: here none."""
        return ()

    def remark(self, _model: Description) -> str:
        """Return what llama.cpp computes a little otherwise than the model: here nothing."""
        return ""

    def wanted(self, model: Description) -> list[Wanted]:
        """Return every tensor of the GGUF, in order."""
        return [
            *self.ends(model),
            *self.computed(model),
            *(want for i in range(model.sizes.layers) for want in self.layer(i, model)),
        ]

    def ends(self, model: Description) -> Iterator[Wanted]:
        """Yield embedding, final norm and, where it is not the embedding, the head.

        A tied checkpoint may store the shared matrix under either name.
        """
        layout, table = model.layout, (model.sizes.vocabulary, model.sizes.hidden)
        head = f"{layout.head}.weight"
        fallback = head if model.tied else ""
        yield tensor("token_embd.weight", f"{layout.embedding}.weight", *table, fallback=fallback)
        yield from self.norm("output_norm", layout.norm, model)
        if not model.tied:
            yield tensor("output.weight", head, *table)
        elif not self.headless:
            yield tensor("output.weight", f"{layout.embedding}.weight", *table, fallback=fallback)

    def computed(self, _model: Description) -> Iterator[Wanted]:
        """Yield tensors that are computed from the settings."""
        yield from ()

    def layer(self, i: int, model: Description) -> Iterator[Wanted]:
        """Yield the tensors of one layer."""
        here, there, layout = model.layout.layer.format(i), f"blk.{i}", model.layout
        for target, source in {
            "attn_norm": layout.before_attention,
            "post_attention_norm": layout.after_attention,
            "ffn_norm": layout.before_mlp,
            "post_ffw_norm": layout.after_mlp,
        }.items():
            if source:
                yield from self.norm(f"{there}.{target}", f"{here}{source}", model)
        yield from self.attention(here, there, model)
        mlp = self.experts if model.routed(i) else self.feed_forward
        yield from mlp(here, there, model)

    def norm(self, target: str, source: str, model: Description) -> Iterator[Wanted]:
        """Yield the weights of a norm, and the biases of a layer norm."""
        norm = model.norm
        yield from matrix(target, source, model.sizes.hidden, bias=norm.layer, shift=norm.offset)

    def rotation(self, _model: Description) -> Transform | None:
        """Return the reordering of query and key rows: none where llama.cpp rotates halves."""
        return None

    def attention(self, here: str, there: str, model: Description) -> Iterator[Wanted]:
        """Yield the matrices of attention, with the norms of queries and keys."""
        sizes, layout = model.sizes, model.layout
        q, kv = sizes.heads * sizes.head_dim, sizes.kv_heads * sizes.head_dim
        if layout.qkv:
            source = f"{here}{layout.qkv}"
            yield from matrix(
                f"{there}.attn_qkv", source, q + 2 * kv, sizes.hidden, bias=model.biases.qkv
            )
        else:
            yield from self.query_key_value(here, there, model)
        yield from matrix(
            f"{there}.attn_output",
            f"{here}{layout.output}",
            sizes.hidden,
            q,
            bias=model.biases.output,
        )
        if model.head_norm:
            yield from self.head_norms(here, there, model)

    def query_key_value(self, here: str, there: str, model: Description) -> Iterator[Wanted]:
        """Yield query, key and value as matrices of their own."""
        sizes, layout = model.sizes, model.layout
        turn: dict[str, Any] = {}
        if rotation := self.rotation(model):
            turn = {"transform": rotation, "rows": sizes.head_dim}
        queries = sizes.heads * (2 if model.output_gate else 1)
        for part, source, heads, details in (
            ("q", layout.query, queries, turn),
            ("k", layout.key, sizes.kv_heads, turn),
            ("v", layout.value, sizes.kv_heads, {}),
        ):
            yield from matrix(
                f"{there}.attn_{part}",
                f"{here}{source}",
                heads * sizes.head_dim,
                sizes.hidden,
                bias=model.biases.qkv,
                **details,
            )

    def head_norms(self, here: str, there: str, model: Description) -> Iterator[Wanted]:
        """Yield the norms of queries and keys."""
        sizes, layout = model.sizes, model.layout
        for part, source, heads in (
            ("q", layout.query_norm, sizes.heads),
            ("k", layout.key_norm, sizes.kv_heads),
        ):
            size = sizes.head_dim * (heads if model.head_norm == "all" else 1)
            yield tensor(
                f"{there}.attn_{part}_norm.weight",
                f"{here}{source}.weight",
                size,
                shift=model.norm.offset,
            )

    def feed_forward(self, here: str, there: str, model: Description) -> Iterator[Wanted]:
        """Yield the matrices of the MLP; llama.cpp calls a fused gate and up by the latter."""
        sizes, layout, bias = model.sizes, model.layout, model.biases.mlp
        wide, narrow = (sizes.feed_forward, sizes.hidden), (sizes.hidden, sizes.feed_forward)
        both = (2 * sizes.feed_forward, sizes.hidden)
        for part, source, shape in (
            ("up", layout.gate_up, both),
            ("gate", layout.gate, wide),
            ("up", layout.up, wide),
            ("down", layout.down, narrow),
        ):
            if source:
                yield from matrix(f"{there}.ffn_{part}", f"{here}{source}", *shape, bias=bias)

    def experts(self, here: str, there: str, model: Description) -> Iterator[Wanted]:
        """Yield the router and the experts of a layer, stacked."""
        layout, experts, hidden = model.layout, model.experts, model.sizes.hidden
        assert experts
        router = f"{here}{layout.router}.weight"
        yield tensor(f"{there}.ffn_gate_inp.weight", router, experts.count, hidden)
        if experts.biased:
            yield tensor(f"{there}.exp_probs_b.bias", f"{here}{layout.router_bias}", experts.count)
        wide, narrow = (experts.size, hidden), (hidden, experts.size)
        for part, source, shape in (
            ("gate", layout.expert_gate, wide),
            ("up", layout.expert_up, wide),
            ("down", layout.expert_down, narrow),
        ):
            names = (f"{here}{layout.expert.format(n)}{source}" for n in range(experts.count))
            yield Wanted(
                TensorShape(f"{there}.ffn_{part}_exps.weight", (experts.count, *shape)),
                parts=tuple(f"{name}.weight" for name in names),
                shape=shape,
            )

    def metadata(self, model: Description) -> Iterator[tuple[str, Any]]:
        """Yield what llama.cpp's loader reads of every such decoder, then the family's own."""
        keys = {**self.common(model), **self.special(model)}
        yield from ((f"{self.architecture}.{key}", value) for key, value in keys.items())
        prefix = f"{self.architecture}.rope.scaling"
        if model.rope:
            yield from ((f"{prefix}.{k}", v) for k, v in self.scaling(model.rope).items())

    def common(self, model: Description) -> dict[str, Any]:
        """Return the keys that every such decoder has, without the architecture's name."""
        sizes = model.sizes
        keys: dict[str, Any] = {
            "block_count": sizes.layers,
            "context_length": model.windowless(self.windows(model)) or sizes.context,
            "embedding_length": sizes.hidden,
            "feed_forward_length": sizes.feed_forward,
            "attention.head_count": sizes.heads,
            "attention.head_count_kv": sizes.kv_heads,
            "attention.layer_norm_rms_epsilon": model.norm.epsilon,
        }
        if model.experts:
            keys["expert_count"] = model.experts.count
            keys["expert_used_count"] = model.experts.used
        return {**keys, "rope.freq_base": model.rope.theta} if model.rope else keys

    def special(self, _model: Description) -> dict[str, Any]:
        """Return the keys of this family alone, without the architecture's name."""
        return {}

    def scaling(self, rope: Rope) -> dict[str, Any]:
        """Return the keys of the rotation's scaling, without architecture and ``rope.scaling``."""
        match rope.scaling:
            case Linear(factor):
                return {"type": "linear", "factor": factor}
            case Yarn() as yarn:
                return _yarn_keys(yarn)
        return {}


def _yarn_keys(yarn: Yarn) -> dict[str, Any]:
    betas = {"yarn_beta_fast": yarn.beta_fast, "yarn_beta_slow": yarn.beta_slow}
    return {
        "type": "yarn",
        "factor": yarn.factor,
        "original_context_length": yarn.original,
        **{key: beta for key, beta in betas.items() if beta is not None},
    }


def check_yarn(model: Description, rope: Rope, yarn: Yarn) -> None:
    """Refuse numbers other than YaRN's own: llama.cpp's loaders of these families ignore them.

    A factor below 1, which shortens a context, changes Gemma 3's layers with a window there.
    Also a range of dimensions that is empty, where llama.cpp keeps what transformers divides.
    """
    if yarn.factor < 1:
        raise model.error(
            f"YaRN with a factor of {yarn.factor:g}, below 1, is not supported in GGUF",
            "convert it with --format onnx",
        )
    usual = 0.1 * log(yarn.factor) + 1 if yarn.factor > 1 else 1.0
    own = {
        "beta_fast": (yarn.beta_fast, 32.0),
        "beta_slow": (yarn.beta_slow, 1.0),
        "attention_factor, mscale or mscale_all_dim": (yarn.attention, usual),
        "truncate": (float(yarn.truncate), 1.0),
    }
    for key, (value, wanted) in own.items():
        if value is not None and not isclose(value, wanted, rel_tol=1e-4):
            raise model.error(
                f"YaRN with a custom {key!r} is not supported",
                "convert a checkpoint without it",
            )
    low, high = (_yarn_dimension(rope, yarn, turns) for turns in (32, 1))
    if max(floor(low), 0) > min(ceil(high), rope.dim - 1):
        raise model.error(
            f"YaRN from a context of {yarn.original} tokens at 'rope_theta' {rope.theta:g} is not"
            " supported",
            "choose a checkpoint whose 'original_max_position_embeddings' and 'rope_theta' go"
            " together",
        )


def _yarn_dimension(rope: Rope, yarn: Yarn, turns: float) -> float:
    """Return the dimension that turns so many times within the original context."""
    return rope.dim * log(yarn.original / (turns * 2 * pi)) / (2 * log(rope.theta))


def layer_norm_keys(model: Description) -> dict[str, Any]:
    """Return what the loaders of families with layer norms and parallel branches read."""
    assert model.rope
    return {
        "attention.layer_norm_epsilon": model.norm.epsilon,
        "rope.dimension_count": model.rope.dim,
        "use_parallel_residual": model.parallel,
    }


def without_default_theta(keys: dict[str, Any]) -> dict[str, Any]:
    """Return the keys without a base of the rotation that the loader assumes anyway."""
    if keys.get("rope.freq_base") == 10000.0:
        del keys["rope.freq_base"]
    return keys


def check_normalised(model: Description, *, wanted: bool) -> None:
    """Refuse other weights of the experts than llama.cpp's graph of the family gives them."""
    assert model.experts
    if model.experts.normalised is not wanted:
        what = "without" if wanted else "with"
        raise model.error(
            f"routing {what} normalised weights is not supported",
            f"convert a checkpoint whose 'norm_topk_prob' is {wanted}",
        )


def check_alternation(model: Description, full: list[bool], pattern: str) -> None:
    """Refuse windows in other layers than llama.cpp's graph has them, which see all if ``full``."""
    if [not window for window in model.windows] != full:
        raise model.error(
            "this pattern of sliding windows is not supported",
            f"convert a checkpoint in which {pattern} layer has full attention",
        )


def check_scale(model: Description, largest: int) -> None:
    """Refuse a scale of the scores that llama.cpp does not use.

    It takes the head size for all but the ``largest`` model of the family, known by its layers:
    there the hidden size over the heads.
    """
    sizes = model.sizes
    own = sizes.hidden // sizes.heads if sizes.layers == largest else sizes.head_dim
    if not isclose(model.scale, own**-0.5):
        raise model.error(
            f"this scale of the attention scores is not supported ('query_pre_attn_scalar' is"
            f" {model.scale**-2:g})",
            f"convert a checkpoint whose 'query_pre_attn_scalar' is {own}",
        )


def interleave(head_dim: int) -> Transform:
    """Return the reordering of rows within each head from transformers' halves to pairs.

    transformers rotates row i with row i + head_dim / 2, llama.cpp's Llama rotates neighbours.
    """

    def transform(rows: NDArray[Any]) -> NDArray[Any]:
        halves = rows.reshape(-1, 2, head_dim // 2, *rows.shape[1:])
        return halves.swapaxes(1, 2).reshape(rows.shape)

    return transform


def llama3_divisors(rope: Rope, scaling: Llama3) -> NDArray[np.float32]:
    """Return the divisors of the rotary frequencies for ``llama3`` scaling, shape (dim / 2,).

    The rule is that of Llama 3.1 (transformers, modeling_rope_utils): long wavelengths are
    divided by ``factor``, short ones kept, those between are blended.
    """
    # float32 as the reference computes it, so that the stored values are its to the last bit;
    # but the power is rounded once, as torch's is nearly always and numpy's is not.
    exponent = np.arange(0, rope.dim, 2, dtype=np.float32) / np.float32(rope.dim)
    power = np.power(rope.theta, exponent.astype(np.float64)).astype(np.float32)
    frequency = np.float32(1.0) / power
    factor, low, high, original = scaling.factor, scaling.low, scaling.high, scaling.original
    one = np.float32(1)
    divisors = []
    for value in frequency:
        wavelength = one / value * np.float32(2 * np.pi)  # torch divides by a reciprocal
        if wavelength < original / high:
            divisors.append(1.0)
        elif wavelength > original / low:
            divisors.append(factor)
        else:
            smooth = (one / wavelength * np.float32(original) - low) / (high - low)
            divisors.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(divisors, np.float32)


def longrope_divisors(scaling: LongRope) -> Iterator[Wanted]:
    """Yield the divisors of LongRoPE as tensors."""
    for kind, numbers in (("long", scaling.long), ("short", scaling.short)):
        values = np.array(numbers, np.float32)
        yield Wanted(TensorShape(f"rope_factors_{kind}.weight", values.shape), value=values)
