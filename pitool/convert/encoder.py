"""An encoder's artifacts against its checkpoint: by the directions of the vectors of some texts.

The checkpoint's are computed here in float32, from its own tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from pitool.architectures.bert import pooling
from pitool.architectures.description import Description
from pitool.architectures.table import describe
from pitool.catalog.tensor_types import Quantisation
from pitool.checkpoint.source import Checkpoint
from pitool.convert.conversion import Conversion
from pitool.convert.numpy_parts import ACTIVATIONS
from pitool.errors import PitoolError
from pitool.report.numbers import format_fixed

TEXTS = (
    "A cat sits on the mat.",
    "Der schnelle braune Fuchs springt über den faulen Hund.",
    'naïve café résumé, "quotes", 1,234.56!',
    "Raspberry Pi 5 has 8 GB of RAM and a quad-core Cortex-A76 at 2.4 GHz.",
)
LEAST = 0.999
"""Cosine of a float artifact's vector and the checkpoint's."""
LEAST_QUANTISED = 0.8
_MEAN, _LAST = 1, 3

Array = NDArray[np.float32]


def compare(work: Conversion, path: Path, kind: Quantisation) -> float:
    """Return the least cosine between vectors of a GGUF and those of the checkpoint.

    PitoolError where it is less than rounding explains, or its tokens are not the tokenizer's.
    """
    work.progress.stage(f"verifying {kind.name}", len(TEXTS))
    model = Encoder(work.checkpoint)
    least = 1.0
    with work.tokens.open(path, 256) as opened:
        engine = cast(Any, opened)
        for text in TEXTS:
            found = engine.embed([text]).vectors[0]
            cosine = float(found @ model.vector(work.tokens.whole(text)))
            least = min(least, cosine)
            if cosine < (LEAST_QUANTISED if kind.quantised else LEAST):
                raise PitoolError(
                    f"{kind.name} gives other vectors than the checkpoint: their cosine is"
                    f" {format_fixed(cosine, 4)}, less than rounding explains",
                    "report this model: it was not converted correctly",
                )
            work.progress.advance(1)
    return round(least, 6)


class Encoder:
    """BERT's forward pass (Devlin et al. 2018) on a checkpoint, in float32."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._model: Description = describe(checkpoint.config)
        self._pooling = pooling(checkpoint.folder)

    def vector(self, ids: Sequence[int]) -> Array:
        """Return the vector of a text's tokens, of length 1."""
        x = self.tokens(ids)
        if self._pooling in (_MEAN, None):
            pooled = x.mean(axis=0)
        else:
            pooled = x[-1 if self._pooling == _LAST else 0]
        vector: Array = pooled / np.linalg.norm(pooled)
        return vector

    def tokens(self, ids: Sequence[int]) -> Array:
        """Return what the last layer gives, shape (tokens, hidden)."""
        layout, sizes = self._model.layout, self._model.sizes
        words = self._read(f"{layout.embedding}.weight", sizes.vocabulary, sizes.hidden)
        places = self._read(f"{layout.positions}.weight", sizes.context, sizes.hidden)
        kinds = self._read("embeddings.token_type_embeddings.weight", 2, sizes.hidden)
        x = self._norm(words[list(ids)] + places[: len(ids)] + kinds[0], layout.norm)
        for i in range(sizes.layers):
            x = self._layer(x, layout.layer.format(i))
        return x

    def _layer(self, x: Array, here: str) -> Array:
        layout, sizes = self._model.layout, self._model.sizes
        hidden, wide = sizes.hidden, sizes.feed_forward
        q, k, v = (
            self._linear(x, f"{here}{name}", hidden, hidden)
            .reshape(len(x), sizes.heads, sizes.head_dim)
            .swapaxes(0, 1)
            for name in (layout.query, layout.key, layout.value)
        )
        scores = q @ k.swapaxes(1, 2) / np.float32(sqrt(sizes.head_dim))
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed = (shares / shares.sum(axis=-1, keepdims=True) @ v).swapaxes(0, 1)
        attended = self._linear(
            mixed.reshape(len(x), hidden), f"{here}{layout.output}", hidden, hidden
        )
        x = self._norm(x + attended, f"{here}{layout.after_attention}")
        inner = ACTIVATIONS[self._model.activation](
            self._linear(x, f"{here}{layout.up}", wide, hidden)
        )
        made = self._linear(inner, f"{here}{layout.down}", hidden, wide)
        return self._norm(x + made, f"{here}{layout.after_mlp}")

    def _linear(self, x: Array, name: str, rows: int, columns: int) -> Array:
        weight = self._read(f"{name}.weight", rows, columns)
        made: Array = x @ weight.T + self._read(f"{name}.bias", rows)
        return made

    def _norm(self, x: Array, name: str) -> Array:
        size = self._model.sizes.hidden
        centred = x - x.mean(axis=-1, keepdims=True)
        spread = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + self._model.norm.epsilon)
        weight, bias = self._read(f"{name}.weight", size), self._read(f"{name}.bias", size)
        made: Array = centred / spread * weight + bias
        return made

    def _read(self, name: str, *shape: int) -> Array:
        return self._checkpoint.weight([name, f"bert.{name}"], shape).float32()
