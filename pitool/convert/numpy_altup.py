"""AltUp and Laurel of a float32 forward pass: several streams of the residual, one computed.

AltUp (Baykal et al. 2023), as Gemma 3n has it; names of tensors are the checkpoint's. Streams have
the shape (streams, tokens, hidden); the first is computed, the others follow it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pitool.architectures.description import AltUp, Description
from pitool.convert.numpy_parts import Array, normed

Linear = Callable[[str, Array], Array]
Weight = Callable[[str], Array]
# The least square of a length that a stream is divided by.
LEAST_SQUARE = np.float32(1e-5)


def spread(x: Array, projections: list[Array]) -> Array:
    """Return the streams of (tokens, hidden): itself, and its products at the same length."""
    length = _length(x, 0)
    return np.stack([x, *(_scaled(x @ matrix.T, length) for matrix in projections)])


def merged(streams: Array, projections: list[Array]) -> Array:
    """Return the mean of the first stream and of the others' products at its length."""
    length = _length(streams[0], 0)
    pairs = zip(streams[1:], projections, strict=True)
    each = [streams[0], *(_scaled(x @ matrix.T, length) for x, matrix in pairs)]
    mean: Array = np.mean(each, axis=0, dtype=np.float32)
    return mean


def _length(x: Array, least: float | np.float32) -> Array:
    length: Array = np.sqrt(np.maximum(np.mean(x * x, axis=-1, keepdims=True), least))
    return length


def _scaled(x: Array, length: Array) -> Array:
    return x * length / _length(x, LEAST_SQUARE)


def predicted(streams: Array, model: Description, linear: Linear, weight: Weight) -> Array:
    """Return what each stream is before the layer: itself, and a mixture of all."""
    _, tokens, _ = streams.shape
    routed = _routed(streams[0], model, linear, weight)
    mixture = linear("altup.prediction_coefs", routed).reshape(tokens, len(streams), len(streams))
    mixed: Array = streams + np.einsum("tij,jth->ith", mixture, streams)
    return mixed


def corrected(
    streams: Array, computed: Array, model: Description, linear: Linear, weight: Weight
) -> Array:
    """Return the predicted streams, each moved by its share of what the computed one moved."""
    altup = model.altup
    assert isinstance(altup, AltUp)
    routed = _routed(computed, model, linear, weight)
    shares = np.clip(weight("altup.correction_coefs.weight"), -altup.clip, altup.clip)
    moved = (routed @ shares.T + 1).T[:, :, None] * (computed - streams[0])
    total: Array = streams + moved
    return total


def _routed(x: Array, model: Description, linear: Linear, weight: Weight) -> Array:
    scaled = normed(x, weight("altup.router_norm.weight"), None, model.norm)
    routed: Array = np.tanh(linear("altup.modality_router", scaled / np.float32(x.shape[-1])))
    return routed


def laurel(x: Array, model: Description, linear: Linear, weight: Weight) -> Array:
    """Return (tokens, hidden) with its product of low rank beside it."""
    product = linear("laurel.linear_right", linear("laurel.linear_left", x))
    return x + normed(product, weight("laurel.post_laurel_norm.weight"), None, model.norm)
