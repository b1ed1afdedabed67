"""The layers of a float32 forward pass that have a recurrent state instead of attention.

In their recurrent form, token by token, as their papers define them: slow and plain. Names of
tensors are the checkpoint's.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pitool.architectures.description import (
    DeltaNet,
    Description,
    Mamba2,
    Norm,
    ShortConvolution,
)
from pitool.convert.numpy_parts import ACTIVATIONS, Array, normed, sigmoid, silu

Linear = Callable[[str, Array], Array]
"""Multiplies a matrix of the layer, such as ``conv.in_proj``, with its input (tokens, in)."""
Weight = Callable[[str], Array]
# Added to the square of a key's or query's length.
LENGTH_EPSILON = 1e-6


def output_of(recurrence: ShortConvolution | DeltaNet | Mamba2 | None) -> str:
    """Return the matrix that gives the result of a recurrent layer's state."""
    match recurrence:
        case DeltaNet():
            return "linear_attn.out_proj"
        case Mamba2():
            return "mamba.out_proj"
    return "conv.out_proj"


def short_convolution(x: Array, linear: Linear, weight: Weight) -> Array:
    """Return what LFM2's gates before and after a convolution make of (tokens, hidden)."""
    before, after, y = np.split(linear("conv.in_proj", x), 3, axis=1)
    return linear(output_of(None), after * convolved(before * y, weight("conv.conv.weight")))


def convolved(x: Array, taps: Array) -> Array:
    """Return each column of (tokens, channels) by its taps (channels, 1, taps), the last on it."""
    count = taps.shape[-1]
    padded = np.pad(x, ((count - 1, 0), (0, 0)))
    rows = (padded[i : i + len(x)] * taps[:, 0, i] for i in range(count))
    total: Array = np.sum(list(rows), axis=0, dtype=np.float32)
    return total


def delta_net(model: Description, x: Array, linear: Linear, weight: Weight) -> Array:
    """Return what the gated delta rule (Yang et al. 2024) makes of (tokens, hidden)."""
    net, here = model.recurrence, "linear_attn"
    assert isinstance(net, DeltaNet)
    mixed = convolved(linear(f"{here}.in_proj_qkv", x), weight(f"{here}.conv1d.weight"))
    mixed = ACTIVATIONS[model.activation](mixed)
    q, k, v = np.split(mixed, [net.keys, 2 * net.keys], axis=1)
    q, k = (_unit(a.reshape(len(x), net.key_heads, net.key_dim)) for a in (q, k))
    q, k = (np.repeat(a, net.value_heads // net.key_heads, axis=1) for a in (q, k))
    v = v.reshape(len(x), net.value_heads, net.value_dim)
    rate = sigmoid(linear(f"{here}.in_proj_b", x))
    step = np.logaddexp(0, linear(f"{here}.in_proj_a", x) + weight(f"{here}.dt_bias"))
    decay = np.exp(-np.exp(weight(f"{here}.A_log")) * step)
    y = _delta_rule(q * np.float32(net.key_dim**-0.5), k, v, decay, rate)
    y = normed(y, weight(f"{here}.norm.weight"), None, Norm(model.norm.epsilon))
    gate = silu(linear(f"{here}.in_proj_z", x)).reshape(v.shape)
    return linear(output_of(net), (y * gate).reshape(len(x), net.values))


def mamba2(model: Description, x: Array, linear: Linear, weight: Weight) -> Array:
    """Return what Mamba-2 (Dao and Gu 2024) makes of (tokens, hidden)."""
    net, here = model.recurrence, "mamba"
    assert isinstance(net, Mamba2)
    gate, mixed, step = np.split(
        linear(f"{here}.in_proj", x), [net.inner, net.inner + net.channels], axis=1
    )
    mixed = convolved(mixed, weight(f"{here}.conv1d.weight")) + weight(f"{here}.conv1d.bias")
    mixed = ACTIVATIONS[model.activation](mixed)
    sizes = [net.inner, net.inner + net.groups * net.state]
    u, written, read = np.split(mixed, sizes, axis=1)
    u = u.reshape(len(x), net.heads, net.head_dim)
    written, read = (
        np.repeat(a.reshape(len(x), net.groups, net.state), net.heads // net.groups, axis=1)
        for a in (written, read)
    )
    step = np.logaddexp(0, step + weight(f"{here}.dt_bias"))
    decay = np.exp(-np.exp(weight(f"{here}.A_log")) * step)
    y = _scan(u * step[..., None], written, read, decay) + u * weight(f"{here}.D")[:, None]
    y = y.reshape(len(x), net.inner) * silu(gate)
    y = normed(y, weight(f"{here}.norm.weight"), None, Norm(model.norm.epsilon))
    return linear(output_of(net), y)


def _scan(u: Array, written: Array, read: Array, decay: Array) -> Array:
    """Return what each head reads of its state, shape (tokens, heads, head size)."""
    state = np.zeros((*u.shape[1:], written.shape[-1]), np.float32)
    y = np.empty_like(u)
    for t in range(len(u)):
        state = state * decay[t, :, None, None] + u[t, :, :, None] * written[t, :, None]
        y[t] = np.einsum("hdn,hn->hd", state, read[t])
    return y


def _unit(x: Array) -> Array:
    y: Array = x / np.sqrt(np.sum(x * x, axis=-1, keepdims=True) + np.float32(LENGTH_EPSILON))
    return y


def _delta_rule(q: Array, k: Array, v: Array, decay: Array, rate: Array) -> Array:
    """Return what each head reads of its state, shape (tokens, heads, value size).

    The state, which has a row of values for each number of a key, decays; what it answers to the
    key is then moved towards the value by the rate.
    """
    state = np.zeros((q.shape[1], q.shape[2], v.shape[2]), np.float32)
    read = np.empty_like(v)
    for t in range(len(q)):
        state = state * decay[t, :, None, None]
        known = np.einsum("hk,hkv->hv", k[t], state)
        change = (v[t] - known) * rate[t, :, None]
        state = state + k[t, :, :, None] * change[:, None]
        read[t] = np.einsum("hk,hkv->hv", q[t], state)
    return read
