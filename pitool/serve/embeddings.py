"""Vectors of texts, for both interfaces."""

from __future__ import annotations

from collections.abc import Sequence

from pitool.engine.base import Embeddings, ModelInfo
from pitool.errors import UsageError
from pitool.serve.turns import Turn

MOST_TEXTS = 2048


def check_dimensions(info: ModelInfo, wanted: int | None) -> None:
    """Raise UsageError where vectors of another length are wanted than the model gives."""
    if wanted is not None and wanted != info.embedding:
        raise UsageError(f"'dimensions' is {wanted}", f"drop it: vectors have {info.embedding}")


async def embed(turn: Turn, texts: Sequence[str | Sequence[int]]) -> Embeddings:
    """Return a vector for each text or its token ids; UsageError of a model that gives none."""
    return await turn.call(lambda engine: engine.embed(texts))
