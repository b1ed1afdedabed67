"""A reference forward pass of a checkpoint in float32, layer by layer, in plain numpy.

What an artifact is verified against. Reads the checkpoint's own tensors under their own names,
so that a mistake in the conversion cannot repeat itself here. Memory: one layer at a time.

Llama (Touvron et al. 2023), grouped-query attention (Ainslie et al. 2023), rotary embedding by
halves as in transformers, and the families of ``COVERED`` that vary it: norms of queries and keys,
layers without rotation, multipliers, norms after instead of before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pitool.checkpoint.config import Config
from pitool.checkpoint.source import Checkpoint
from pitool.checkpoint.tensors import to_float32
from pitool.errors import BadInput

Array = NDArray[np.float32]
HEAD_SLAB = 64 << 20


# The families whose forward pass this is, and what transformers assumes for a missing setting.
COVERED: dict[str, dict[str, Any]] = {
    "granite": {},
    "llama": {},
    "mistral": {},
    "olmo2": {},
    "qwen2": {},
    "qwen3": {"head_dim": 128},
    "smollm3": {"tie_word_embeddings": True, "rope_theta": 2_000_000.0},
}
# Norms before attention and MLP; OLMo 2 has them after, before the sum.
INPUT, MIDDLE, AFTER = (
    f"{name}_layernorm.weight" for name in ("input", "post_attention", "post_feedforward")
)


def covers(config: Config) -> bool:
    """Tell whether the forward pass is that of the checkpoint's family."""
    return config.model_type in COVERED


OnInput = Callable[[str, Array], object]
"""Hears of a matrix of the layer, such as ``self_attn.q_proj``, and of its input (tokens, in)."""


def _unheard(_name: str, _input: Array) -> None:
    pass


class Forward:
    """The forward pass in steps: ``embed``, ``layer`` for each layer, ``logits``.

    Weights of a layer are handed to it, so that it can be run with others than the checkpoint's.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        defaults = COVERED[checkpoint.config.model_type]
        config = Config({**defaults, **checkpoint.config.values}, checkpoint.config.path)
        self._checkpoint, self._config = replace(checkpoint, config=config), config
        self.layers = config.count("num_hidden_layers")

    def weights(self, i: int) -> dict[str, Array]:
        """Return the tensors of layer ``i``, without ``prefix(i)`` in their names."""
        return {
            name.removeprefix(prefix(i)): tensor.float32()
            for name, tensor in self._checkpoint.tensors.items()
            if name.startswith(prefix(i))
        }

    def embed(self, ids: Sequence[int]) -> Array:
        """Return the first layer's input, shape (tokens, hidden)."""
        scale = np.float32(self._config.number("embedding_multiplier", 1.0))
        return _embed(self._checkpoint, ids) * scale

    def layer(
        self, i: int, weights: dict[str, Array], hidden: Array, on_input: OnInput = _unheard
    ) -> Array:
        """Return the output of layer ``i`` for its input, both of shape (tokens, hidden)."""
        turn = _rotation(self._config, len(hidden))
        if not _turned(self._config, i):
            turn = np.ones_like(turn[0]), np.zeros_like(turn[1])
        layer = _Layer(self._config, weights, on_input)
        return layer.forward(hidden, turn)

    def logits(self, hidden: Array) -> Array:
        """Return the logits for the last layer's output, shape (tokens, vocabulary)."""
        norm = self._checkpoint.tensors["model.norm.weight"].float32()
        hidden = _rms_norm(hidden, norm, self._config.number("rms_norm_eps", 1e-6))
        scale = np.float32(self._config.number("logits_scaling", 1.0))
        return _head(self._checkpoint, hidden) / scale


def prefix(i: int) -> str:
    """Return what the names of the tensors of layer ``i`` begin with."""
    return f"model.layers.{i}."


def reference_logits(
    checkpoint: Checkpoint,
    ids: Sequence[int],
    on_layer: Callable[[int, int], None] = lambda _done, _all: None,
) -> Array:
    """Return the logits after each token, shape (tokens, vocabulary), float32."""
    forward = Forward(checkpoint)
    hidden = forward.embed(ids)
    for i in range(forward.layers):
        hidden = forward.layer(i, forward.weights(i), hidden)
        on_layer(i + 1, forward.layers)
    return forward.logits(hidden)


def _turned(config: Config, i: int) -> bool:
    """Tell whether layer ``i`` rotates: SmolLM3 leaves some layers without positions."""
    if config.model_type != "smollm3":
        return True
    turned = config.values.get("no_rope_layers")  # 1 for those that do rotate
    if turned:
        return bool(turned[i])
    return (i + 1) % config.count("no_rope_layer_interval", 4) != 0


