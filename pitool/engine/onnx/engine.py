"""An ONNX folder in memory and requests to it, on plain onnxruntime.

Meant to live in the worker process: a broken model may abort the process that holds it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pitool.catalog.onnx import OnnxFolder, read_folder
from pitool.engine.base import Embeddings, ModelInfo, Prompt, Sampling, Settings, Token
from pitool.engine.generate import generate, shared_prefix
from pitool.engine.onnx import kv_cache
from pitool.engine.onnx.graph import Graph
from pitool.engine.onnx.runtime import onnxruntime
from pitool.engine.onnx.sampler import Sampler
from pitool.engine.prefills.files import LEAST_TOKENS, Place
from pitool.engine.prefills.prefixes import Prefixes
from pitool.engine.probabilities import Probabilities, close_call, probabilities
from pitool.engine.speculation.guesses import Draft
from pitool.engine.speculation.policy import MARGIN, MOST_DOUBT, TRIED, Speculation
from pitool.engine.tokenizer_folder import TokenizerFolder
from pitool.errors import BadInput, DoesNotFit, PitoolError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

LAST_ROW = (
    "no tokens are guessed: this graph gives the logits of its last token only, so that guesses"
    " cannot be checked"
)


class Onnx:
    """See ``base.Engine`` for the requests and ``generate.Runner`` for the steps.

    onnxruntime has one pool of threads for everything: ``decode_threads`` of the settings, because
    most of an answer's time is decode. The KV cache has the type that the graph was made for, and
    the weights are mapped but for those that onnxruntime interleaves, which it copies. ``info``
    says the settings as they came to be.
    """

    def __init__(
        self,
        entry: Path,
        settings: Settings,
        on_progress: Callable[[float], None] | None = None,
    ) -> None:
        start = time.perf_counter()
        folder = read_folder(entry)
        if settings.context > folder.context:
            raise DoesNotFit(
                f"{folder.name} supports {folder.context} tokens of context, not"
                f" {settings.context}",
                f"use a --context of at most {folder.context}",
            )
        self._vocabulary = TokenizerFolder(folder.path, settings.ends, folder.ends)
        self._graph = Graph(folder, settings)
        self._model = kv_cache.fingerprint(folder)
        self._cache: list[int] = []
        self._saved: Prefixes | None = None
        self._logits: NDArray[np.float32] | None = None
        self._cancelled = threading.Event()
        self.context = settings.context
        self.micro_batch = min(settings.micro_batch, settings.context, self._graph.batch)
        self.pid = os.getpid()
        self._settings = replace(
            settings,
            prefill_threads=settings.decode_threads,
            micro_batch=self.micro_batch,
            kv_type="f32" if self._graph.kv_type == np.float32 else "f16",
            value_type=None,
            sequences=1,
            load_mode="mlock" if settings.load_mode == "mlock" else "mmap",
        )
        self._no_guesses = LAST_ROW if settings.guesses and not self._graph.gives_rows else ""
        self.speculation: Speculation | None = None
        self._margin: float | None = None
        if settings.guesses and not self._no_guesses:
            self.speculation = Speculation(settings.guesses, settings.costs)
        self.info = self._describe(folder, time.perf_counter() - start)
        self.piece = self._vocabulary.piece
        self.ends = self._vocabulary.ends
        if on_progress:
            on_progress(1.0)

    def _describe(self, folder: OnnxFolder, seconds: float) -> ModelInfo:
        said = self._graph.metadata
        count = said.get("parameters", "")
        template = self._vocabulary.template
        return ModelInfo(
            engine="onnx",
            name=said.get("name") or folder.name,
            architecture=folder.architecture,
            quantisation=said.get("quantisation") or folder.quantisation,
            bytes=folder.bytes,
            parameters=int(count) if count.isdecimal() else 0,
            layers=folder.layers,
            vocabulary=self._graph.vocabulary,
            trained_context=folder.context,
            chat_template=template is not None,
            backend=f"onnxruntime {onnxruntime.__version__}",
            load_seconds=seconds,
            settings=self._settings,
            chat_format=template.format if template else "",
            template_names=template.names if template else (),
            no_guesses=self._no_guesses,
        )

    # -- requests --------------------------------------------------------------------------

    def stream(self, prompt: Prompt, sampling: Sampling) -> Iterator[Token]:
        """Yield the answer token by token."""
        self._cancelled.clear()
        self._graph.terminate(False)
        ids = self.tokenize(prompt)
        self._check(ids)
        self._bring_back(ids)
        yield from generate(self, ids, sampling, self._cancelled.is_set)

    def use_prefixes(self, places: Sequence[Place]) -> None:
        """Bring back what was read before, and save conversations that have to make room."""
        self._saved = Prefixes(places, kv_cache.tokens_of)

    def keep_prefixes(self) -> None:
        """Save the conversation that is in the KV cache."""
        if self._saved is not None:
            self._saved.keep(self._cache, self.save_state)

    def _bring_back(self, ids: Sequence[int]) -> None:
        """Read what is saved of a prompt, where that is much more than is in the cache."""
        if self._saved is None:
            return
        here = shared_prefix(self._cache, ids[:-1])
        if 2 * here <= len(self._cache):
            self.keep_prefixes()
        found = self._saved.best(ids[:-1], self.context, rigid=None)
        if found is None or found.shared < here + LEAST_TOKENS:
            return
        try:
            self.load_state(found.path)
        except BadInput:
            self._saved.drop(found.path)

    def _check(self, ids: Sequence[int]) -> None:
        """Raise BadInput for a token that the embedding has no row for."""
        if ids and not 0 <= min(ids) <= max(ids) < self._graph.vocabulary:
            raise BadInput(
                f"the model only has token ids from 0 to {self._graph.vocabulary - 1}",
                "use the model's own tokenizer",
            )

    def cancel(self) -> None:
        """End the running answer, in the middle of a prefill too."""
        self._cancelled.set()
        self._graph.terminate(True)

    def tokenize(self, prompt: Prompt) -> list[int]:
        """Return token ids of a text, of a conversation, or the ids themselves."""
        return self._vocabulary.encode(prompt)

    def detokenize(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, special tokens included."""
        return self._vocabulary.text(ids)

    def logits(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Return the logits after each token from an empty cache, shape (tokens, vocabulary)."""
        self._check(ids)
        self._graph.terminate(False)
        self.clear()
        table = np.empty((len(ids), self._graph.vocabulary), np.float32)
        step = min(self._settings.outputs, self.micro_batch)
        done = 0
        while done < len(ids):
            rows = self._run(ids[done : done + step], rows=step)
            if len(rows) < len(ids[done : done + step]):  # the graph gives the last row only
                self._graph.length, step = done, 1
                continue
            table[done : done + len(rows)] = rows
            done += len(rows)
        self.clear()
        return table

    def embed(self, texts: Sequence[str | Sequence[int]]) -> Embeddings:
        """Refuse: the graphs give logits only."""
        del texts
        raise UsageError(
            "an ONNX model cannot make embeddings here, because its graph ends in logits",
            "use its GGUF",
        )

    def time_forward(self, ids: Sequence[int], *, one_by_one: bool) -> float:
        """Return the seconds of evaluating ``ids``; the semantics are llama-bench's."""
        self._check(ids)
        self._graph.terminate(False)
        step = 1 if one_by_one else min(self._settings.batch, self.micro_batch)
        parts = [ids[i : i + step] for i in range(0, len(ids), step)]
        start = time.perf_counter()
        for part in parts:
            self._run(part)
        seconds = time.perf_counter() - start
        self._cache.extend(ids)
        return seconds

    def _run(self, ids: Sequence[int], rows: int = 1) -> NDArray[np.float32]:
        found = self._graph.run(ids, rows)
        if found is None:
            raise PitoolError("the evaluation was cancelled", "ask again")
        return found

    def clear(self) -> None:
        """Empty the KV cache."""
        self.rewind(0)

    def rewind(self, count: int) -> int:
        """Keep the first ``count`` tokens of the KV cache."""
        del self._cache[count:]
        self._graph.length = len(self._cache)
        return len(self._cache)

    def save_state(self, path: Path) -> None:
        """Write the KV cache and its tokens to a file."""
        kv_cache.write(path, self._model, self._cache, self._graph.kv_cache)

    def load_state(self, path: Path) -> int:
        """Read a KV cache; BadInput when it is not of this model and these settings."""
        self.clear()
        self._cache = kv_cache.read(path, self._model, self._graph.kv_cache)
        self._graph.length = len(self._cache)
        return len(self._cache)

    def close(self) -> None:
        """Free the graph and the KV cache."""
        self.clear()
        del self._graph

    # -- the steps of a generation ---------------------------------------------------------

    def reuse(self, ids: Sequence[int]) -> int:
        """Keep the longest prefix of ``ids`` that is in the cache, short of the last token."""
        return self.rewind(shared_prefix(self._cache, ids[:-1]))

    def forward(self, ids: Sequence[int], rows: int = 1) -> bool:
        """Append tokens to the cache and compute the logits of the last; False if cancelled."""
        found = self._graph.run(ids, rows)
        if found is None:
            return False
        self._cache.extend(ids)
        self._logits = found
        return True

    def prepare(self, sampling: Sampling, ids: Sequence[int]) -> None:
        """Make the sampler."""
        self._sampler = Sampler(sampling, ids, self._graph.vocabulary)

    def sample(self, row: int = 0) -> int:
        """Choose the next token; greedy takes the first of equal logits, as llama.cpp does."""
        return self._sampler.draw(self._row(row))

    def may_guess(self, last: int) -> bool:
        """Tell whether an answer that goes on with ``last`` stays what plain decode gives.

        How far logits of several rows differ from those of one is tried when that is first asked.
        """
        if not self._sampler.greedy:
            return True
        if self._margin is None:
            ids = [last, *self._cache[: TRIED - 1]]
            if len(self._cache) + len(ids) > self.context:
                return False
            self._margin = MARGIN * self._difference(ids)
        return self._margin <= MOST_DOUBT

    def in_doubt(self, row: int) -> bool:
        """Tell whether two tokens of a greedy answer are as likely up to rounding."""
        sampler = self._sampler
        if not sampler.greedy or not self._margin:
            return False
        return close_call(sampler.weighed(self._row(row)), self._margin)

    def _difference(self, ids: Sequence[int]) -> float:
        """Return how far logits differ between tokens at once and one by one."""
        several = self._run(ids, len(ids)).copy()
        self._graph.length = len(self._cache)
        single = np.concatenate([self._run([token]).copy() for token in ids])
        self._graph.length = len(self._cache)
        return float(np.abs(single - several).max())

    def odds(self, token: int, count: int, row: int = 0) -> Probabilities:
        """Return the probability of a chosen token by a row of logits, and of the likeliest."""
        return probabilities(self._row(row), token, count, self._vocabulary.spelled)

    def _row(self, row: int) -> NDArray[np.float32]:
        assert self._logits is not None
        logits: NDArray[np.float32] = self._logits[row]
        return logits

    # -- guesses ---------------------------------------------------------------------------

    def use_draft(self, draft: Draft) -> None:
        """Guess with a small model too, where tokens are guessed at all."""
        if self.speculation is not None:
            self.speculation.use(draft, self._graph.vocabulary)

    def time_passes(self, sizes: Sequence[int]) -> list[float]:
        """Return the seconds of a pass of so many tokens each, with the logits of all of them.

        After what is in the KV cache, which is left as it was.
        """
        self._graph.terminate(False)
        found = []
        for size in sizes:
            start = time.perf_counter()
            self._run(range(1, size + 1), size)
            found.append(time.perf_counter() - start)
            self._graph.length = len(self._cache)
        return found

    def guess(self, ids: Sequence[int], count: int, sequence: int = 0) -> list[int]:
        """Return the ``count`` most likely tokens after ``ids``, one after the other."""
        del sequence
        self.reuse(ids)
        found: list[int] = []
        left = ids[len(self._cache) :]
        while len(found) < count:
            for start in range(0, len(left), self.micro_batch):
                rows = self._run(left[start : start + self.micro_batch])
            self._cache.extend(left)
            found.append(int(rows[-1].argmax()))
            left = found[-1:]
        return found
