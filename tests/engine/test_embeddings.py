"""Vectors of a decoder: from a context of their own, whatever a conversation has in its cache."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pitool.engine.base import Sampling, Settings
from pitool.engine.llamacpp import LlamaCpp, embedder
from pitool.errors import BadInput, DoesNotFit

pytestmark = pytest.mark.engine

SETTINGS = Settings(context=256, decode_threads=1, prefill_threads=1)
TEXTS = ["The quick brown fox", "A Raspberry Pi has 4 cores. " * 12, "x"]


@pytest.fixture(scope="module")
def engine(tiny_gguf: Path) -> Iterator[LlamaCpp]:
    opened = LlamaCpp(tiny_gguf, SETTINGS)
    yield opened
    opened.close()


def test_each_text_has_a_vector_of_length_one_and_its_count(engine: LlamaCpp) -> None:
    found = engine.embed(TEXTS)
    assert found.vectors.shape == (3, engine.info.embedding)
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, atol=1e-6)
    assert found.tokens == tuple(len(engine.tokenize(text)) for text in TEXTS)
    assert found.tokens[1] > embedder.STEP
    alone = [engine.embed([text]).vectors[0] for text in TEXTS]
    np.testing.assert_allclose(found.vectors, alone, atol=1e-5)


@pytest.mark.parametrize("pooling", [None, embedder._MEAN, embedder._CLS])
def test_a_long_text_has_the_same_vector_in_parts(
    engine: LlamaCpp, monkeypatch: pytest.MonkeyPatch, pooling: int | None
) -> None:
    monkeypatch.setattr(engine._embedder, "_pooling", pooling)
    whole = engine.embed(TEXTS).vectors
    monkeypatch.setattr(embedder, "STEP", 16)
    np.testing.assert_allclose(engine.embed(TEXTS).vectors, whole, atol=5e-3)


def test_pooling_takes_the_tokens_that_it_names(
    engine: LlamaCpp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a causal model gives for a token depends on those before it only."""
    ids = engine.tokenize(TEXTS[0])

    def vector(pooling: int | None, count: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        monkeypatch.setattr(engine._embedder, "_pooling", pooling)
        made: np.ndarray[tuple[int], np.dtype[np.float32]] = engine.embed([ids[:count]]).vectors[0]
        return made

    last = [vector(None, count) for count in range(1, len(ids) + 1)]
    np.testing.assert_allclose(vector(embedder._CLS, len(ids)), last[0], atol=1e-3)
    assert abs(float(last[0] @ last[-1])) < 0.99
    assert float(vector(embedder._MEAN, 1) @ last[0]) > 0.999


def test_a_conversation_keeps_its_cache(engine: LlamaCpp) -> None:
    prompt = engine.tokenize("The quick brown fox jumps")
    list(engine.stream(prompt, Sampling(temperature=0, max_tokens=2)))
    engine.embed(TEXTS)
    again = list(engine.stream(prompt, Sampling(temperature=0, max_tokens=2)))
    assert again[-1].timings.reused_tokens == len(prompt) - 1


def test_what_cannot_be_embedded_is_said(engine: LlamaCpp) -> None:
    with pytest.raises(DoesNotFit, match="256"):
        engine.embed(["cores " * 300])
    with pytest.raises(BadInput, match="empty"):
        engine.embed([""])
    assert engine.embed([]).vectors.shape == (0, engine.info.embedding)
