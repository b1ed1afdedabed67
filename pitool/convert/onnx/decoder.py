"""Builds the fused graph of a decoder: attention, norms and products are one operator each.

Inputs are ``input_ids``, ``attention_mask`` (of past and new tokens) and one buffer a layer for
keys and for values, which the outputs share; ``num_logits`` says of how many last tokens logits
are wanted, 1 unless it is given. Operators: docs/ContribOperators.md of onnxruntime.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pitool.architectures.description import Description
from pitool.architectures.rope import Rope
from pitool.convert.onnx.fused import GELU
from pitool.convert.onnx.graph import Graph
from pitool.convert.onnx.heads import pad_columns, pad_ends, pad_halves
from pitool.convert.onnx.rotary import make_rotary
from pitool.convert.onnx.weights import Head, Part, Weights
from pitool.planning.onnx_weights import padded_head

NO_ROTATION = ("", "")


class DecoderGraph:
    """Adds the operators of a decoder to a graph, layer by layer."""

    def __init__(
        self,
        graph: Graph,
        weights: Weights,
        model: Description,
        positions: int,
        on_layer: Callable[[], None],
    ) -> None:
        self._graph, self._weights, self._model = graph, weights, model
        self._positions, self._on_layer = positions, on_layer
        self._head = padded_head(model.sizes.head_dim)
        self._rotations: dict[Rope, tuple[str, str]] = {}

    def build(self) -> None:
        """Add everything from the token ids to the logits."""
        model, sizes = self._model, self._model.sizes
        self._declare()
        table = (sizes.vocabulary, sizes.hidden)
        residual, head = self._weights.embedding("input_ids", Part("model.embed_tokens", table))
        residual = self._scaled(residual, model.embedding_scale, "embeddings")
        names = [f"model.layers.{i}" for i in range(sizes.layers)]
        value = self._norm(residual, f"{names[0]}.input_layernorm")
        for i, here in enumerate(names):
            after = f"{names[i + 1]}.input_layernorm" if i + 1 < sizes.layers else "model.norm"
            value = self._attention(value, i, f"{here}.self_attn")
            value, residual = self._join(
                value, residual, f"{here}.post_attention_layernorm",
                f"{here}.pre_feedforward_layernorm",
            )  # fmt: skip
            value = self._experts(value, i) if model.routed(i) else self._mlp(value, f"{here}.mlp")
            behind = f"{here}.post_feedforward_layernorm" if model.layout.after_mlp else after
            value, residual = self._join(value, residual, behind, after)
            self._on_layer()
        self._logits(value, head if model.tied else None)

    def _declare(self) -> None:
        """Declare inputs and outputs, and compute the lengths that every layer needs."""
        graph, sizes, kind = self._graph, self._model.sizes, self._weights.float
        graph.input("input_ids", np.int64, ["batch", "tokens"])
        graph.input("attention_mask", np.int64, ["batch", "total"])
        graph.output("logits", kind, ["batch", "rows", sizes.vocabulary])
        for i in range(sizes.layers):
            for part in ("key", "value"):
                shape: list[int | str] = ["batch", sizes.kv_heads, "length", self._head]
                graph.input(f"past_key_values.{i}.{part}", kind, shape)
                graph.output(f"present.{i}.{part}", kind, shape)
        graph.input("num_logits", np.int64, [1])
        graph.constant("num_logits", [1])
        graph.constant("one", [1])
        summed = graph.node("ReduceSum", ["attention_mask", "one"], "mask.sum", keepdims=0)
        last = graph.node("Sub", [summed, "one"], "mask.last")
        graph.node("Cast", [last], "past_lengths", to=6)
        shape_of = graph.node("Shape", ["attention_mask"], "mask.shape")
        total = graph.node("Gather", [shape_of, graph.constant("second", 1)], "mask.total")
        graph.node("Cast", [total], "total_length", to=6)

    # -- norms and residuals ---------------------------------------------------------------

    def _norm_weight(self, name: str) -> str:
        values = self._weights.vector(f"{name}.weight", self._model.sizes.hidden)
        return self._weights.stored_vector(f"{name}.weight", values + self._model.norm.offset)

    def _norm(self, value: str, name: str) -> str:
        inputs = [value, self._norm_weight(name)]
        return self._rms(inputs, name, self._model.norm.epsilon)

    def _rms(self, inputs: list[str], name: str, epsilon: float) -> str:
        return self._graph.node(
            "SimplifiedLayerNormalization", inputs, name, axis=-1, epsilon=epsilon, stash_type=1
        )

    def _join(self, value: str, residual: str, after: str, before: str) -> tuple[str, str]:
        """Add a block's result to the residual; return the next block's input and the sum.

        ``after``: the norm of the block's result in a sandwich, else of the next input.
        """
        if self._model.layout.after_mlp:
            value, after = self._norm(value, after), before
        value = self._scaled(value, self._model.residual_scale, f"{after}.scaled")
        outputs = [after, "", "", f"{after}.residual"]
        self._graph.nodes(
            "SkipSimplifiedLayerNormalization",
            [value, residual, self._norm_weight(after)],
            outputs,
            epsilon=self._model.norm.epsilon,
        )
        return outputs[0], outputs[3]

    def _scaled(self, value: str, factor: float, name: str) -> str:
        if factor == 1.0:
            return value
        constant = self._graph.constant(f"{name}.factor", factor, self._weights.float)
        return self._graph.node("Mul", [value, constant], name)

    # -- attention -------------------------------------------------------------------------

    def _attention(self, value: str, layer: int, here: str) -> str:
        model, sizes = self._model, self._model.sizes
        rope = model.rotation(layer)
        attributes = {"softcap": model.softcap} if model.softcap else {}
        if model.windows[layer]:
            attributes["local_window_size"] = model.windows[layer]
        past, present = f"past_key_values.{layer}", f"present.{layer}"
        outputs = [f"{here}.attended", f"{present}.key", f"{present}.value"]
        self._graph.nodes(
            "GroupQueryAttention",
            [
                *self._projections(value, here),
                f"{past}.key",
                f"{past}.value",
                "past_lengths",
                "total_length",
                *(self._rotation(rope) if rope else NO_ROTATION),
            ],
            outputs,
            num_heads=sizes.heads,
            kv_num_heads=sizes.kv_heads,
            do_rotary=int(rope is not None),
            scale=model.scale,
            **attributes,
        )
        columns = sizes.heads * sizes.head_dim
        part = Part(
            f"{here}.o_proj",
            (sizes.hidden, columns),
            pad_columns(sizes.head_dim, self._head),
            biased=model.biases.output,
        )
        return self._weights.matmul(outputs[0], part.module, [part])

    def _projections(self, value: str, here: str) -> list[str]:
        """Return query, key and value: packed as one where nothing is done to them between."""
        sizes = self._model.sizes
        dim, hidden, biased = sizes.head_dim, sizes.hidden, self._model.biases.qkv
        query, cache = (sizes.heads * dim, hidden), (sizes.kv_heads * dim, hidden)
        if self._model.layout.qkv:
            rows = query[0] + 2 * cache[0]
            whole = Part(f"{here}.qkv_proj", (rows, hidden), biased=biased)
            return [self._weights.matmul(value, whole.module, [whole]), "", ""]
        halves, ends = pad_halves(dim, self._head), pad_ends(dim, self._head)
        parts = [
            Part(f"{here}.q_proj", query, halves, dim, biased),
            Part(f"{here}.k_proj", cache, halves, dim, biased),
            Part(f"{here}.v_proj", cache, ends, dim, biased),
        ]
        if not self._model.head_norm:
            return [self._weights.matmul(value, f"{here}.qkv_proj", parts), "", ""]
        made = [self._weights.matmul(value, part.module, [part]) for part in parts]
        return [
            self._head_norm(made[0], sizes.heads, f"{here}.q_norm"),
            self._head_norm(made[1], sizes.kv_heads, f"{here}.k_norm"),
            made[2],
        ]

    def _head_norm(self, value: str, heads: int, name: str) -> str:
        """Normalise each head; the mean is over the padded size, which weight and epsilon undo."""
        dim, padded = self._model.sizes.head_dim, self._head
        values = self._weights.vector(f"{name}.weight", dim) + self._model.norm.offset
        if arrange := pad_halves(dim, padded):
            values = arrange(values) * np.float32(np.sqrt(dim / padded))
        weight = self._weights.stored_vector(f"{name}.weight", values)
        apart = self._graph.constant(f"{name}.heads", [0, 0, heads, padded])
        together = self._graph.constant(f"{name}.width", [0, 0, heads * padded])
        split = self._graph.node("Reshape", [value, apart], f"{name}.split")
        epsilon = self._model.norm.epsilon * dim / padded
        normed = self._rms([split, weight], f"{name}.normed", epsilon)
        return self._graph.node("Reshape", [normed, together], name)

    def _rotation(self, rope: Rope) -> tuple[str, str]:
        """Return the names of cosines and sines, written when first asked for."""
        if rope not in self._rotations:
            name = f"rotary.{len(self._rotations)}"
            cos, sin = make_rotary(rope).tables(self._positions, self._head // 2)
            self._rotations[rope] = (
                self._weights.stored_vector(f"{name}.cos", cos),
                self._weights.stored_vector(f"{name}.sin", sin),
            )
        return self._rotations[rope]

    # -- the gated MLP and the head --------------------------------------------------------

    def _mlp(self, value: str, here: str) -> str:
        hidden, wide = self._model.sizes.hidden, self._model.sizes.feed_forward
        biased = self._model.biases.mlp
        if self._model.layout.gate_up:
            both = Part(f"{here}.gate_up_proj", (2 * wide, hidden), biased=biased)
            made = self._weights.matmul(value, both.module, [both])
            outputs = [f"{here}.gate", f"{here}.up"]
            gate, up = self._graph.nodes("Split", [made], outputs, axis=-1, num_outputs=2)
        else:
            gate, up = (
                self._weights.matmul(value, name, [Part(name, (wide, hidden), biased=biased)])
                for name in (f"{here}.gate_proj", f"{here}.up_proj")
            )
        name = f"{here}.activated"
        if self._model.activation == GELU:
            active = self._graph.node("Gelu", [gate], name, approximate="tanh")
        else:
            active = self._graph.node("QuickGelu", [gate], name, alpha=1.0)  # x * sigmoid(x)
        product = self._graph.node("Mul", [active, up], f"{here}.product")
        down = Part(f"{here}.down_proj", (hidden, wide), biased=biased)
        return self._weights.matmul(product, down.module, [down])

    def _experts(self, value: str, layer: int) -> str:
        """Add the router, whose scores stay in floats, and the experts that each token uses."""
        model, layout, hidden = self._model, self._model.layout, self._model.sizes.hidden
        experts = model.experts
        assert experts
        here = layout.layer.format(layer)
        router = Part(f"{here}{layout.router}", (experts.count, hidden))
        scores = self._weights.float_matmul(value, router.module, router)
        rows = self._graph.constant(f"{router.module}.rows", [-1, experts.count])
        scores = self._graph.node("Reshape", [scores, rows], f"{router.module}.scores")
        wide, narrow = (experts.size, hidden), (hidden, experts.size)
        names = [f"{here}{layout.expert.format(n)}" for n in range(experts.count)]
        both = [
            [Part(f"{name}{part}", wide) for part in (layout.expert_gate, layout.expert_up)]
            for name in names
        ]
        down = [[Part(f"{name}{layout.expert_down}", narrow)] for name in names]
        return self._weights.experts(value, scores, f"{here}experts", both, down, experts.used)

    def _logits(self, value: str, head: Head | None) -> None:
        """Add the head, for the last tokens only."""
        graph, sizes = self._graph, self._model.sizes
        first = graph.node("Neg", ["num_logits"], "rows.first")
        end = graph.constant("rows.end", [np.iinfo(np.int64).max])
        rows = graph.node("Slice", [value, first, end, "one"], "rows")
        rows = self._scaled(rows, 1 / self._model.logits_divisor, "rows.scaled")
        cap = self._model.final_softcap
        rows = self._scaled(rows, 1 / cap if cap else 1.0, "rows.uncapped")
        name = "logits.uncapped" if cap else "logits"
        if head:
            made = head(rows, name)
        else:
            module = "model.embed_tokens" if self._model.tied else "lm_head"
            table = Part(module, (sizes.vocabulary, sizes.hidden))
            made = self._weights.matmul(rows, name, [table], head=True)
        if cap:
            bounded = graph.node("Tanh", [made], "logits.bounded")
            graph.node("Mul", [bounded, graph.constant("cap", cap, self._weights.float)], "logits")
