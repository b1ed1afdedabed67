"""Vectors of texts: by an encoder such as BERT, or from what a decoder would answer by.

An encoder reads a text as a whole, and llama.cpp pools its tokens. A decoder gets a small context
for each request, so that the caches of its conversations stay as they are.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pitool.engine.base import Embeddings, Settings, Task
from pitool.engine.llamacpp.library import CancelFlag, llama_cpp
from pitool.errors import BadInput, DoesNotFit, PitoolError

STEP = 64
"""Tokens of a decoder at once: each of them costs the room of a row of logits."""
_MEAN, _CLS, _LAST = 1, 2, 3
_RANK = 4


def task_of(metadata: Mapping[str, Any], architecture: str) -> Task:
    """Return what the model of a GGUF's metadata was made for."""
    if metadata.get(f"{architecture}.pooling_type") == _RANK:
        return "rerank"
    return "embed" if metadata.get(f"{architecture}.attention.causal") is False else "generate"


class Embedder:
    """Gives the vectors of a loaded model; ``context`` is an encoder's, None for a decoder.

    ``pooling``: llama.cpp's number of how tokens become one vector, None where the file says none;
    ``failure`` returns the error for a status of llama.cpp's.
    """

    def __init__(
        self,
        model: Any,
        settings: Settings,
        flag: CancelFlag,
        failure: Callable[[int], PitoolError],
        *,
        context: Any = None,
        pooling: int | None = None,
    ) -> None:
        self._model, self._settings, self._flag = model, settings, flag
        self._failure, self._context, self._pooling = failure, context, pooling
        self.size: int = llama_cpp.llama_model_n_embd(model)

    def embed(self, texts: Sequence[Sequence[int]]) -> Embeddings:
        """Return the vectors of texts as token ids; DoesNotFit for one that is too long."""
        trained = llama_cpp.llama_model_n_ctx_train(self._model)
        most = min(self._settings.context, trained) if self._context else self._settings.context
        for ids in texts:
            _check(ids, most)
        self._flag.clear()
        rows = [self._encoded(ids) for ids in texts] if self._context else self._decoded(texts)
        vectors = np.array(rows, np.float32).reshape(len(texts), self.size)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return Embeddings(vectors / np.maximum(lengths, 1e-12), tuple(map(len, texts)))

    def _encoded(self, ids: Sequence[int]) -> NDArray[np.float32]:
        self._run(self._context, ids, 0, range(len(ids)))
        if self._pooling is None:  # by the mean, as sentence-transformers does then
            rows = (llama_cpp.llama_get_embeddings_ith(self._context, i) for i in range(len(ids)))
            total: NDArray[np.float32] = np.sum([self._vector(row) for row in rows], axis=0)
            return total
        return self._vector(llama_cpp.llama_get_embeddings_seq(self._context, 0))

    def _decoded(self, texts: Sequence[Sequence[int]]) -> list[NDArray[np.float32]]:
        longest = max(map(len, texts), default=1)
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = longest, STEP, STEP
        params.n_threads = params.n_threads_batch = self._settings.prefill_threads
        params.n_seq_max, params.embeddings = 1, True
        params.pooling_type = llama_cpp.LLAMA_POOLING_TYPE_NONE
        params.abort_callback = self._flag.callback
        params.abort_callback_data = self._flag.data
        context = llama_cpp.llama_init_from_model(self._model, params)
        if not context:
            raise DoesNotFit(
                f"there is no memory for a text of {longest} tokens", "embed shorter texts"
            )
        try:
            return [self._pooled(context, ids) for ids in texts]
        finally:
            llama_cpp.llama_free(context)

    def _pooled(self, context: Any, ids: Sequence[int]) -> NDArray[np.float32]:
        """Return what the file's pooling makes of a text's tokens: by default the last one's."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), False)
        total = np.zeros(self.size, np.float64)
        for start in range(0, len(ids), STEP):
            part = ids[start : start + STEP]
            wanted = self._wanted(start, len(part), len(ids))
            self._run(context, part, start, wanted)
            for row in wanted:
                total += self._vector(llama_cpp.llama_get_embeddings_ith(context, row))
        return total.astype(np.float32)

    def _wanted(self, start: int, count: int, length: int) -> Sequence[int]:
        """Return the rows of a part that are pooled; their sum has the direction of their mean."""
        if self._pooling == _MEAN:
            return range(count)
        place = 0 if self._pooling == _CLS else length - 1
        return [place - start] if start <= place < start + count else []

    def _run(self, context: Any, ids: Sequence[int], start: int, wanted: Sequence[int]) -> None:
        batch = llama_cpp.llama_batch_init(len(ids), 0, 1)
        try:
            batch.n_tokens = len(ids)
            for i, token in enumerate(ids):
                batch.token[i], batch.pos[i] = token, start + i
                batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = 1, 0, i in wanted
            status = llama_cpp.llama_decode(context, batch)
        finally:
            llama_cpp.llama_batch_free(batch)
        if status != 0:
            raise self._failure(status)

    def _vector(self, pointer: Any) -> NDArray[np.float32]:
        """Return a copy of a vector of llama.cpp's."""
        address = ctypes.cast(pointer, ctypes.c_void_p).value
        if not address:
            raise PitoolError("llama.cpp returned no vector", "load the model again")
        found: NDArray[np.float32] = np.ctypeslib.as_array(
            (ctypes.c_float * self.size).from_address(address)
        ).copy()
        return found


def _check(ids: Sequence[int], most: int) -> None:
    if not ids:
        raise BadInput("a text to embed is empty", "leave it out")
    if len(ids) > most:
        raise DoesNotFit(
            f"a text to embed has {len(ids)} tokens, and the model takes {most}",
            "divide it into shorter ones",
        )