class _Layer:
    """One layer: its weights, and who hears of their inputs."""

    def __init__(self, config: Config, weights: dict[str, Array], on_input: OnInput) -> None:
        self._config, self._weights, self._on_input = config, weights, on_input
        self._epsilon = config.number("rms_norm_eps", 1e-6)

    def forward(self, x: Array, turn: tuple[Array, Array]) -> Array:
        share = np.float32(self._config.number("residual_multiplier", 1.0))
        if INPUT not in self._weights:
            x = x + self._norm(self._attention(x, *turn), MIDDLE)
            return x + self._norm(self._mlp(x), AFTER)
        x = x + share * self._attention(self._norm(x, INPUT), *turn)
        return x + share * self._mlp(self._norm(x, MIDDLE))

    def _norm(self, x: Array, name: str) -> Array:
        return _rms_norm(x, self._weights[name], self._epsilon)

    def _linear(self, name: str, x: Array) -> Array:
        self._on_input(name, x)
        y = x @ self._weights[f"{name}.weight"].T
        bias = self._weights.get(f"{name}.bias")
        return y if bias is None else y + bias

    def _attention(self, x: Array, cos: Array, sin: Array) -> Array:
        tokens = len(x)
        heads = self._config.count("num_attention_heads")
        kv_heads = self._config.count("num_key_value_heads", heads)
        dim = cos.shape[-1] * 2

        def split(part: str, count: int) -> Array:
            y = self._linear(f"self_attn.{part}_proj", x)
            weight = self._weights.get(f"self_attn.{part}_norm.weight")
            if weight is not None:  # over each head (Qwen3) or over all of them (OLMo 2)
                y = _rms_norm(y.reshape(tokens, -1, len(weight)), weight, self._epsilon)
            return y.reshape(tokens, count, dim).swapaxes(0, 1)

        q, k = (_rotate(split(p, c), cos, sin) for p, c in (("q", heads), ("k", kv_heads)))
        v = split("v", kv_heads)
        k, v = (np.repeat(a, heads // kv_heads, axis=0) for a in (k, v))
        scale = self._config.number("attention_multiplier", dim**-0.5)
        scores = q @ k.swapaxes(1, 2) * np.float32(scale)
        scores = np.where(np.tri(tokens, dtype=bool), scores, -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        mixed = (weights @ v).swapaxes(0, 1).reshape(tokens, heads * dim)
        return self._linear("self_attn.o_proj", mixed.astype(np.float32))

    def _mlp(self, x: Array) -> Array:
        gate = self._linear("mlp.gate_proj", x)
        with np.errstate(over="ignore"):
            gate = gate / (1 + np.exp(-gate))
        return self._linear("mlp.down_proj", gate * self._linear("mlp.up_proj", x))


def _shared_names(checkpoint: Checkpoint) -> tuple[str, str]:
    """Return the names of embedding and head; a tied checkpoint may hold only either."""
    tied = checkpoint.config.flag("tie_word_embeddings", default=False)
    embedding = "model.embed_tokens.weight"
    if embedding not in checkpoint.tensors and tied:
        embedding = "lm_head.weight"
    return embedding, embedding if tied else "lm_head.weight"


def _embed(checkpoint: Checkpoint, ids: Sequence[int]) -> Array:
    table = checkpoint.tensors[_shared_names(checkpoint)[0]]
    rows: dict[int, Array] = {}
    wanted, first = set(ids), 0
    for slab in table.slabs(HEAD_SLAB):
        for i in wanted & set(range(first, first + len(slab))):
            rows[i] = to_float32(slab[i - first], table.kind)
        first += len(slab)
    return np.stack([rows[i] for i in ids])


def _head(checkpoint: Checkpoint, hidden: Array) -> Array:
    table = checkpoint.tensors[_shared_names(checkpoint)[1]]
    parts = [hidden @ to_float32(slab, table.kind).T for slab in table.slabs(HEAD_SLAB)]
    return np.concatenate(parts, axis=1)


def _rms_norm(x: Array, weight: Array, epsilon: float) -> Array:
    scale = 1 / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + np.float32(epsilon))
    normed: Array = (x * scale * weight).astype(np.float32)
    return normed


def _rotate(x: Array, cos: Array, sin: Array) -> Array:
    """Rotate the two halves of each head, shape (heads, tokens, head_dim)."""
    a, b = np.split(x, 2, axis=-1)
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def _rotation(config: Config, tokens: int) -> tuple[Array, Array]:
    """Return cosines and sines by position, shape (tokens, head_dim / 2)."""
    heads = config.count("num_attention_heads")
    dim = config.count("head_dim", config.count("hidden_size") // heads)
    rope = config.rope()
    frequency = rope.theta ** -(np.arange(0, dim, 2, dtype=np.float64) / dim)
    scale = 1.0
    match rope.kind:
        case "default" | "dynamic":  # the same up to the trained context
            pass
        case "linear":
            frequency /= rope.values["factor"]
        case "llama3":
            frequency = _llama3(frequency, rope.values)
        case "yarn":
            frequency, scale = _yarn(config, frequency, rope.theta, rope.values)
        case kind:
            raise BadInput(
                f"{config.path}: rope scaling {kind!r} has no reference", "convert without it"
            )
    angles = np.outer(np.arange(tokens), frequency)
    return (np.cos(angles) * scale).astype(np.float32), (np.sin(angles) * scale).astype(np.float32)


def _llama3(frequency: NDArray[np.float64], values: dict[str, float]) -> NDArray[np.float64]:
    original, low, high = (
        values[key]
        for key in ("original_max_position_embeddings", "low_freq_factor", "high_freq_factor")
    )
    turns = original * frequency / (2 * np.pi)
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    return frequency * (smooth + (1 - smooth) / values["factor"])


def _yarn(
    config: Config, frequency: NDArray[np.float64], theta: float, values: dict[str, float]
) -> tuple[NDArray[np.float64], float]:
    """YaRN (Peng et al. 2023): blend of interpolation and extrapolation, and attention scale."""
    dim = len(frequency) * 2
    factor = values["factor"]
    original = values.get("original_max_position_embeddings") or config.count(
        "max_position_embeddings"
    )

    def dimension(turns: float) -> float:
        return float(dim * np.log(original / (turns * 2 * np.pi)) / (2 * np.log(theta)))

    low = max(np.floor(dimension(values.get("beta_fast") or 32)), 0)
    high = min(np.ceil(dimension(values.get("beta_slow") or 1)), dim - 1)
    ramp = np.clip((np.arange(dim // 2) - low) / max(high - low, 1e-3), 0, 1)
    scale = values.get("attention_factor") or 0.1 * np.log(factor) + 1
    return frequency * (1 - ramp) + frequency / factor * ramp, float(scale)
