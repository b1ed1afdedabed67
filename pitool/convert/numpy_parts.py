"""The parts of a float32 forward pass that know no weights: norms, activations, rotations, masks.

Owns the arithmetic of ``numpy_forward``; every rotation is computed here from a description's
numbers, apart from what any writer stores. Never reads a tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from pitool.architectures.description import Norm
from pitool.architectures.rope import Dynamic, Linear, Llama3, LongRope, Proportional, Rope, Yarn

Array = NDArray[np.float32]
Wide = NDArray[np.float64]


def normed(x: Array, weight: Array, bias: Array | None, norm: Norm) -> Array:
    """Return ``x`` normalised over its last axis."""
    if norm.layer:
        x = x - x.mean(axis=-1, keepdims=True)
    scale = 1 / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + np.float32(norm.epsilon))
    y = x * scale * (weight + np.float32(norm.offset))
    normed: Array = (y if bias is None else y + bias).astype(np.float32)
    return normed


def capped(x: Array, cap: float) -> Array:
    """Return scores or logits bounded by ``cap``, as they are for 0."""
    return np.tanh(x / np.float32(cap)) * np.float32(cap) if cap else x


def visible(tokens: int, window: int) -> NDArray[np.bool_]:
    """Tell which tokens (columns) each token (rows) attends to: itself, and those before it."""
    visible = np.tri(tokens, dtype=bool)
    return visible & ~np.tri(tokens, k=-window, dtype=bool) if window else visible


def softmax(x: Array) -> Array:
    """Return shares over the last axis."""
    shares: Array = np.exp(x - x.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    return shares


def sigmoid(x: Array) -> Array:
    """Return the logistic function."""
    with np.errstate(over="ignore"):
        y: Array = np.float32(1) / (np.float32(1) + np.exp(-x))
    return y


def silu(x: Array) -> Array:
    """Return each number times its logistic function."""
    with np.errstate(over="ignore"):
        y: Array = x / (1 + np.exp(-x))
    return y


def _gelu_tanh(x: Array) -> Array:
    inner = np.float32(np.sqrt(2 / np.pi)) * (x + np.float32(0.044715) * x**3)
    y: Array = x * np.float32(0.5) * (1 + np.tanh(inner))
    return y


def _gelu(x: Array) -> Array:
    y: Array = (x * 0.5 * (1 + _erf(x.astype(np.float64) / np.sqrt(2)))).astype(np.float32)
    return y


# Numerical Recipes, 6.2: the complementary error function to 1.2e-7 of its value everywhere.
_ERFC = (
    -1.26551223, 1.00002368, 0.37409196, 0.09678418, -0.18628806, 0.27886807, -1.13520398,
    1.48851587, -0.82215223, 0.17087277,
)  # fmt: skip


def _erf(x: Wide) -> Wide:
    t = 1 / (1 + 0.5 * np.abs(x))
    complement = t * np.exp(np.polynomial.polynomial.polyval(t, _ERFC) - x * x)
    return np.where(x >= 0, 1 - complement, complement - 1)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "silu": silu,
    "gelu": _gelu,
    "gelu_pytorch_tanh": _gelu_tanh,
}


def xielu(
    x: Array,
    alpha_p: Array,
    alpha_n: Array,
    stored_beta: Array | None,
    stored_epsilon: Array | None,
) -> Array:
    """Return xIELU (Huang and Schlag 2024): quadratic above 0, an exponential below.

    A number that is not stored is transformers': beta a half, epsilon -1e-6 in bfloat16.
    """
    beta = np.asarray(0.5 if stored_beta is None else stored_beta, np.float32)
    least = -9.98377799987793e-07 if stored_epsilon is None else stored_epsilon
    epsilon = np.asarray(least, np.float32)
    above, below = np.logaddexp(0, alpha_p), beta + np.logaddexp(0, alpha_n)
    curve = np.expm1(np.minimum(x, epsilon)) - x
    y: Array = np.where(x > 0, above * x * x, below * curve) + beta * x
    return y.astype(np.float32)


def clamped(gate: Array, up: Array, alpha: float, limit: float) -> Array:
    """Return gpt-oss's gated numbers: both are bounded, and ``up`` is one more than it says."""
    gate, up = np.minimum(gate, np.float32(limit)), np.clip(up, -limit, limit)
    y: Array = (up + 1) * gate * sigmoid(np.float32(alpha) * gate)
    return y


def cut(x: Array, share: float) -> Array:
    """Return what of each row lies above the ``share`` of a normal distribution like its own."""
    bound = x.mean(-1, keepdims=True) + x.std(-1, keepdims=True) * NormalDist().inv_cdf(share)
    y: Array = np.maximum(x - bound, 0).astype(np.float32)
    return y


def rotate(x: Array, cos: Array, sin: Array, *, neighbours: bool = False) -> Array:
    """Rotate the first numbers of each head, shape (tokens, heads, head_dim).

    Their two halves with each other, or ``neighbours``.
    """
    turned, rest = x[..., : 2 * cos.shape[-1]], x[..., 2 * cos.shape[-1] :]
    a, b = (turned[..., ::2], turned[..., 1::2]) if neighbours else np.split(turned, 2, axis=-1)
    cos, sin = cos[:, None], sin[:, None]
    pair = (a * cos - b * sin, b * cos + a * sin)
    both = np.stack(pair, axis=-1).reshape(turned.shape) if neighbours else np.concatenate(pair, -1)
    return np.concatenate([both, rest], axis=-1)


def angles(rope: Rope, tokens: int) -> tuple[Array, Array]:
    """Return cosines and sines by position, shape (tokens, numbers rotated / 2)."""
    frequency = rope.theta ** -(np.arange(0, rope.dim, 2, dtype=np.float64) / rope.dim)
    scale = 1.0
    match rope.scaling:
        case None | Dynamic():  # the same up to the trained context
            pass
        case Linear(factor):
            frequency /= factor
        case Proportional(pairs, factor):
            frequency = np.where(np.arange(len(frequency)) < pairs, frequency / factor, 0)
        case Llama3() as llama3:
            frequency = _llama3(frequency, llama3)
        case Yarn() as yarn:
            frequency, scale = _yarn(frequency, rope.theta, yarn), yarn.attention
        case LongRope() as longrope:
            beyond = tokens > longrope.original
            frequency = frequency / np.array(longrope.long if beyond else longrope.short)
            scale = longrope.attention
    angles = np.outer(np.arange(tokens), frequency)
    return (np.cos(angles) * scale).astype(np.float32), (np.sin(angles) * scale).astype(np.float32)


def _llama3(frequency: Wide, scaling: Llama3) -> Wide:
    turns = scaling.original * frequency / (2 * np.pi)
    smooth = np.clip((turns - scaling.low) / (scaling.high - scaling.low), 0, 1)
    return frequency * (smooth + (1 - smooth) / scaling.factor)


def _yarn(frequency: Wide, theta: float, yarn: Yarn) -> Wide:
    """YaRN (Peng et al. 2023): blend of interpolation and extrapolation."""
    dim = len(frequency) * 2

    def dimension(turns: float) -> float:
        return float(dim * np.log(yarn.original / (turns * 2 * np.pi)) / (2 * np.log(theta)))

    low, high = dimension(yarn.beta_fast or 32), dimension(yarn.beta_slow or 1)
    if yarn.truncate:
        low, high = np.floor(low), np.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    ramp = np.clip((np.arange(dim // 2) - low) / (high - low or 1e-3), 0, 1)
    blended: Wide = frequency * (1 - ramp) + frequency / yarn.factor * ramp
    return blended
