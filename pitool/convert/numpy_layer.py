"""One decoder layer in float32, in plain numpy, as a description has it.

Llama (Touvron et al. 2023), grouped-query attention (Ainslie et al. 2023), rotary embedding by
halves as in transformers, and what a description can say beyond them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from pitool.architectures.description import DeltaNet, Description, Mamba2
from pitool.convert import numpy_altup, numpy_recurrent
from pitool.convert.numpy_parts import (
    ACTIVATIONS,
    Array,
    angles,
    capped,
    clamped,
    cut,
    normed,
    rotate,
    sigmoid,
    softmax,
    visible,
    xielu,
)

# Added to the sum that sigmoid scores of experts are divided by.
SCORE_EPSILON = np.float32(1e-6)
# The activation that has numbers of its own in each layer.
XIELU = "xielu"
OnInput = Callable[[str, Array], object]
"""Hears of a matrix of the layer, such as ``self_attn.q_proj``, and of its input (tokens, in)."""


def mixer_output(model: Description, layer: int) -> str:
    """Return the matrix that gives the result of a layer's attention, or of its recurrent state."""
    recurrent = layer in model.recurrent
    return numpy_recurrent.output_of(model.recurrence) if recurrent else model.layout.output


class Layer:
    """One layer: its weights, who hears of their inputs, and what it takes besides.

    ``on_residual`` hears of the norm before a block, and of the residual that is its input.
    ``lent``: keys and values by layer, which later layers may borrow. ``known``: inputs of
    matrices, before which nothing is computed anew: of the one that gives the result of the
    attention or of the recurrent state.
    """

    def __init__(
        self,
        model: Description,
        index: int,
        weights: dict[str, Array],
        on_input: OnInput,
        on_residual: OnInput,
        lent: dict[int, tuple[Array, Array]],
        besides: Array | None,
        known: Mapping[str, Array],
    ) -> None:
        self._model, self._index = model, index
        self._weights, self._on_input, self._on_residual = weights, on_input, on_residual
        self._lent, self._besides, self._known = lent, besides, known

    def forward(self, x: Array) -> Array:
        """Return the output of the layer for its input, shape (tokens, hidden)."""
        layout = self._model.layout
        mixed = self._block(self._mixer, x, layout.before_attention, layout.after_attention)
        before = layout.before_mlp
        if self._model.parallel:
            return x + mixed + self._block(self._mlp, x, before or layout.before_attention, "")
        x = x + mixed
        mlp = self._experts if self._model.routed(self._index) else self._mlp
        x = x + self._block(mlp, x, before, layout.after_mlp)
        if self._besides is not None:
            x = x + self._block(self._beside, x, "", "post_per_layer_input_norm")
        return x * self._weight(layout.scalar) if layout.scalar else x

    def streams(self, streams: Array) -> Array:
        """Return the streams of AltUp after the layer, which computes the first of them."""
        model, layout = self._model, self._model.layout
        streams = numpy_altup.predicted(streams, model, self._linear, self._weight)
        x = self._norm(streams[0], layout.before_attention)
        beside = numpy_altup.laurel(x, model, self._linear, self._weight)
        mixed = self._norm(self._attention(x), layout.after_attention)
        x = (streams[0] + mixed + beside) * np.float32(2**-0.5)
        x = x + self._block(self._mlp, x, layout.before_mlp, layout.after_mlp)
        streams = numpy_altup.corrected(streams, x, model, self._linear, self._weight)
        first = streams[0] * self._weight("altup.correct_output_scale")
        streams[1:] += self._block(self._beside, first, "", "post_per_layer_input_norm")
        return streams

    def _mixer(self, x: Array) -> Array:
        """Return what a layer makes of all tokens until each."""
        output = mixer_output(self._model, self._index)
        if output in self._known:
            return self._linear(output, self._known[output])
        recurrent = self._index in self._model.recurrent
        return self._recurrence(x) if recurrent else self._attention(x)

    def _beside(self, x: Array) -> Array:
        """Return what a layer makes of the numbers that it takes besides."""
        assert self._besides is not None
        gate = ACTIVATIONS[self._model.activation](self._linear("per_layer_input_gate", x))
        return self._linear("per_layer_projection", gate * self._besides)

    def _block(self, block: Callable[[Array], Array], x: Array, before: str, after: str) -> Array:
        """Return what a block adds to the residual, with the norms around it."""
        if before:
            self._on_residual(before, x)
        y = block(self._norm(x, before) if before else x)
        y = self._norm(y, after) if after else y
        return y * np.float32(self._model.residual_scale)

    def _weight(self, name: str) -> Array:
        try:
            return self._weights[name]
        except KeyError:
            here = self._model.layout.layer.format(self._index)
            raise self._model.error(
                f"the checkpoint has no tensor {here}{name}", "download it again"
            ) from None

    def _norm(self, x: Array, name: str) -> Array:
        weight, norm = self._weight(f"{name}.weight"), self._model.norm
        return normed(x, weight, self._weight(f"{name}.bias") if norm.layer else None, norm)

    def _linear(self, name: str, x: Array) -> Array:
        self._on_input(name, x)
        weight = self._weight(f"{name}.weight")
        y = x @ (weight if self._model.layout.transposed else weight.T)
        return y + self._weight(f"{name}.bias") if self._biased(name) else y

    def _biased(self, name: str) -> bool:
        """Tell whether the model adds a bias; one that is stored without being used is ignored."""
        biases, layout = self._model.biases, self._model.layout
        if name in (layout.query, layout.key, layout.value, layout.qkv):
            return biases.qkv
        if name == layout.output:
            return biases.output
        return biases.mlp and name in (layout.gate, layout.up, layout.gate_up, layout.down)

    # -- attention -----------------------------------------------------------------------------

    def _attention(self, x: Array) -> Array:
        model, sizes, tokens = self._model, self._model.sizes, len(x)
        dim, rope = model.head_dim(self._index), model.rotation(self._index)
        turn = partial(_turned, angles(rope, tokens), model) if rope else _unturned
        if (lender := model.lender(self._index)) == self._index:
            q, k, v = self._projections(x)
            k = self._turned_and_normed(k, model.layout.key_norm, turn)
            if model.value_norm:
                v = normed(v, np.ones(dim, np.float32), None, model.norm)
            self._lent[lender] = k, v
        else:
            q = self._linear(model.layout.query, x).reshape(tokens, sizes.heads, -1)
            k, v = self._lent[lender]
        gate = q[..., dim:]
        q = self._turned_and_normed(q[..., :dim], model.layout.query_norm, turn)
        if model.temperature:
            share, length = model.temperature
            warmth = 1 + share * np.log1p(np.arange(tokens) // length)
            q = q * warmth.astype(np.float32)[:, None, None]
        k, v = (np.repeat(a, sizes.heads // sizes.kv_heads, axis=1) for a in (k, v))
        q, k, v = (a.swapaxes(0, 1) for a in (q, k, v))
        scores = capped(q @ k.swapaxes(1, 2) * np.float32(model.scale), model.softcap)
        scores = np.where(visible(tokens, model.windows[self._index]), scores, -np.inf)
        mixed = (self._shares(scores) @ v).swapaxes(0, 1)
        if model.output_gate:
            mixed = mixed * sigmoid(gate)
        mixed = mixed.reshape(tokens, sizes.heads * dim)
        return self._linear(model.layout.output, mixed.astype(np.float32))

    def _shares(self, scores: Array) -> Array:
        """Return the shares of tokens, of which a sink has taken its own, for each head."""
        if not self._model.layout.sinks:
            return softmax(scores)
        sinks = self._weight(self._model.layout.sinks)[:, None, None]
        with_sink = np.broadcast_to(sinks, (*scores.shape[:-1], 1))
        return softmax(np.concatenate([scores, with_sink], axis=-1))[..., :-1]

    def _projections(self, x: Array) -> tuple[Array, Array, Array]:
        """Return queries, keys and values, each of shape (tokens, heads, head_dim).

        Queries with an output gate have it behind them, so that they are twice as long.
        """
        sizes, layout = self._model.sizes, self._model.layout
        counts = (sizes.heads, sizes.kv_heads, sizes.kv_heads)
        if layout.by_head:
            y = self._linear(layout.qkv, x).reshape(len(x), sizes.heads, 3, sizes.head_dim)
            return y[:, :, 0], y[:, :, 1], y[:, :, 2]
        if layout.qkv:
            ends = np.cumsum(counts)[:2] * sizes.head_dim
            parts = np.split(self._linear(layout.qkv, x), ends, axis=1)
        else:
            parts = [self._linear(name, x) for name in (layout.query, layout.key, layout.value)]
        q, k, v = (
            part.reshape(len(x), count, -1) for part, count in zip(parts, counts, strict=True)
        )
        return q, k, v

    def _turned_and_normed(self, x: Array, norm: str, turn: Callable[[Array], Array]) -> Array:
        """Return queries or keys after their rotation and their norm, in the model's order."""
        if self._model.late_norm:
            return self._head_norm(turn(x), norm)
        return turn(self._head_norm(x, norm))

    def _head_norm(self, x: Array, name: str) -> Array:
        """Normalise queries or keys, shape (tokens, heads, head_dim), as the description says."""
        match self._model.head_norm:
            case "head":
                return self._norm(x, name)
            case "all":
                return self._norm(x.reshape(len(x), -1), name).reshape(x.shape)
            case "each":
                names = (f"{name}.norms.{i}.weight" for i in range(x.shape[1]))
                stacked = np.stack([self._weight(each) for each in names])
                return normed(x, stacked, None, self._model.norm)
        return x

    # -- recurrence and MLP --------------------------------------------------------------------

    def _recurrence(self, x: Array) -> Array:
        match self._model.recurrence:
            case DeltaNet():
                return numpy_recurrent.delta_net(self._model, x, self._linear, self._weight)
            case Mamba2():
                return numpy_recurrent.mamba2(self._model, x, self._linear, self._weight)
        return numpy_recurrent.short_convolution(x, self._linear, self._weight)

    def _experts(self, x: Array) -> Array:
        """Return the results of the experts that each token uses, weighted by their scores."""
        experts, layout = self._model.experts, self._model.layout
        assert experts
        scores = self._linear(layout.router, x)
        if experts.clamped:
            scores = scores + self._weight(f"{layout.router}.bias")
        scores = sigmoid(scores) if experts.sigmoid else softmax(scores)
        bias = self._weight(layout.router_bias) if experts.biased else np.float32(0)
        chosen = np.argsort(-(scores + bias), axis=-1, kind="stable")[:, : experts.used]
        weights = np.take_along_axis(scores, chosen, axis=-1)
        if experts.normalised:
            total = weights.sum(-1, keepdims=True)
            weights = weights / (total + SCORE_EPSILON if experts.sigmoid else total)
        expert: Callable[[int, Array], Array] = self._expert
        if layout.experts_gate_up:
            expert = self._clamped() if experts.clamped else self._stacked()
        y = self._mlp(x) if experts.shared else np.zeros_like(x)
        for n in np.unique(chosen):
            tokens, place = np.nonzero(chosen == n)
            y[tokens] += expert(int(n), x[tokens]) * weights[tokens, place][:, None]
        return y

    def _expert(self, n: int, x: Array) -> Array:
        layout, here = self._model.layout, self._model.layout.expert.format(n)
        gate = ACTIVATIONS[self._model.activation](self._linear(f"{here}{layout.expert_gate}", x))
        up = self._linear(f"{here}{layout.expert_up}", x)
        return self._linear(f"{here}{layout.expert_down}", gate * up)

    def _stacked(self) -> Callable[[int, Array], Array]:
        """Return an expert's result where those of all lie in two tensors, which are read once."""
        layout, activate = self._model.layout, ACTIVATIONS[self._model.activation]
        gate_up = self._weight(layout.experts_gate_up)
        down = self._weight(layout.experts_down)

        def expert(n: int, x: Array) -> Array:
            gate, up = np.split(x @ gate_up[n].T, 2, axis=1)
            y: Array = (activate(gate) * up) @ down[n].T
            return y

        return expert

    def _clamped(self) -> Callable[[int, Array], Array]:
        """Return the result of an expert of gpt-oss's."""
        layout, experts = self._model.layout, self._model.experts
        assert experts
        assert experts.clamped
        alpha, limit = experts.clamped.alpha, experts.clamped.limit
        names = (layout.experts_gate_up, layout.experts_down)
        (gate_up, down) = (self._weight(name) for name in names)
        (gate_up_bias, down_bias) = (self._weight(f"{name}_bias") for name in names)

        def expert(n: int, x: Array) -> Array:
            both = x @ gate_up[n] + gate_up_bias[n]
            y: Array = clamped(both[:, ::2], both[:, 1::2], alpha, limit) @ down[n] + down_bias[n]
            return y

        return expert

    def _activate(self, x: Array) -> Array:
        if self._model.activation != XIELU:
            return ACTIVATIONS[self._model.activation](x)
        alphas = (self._weight(f"mlp.act_fn.{part}").reshape(()) for part in ("alpha_p", "alpha_n"))
        others = (self._weights.get(f"mlp.act_fn.{part}") for part in ("beta", "eps"))
        return xielu(x, *alphas, *others)

    def _gate(self, x: Array) -> Array:
        """Return a gate after its activation, of which only the largest numbers may be left."""
        share = self._model.sparsity[self._index] if self._model.sparsity else 0.0
        return self._activate(cut(x, share) if share else x)

    def _mlp(self, x: Array) -> Array:
        layout = self._model.layout
        if layout.gate_up:
            gate, up = np.split(self._linear(layout.gate_up, x), 2, axis=1)
            return self._linear(layout.down, self._gate(gate) * up)
        if not layout.gate:
            return self._linear(layout.down, self._activate(self._linear(layout.up, x)))
        gate = self._gate(self._linear(layout.gate, x))
        return self._linear(layout.down, gate * self._linear(layout.up, x))


def _turned(turns: tuple[Array, Array], model: Description, x: Array) -> Array:
    """Return queries or keys rotated by cosines and sines."""
    return rotate(x, *turns, neighbours=model.neighbours)


def _unturned(x: Array) -> Array:
    return x
