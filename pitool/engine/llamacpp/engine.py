"""A GGUF model in memory: its context, its KV cache, and requests to it.

Meant to live in the worker process: a broken model may abort the process that holds it.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from pitool.catalog.gguf import read_header
from pitool.chat_format import marks_of
from pitool.engine.base import (
    Embeddings,
    ModelInfo,
    Prompt,
    Sampling,
    Settings,
    Squares,
    Task,
    Token,
)
from pitool.engine.llamacpp.compact import compact
from pitool.engine.llamacpp.embedder import Embedder, task_of
from pitool.engine.llamacpp.importance import Collector
from pitool.engine.llamacpp.library import (
    CancelFlag,
    Log,
    describe_cpu,
    llama_cpp,
    load_backends,
)
from pitool.engine.llamacpp.opening import add_adapters, batch_size, open_context, open_model
from pitool.engine.llamacpp.passes import Passes
from pitool.engine.llamacpp.running import Llama
from pitool.engine.llamacpp.scheduler import Scheduler
from pitool.engine.llamacpp.sequences import Sequences, turn_starts
from pitool.engine.llamacpp.threads import ThreadPools
from pitool.engine.llamacpp.vocabulary import Vocabulary
from pitool.engine.prefills.files import Place
from pitool.engine.prefills.prefixes import Prefixes
from pitool.engine.scheduling import Heard
from pitool.engine.speculation.guesses import Draft
from pitool.engine.speculation.policy import Speculation
from pitool.errors import BadInput, PitoolError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pitool.engine.tokenizer_folder import TokenizerFolder

RECURRENT = (
    "no tokens are guessed: this model has a recurrent state, which cannot be taken back where a"
    " guess is wrong"
)


class LlamaCpp:
    """See ``base.Engine``; ``scheduler`` answers up to ``Settings.sequences`` prompts at once.

    Requests about the KV cache are about its first sequence, and want no answer to run meanwhile.
    """

    def __init__(
        self,
        entry: Path,
        settings: Settings,
        on_progress: Callable[[float], None] | None = None,
    ) -> None:
        header = read_header(entry)
        start = time.perf_counter()
        self._settings = settings
        self._log = Log()
        self._cancel = CancelFlag()
        load_backends()
        self._collector = Collector() if settings.collect else None
        self._model = open_model(entry, settings, self._log, self._cancel, on_progress)
        self._vocabulary = Vocabulary(self._model, settings.ends, nfc=settings.nfc)
        self._reader = self._open_reader(settings)
        template = self._reader.template
        self._vocabulary.show(marks_of(template.format) if template else ())
        self._row = ctypes.c_float * self._vocabulary.size
        recurrent = self._recurrent()
        task = task_of(header.metadata, header.architecture)
        self._ctx = open_context(
            self._model,
            settings,
            self._log,
            self._cancel,
            unified=recurrent,
            encoder=task != "generate",
            collector=self._collector,
        )
        add_adapters(self._model, self._ctx, settings.adapters, self._log)
        self._pools = ThreadPools(self._ctx, settings)
        self._sequences = Sequences(
            self._ctx,
            settings.sequences,
            settings.context // settings.sequences,
            recurrent=recurrent,
        )
        self._passes = Passes(
            self._ctx, self._sequences, batch_size(settings), self._logits, self._check
        )
        self._no_guesses = RECURRENT if settings.guesses and self._sequences.recurrent else ""
        self._speculation: Speculation | None = None
        self.scheduler = self._make_scheduler(task, header.name or entry.stem)
        self._embedder = Embedder(
            self._model,
            settings,
            self._cancel,
            self._failure,
            context=None if task == "generate" else self._ctx,
            pooling=header.metadata.get(f"{header.architecture}.pooling_type"),
        )
        self.pid = os.getpid()
        self.info = ModelInfo(
            engine="llamacpp",
            name=header.name,
            architecture=header.architecture,
            quantisation=header.quantisation,
            bytes=llama_cpp.llama_model_size(self._model),
            parameters=llama_cpp.llama_model_n_params(self._model),
            layers=llama_cpp.llama_model_n_layer(self._model),
            vocabulary=self._vocabulary.size,
            trained_context=llama_cpp.llama_model_n_ctx_train(self._model),
            chat_template=template is not None,
            backend=describe_cpu(),
            load_seconds=time.perf_counter() - start,
            settings=settings,
            chat_format=template.format if template else "",
            template_names=template.names if template else (),
            task=task,
            embedding=self._embedder.size,
            no_guesses=self._no_guesses,
        )

    def _recurrent(self) -> bool:
        """Tell whether the model has a state that is one for all tokens before it."""
        tests = (llama_cpp.llama_model_is_recurrent, llama_cpp.llama_model_is_hybrid)
        return any(test(self._model) for test in tests)

    def _make_scheduler(self, task: Task, name: str) -> Scheduler:
        def refuse(_: Prompt) -> NoReturn:
            raise UsageError(
                f"{name} is a model for embeddings or reranking, and does not write text",
                "use another model for a chat",
            )

        vocabulary, settings = self._vocabulary, self._settings
        batch = batch_size(settings)
        llama = Llama(
            context=self._ctx,
            encode=self.tokenize if task == "generate" else refuse,
            vocabulary=vocabulary,
            logits=self._logits,
            failure=self._failure,
            difference=self._passes.difference,
            turns=lambda ids: turn_starts(ids, vocabulary.turn_marks),
            length=settings.context // settings.sequences,
            micro_batch=min(settings.micro_batch, batch),
            batch=batch,
        )
        if settings.guesses and task == "generate" and not self._no_guesses:
            self._speculation = Speculation(settings.guesses, settings.costs)
        return Scheduler(llama, self._sequences, self._cancel, self._speculation)

    @property
    def _cache(self) -> list[int]:
        """The tokens of the first sequence."""
        return self._sequences.slots[0].tokens

    def _open_reader(self, settings: Settings) -> Vocabulary | TokenizerFolder:
        """Return what turns prompts into tokens: llama.cpp, or the tokenizer that is named."""
        if settings.tokenizer is None:
            return self._vocabulary
        from pitool.engine.tokenizer_folder import TokenizerFolder

        return TokenizerFolder(Path(settings.tokenizer), settings.ends)

    # -- requests --------------------------------------------------------------------------

    def stream(self, prompt: Prompt, sampling: Sampling) -> Iterator[Token]:
        """Yield the answer token by token."""
        heard = Heard()
        job = self.scheduler.add(prompt, sampling, heard)
        try:
            while not heard.done:
                self.scheduler.step()
                yield from heard.take()
        finally:
            self.scheduler.drop(job)

    def cancel(self) -> None:
        """End what runs, in the middle of a prefill too; from any thread."""
        if self.scheduler.busy:
            self.scheduler.cancel()
        else:
            self._cancel.set()

    def tokenize(self, prompt: Prompt) -> list[int]:
        """Return token ids of a text, of a conversation, or the ids themselves."""
        return self._reader.encode(prompt)

    def detokenize(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, special tokens included."""
        return self._vocabulary.text(ids)

    def logits(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Return the logits after each token from an empty cache, shape (tokens, vocabulary)."""
        self._cancel.clear()
        self.clear()
        table = np.empty((len(ids), self._vocabulary.size), np.float32)
        step = min(self._settings.outputs, self._settings.micro_batch)
        batch = llama_cpp.llama_batch_init(step, 0, 1)
        try:
            for start in range(0, len(ids), step):
                part = ids[start : start + step]
                batch.n_tokens = len(part)
                for i, token in enumerate(part):
                    batch.token[i], batch.pos[i] = token, start + i
                    batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = 1, 0, 1
                self._check(llama_cpp.llama_decode(self._ctx, batch))
                for i in range(len(part)):
                    table[start + i] = self._logits(i)
        finally:
            llama_cpp.llama_batch_free(batch)
            self.clear()
        return table

    def answer_together(
        self, prompts: Sequence[Prompt], sampling: Sampling, on_tokens: Callable[[int], None]
    ) -> list[list[int]]:
        """Return the tokens that each prompt is answered with, its end token included.

        Each answer has a seed of its own, counted up from the sampling's. ``on_tokens`` is called
        with the number of new tokens.
        """
        assert sampling.seed is not None
        self.clear()
        answers = [Heard() for _ in prompts]
        written: list[list[int]] = [[] for _ in prompts]
        for number, (prompt, heard) in enumerate(zip(prompts, answers, strict=True)):
            self.scheduler.add(prompt, replace(sampling, seed=sampling.seed + number), heard)
        while self.scheduler.busy:
            self.scheduler.step()
            new = [[t.id for t in heard.take() if t.id is not None] for heard in answers]
            for tokens, more in zip(written, new, strict=True):
                tokens.extend(more)
            if count := sum(map(len, new)):
                on_tokens(count)
        self.clear()
        return written

    def squares(self) -> dict[str, Squares]:
        """Return the sums of squared activations since the load; empty without ``collect``."""
        return self._collector.squares() if self._collector else {}

    def embed(self, texts: Sequence[str | Sequence[int]]) -> Embeddings:
        """Return a vector for each text or its token ids."""
        if self.info.task == "rerank":
            raise UsageError(
                f"{self.info.name} ranks texts by a query and does not make vectors",
                "use a model for embeddings; reranking is not supported",
            )
        return self._embedder.embed(
            [self._reader.whole(t) if isinstance(t, str) else t for t in texts]
        )

    def time_forward(self, ids: Sequence[int], *, one_by_one: bool) -> float:
        """Return the seconds of evaluating ``ids``; the semantics are llama-bench's."""
        self._cancel.clear()
        step = 1 if one_by_one else min(self._settings.batch, self._settings.context)
        parts = [ids[i : i + step] for i in range(0, len(ids), step)]
        arrays = [(llama_cpp.llama_token * len(part))(*part) for part in parts]
        start = time.perf_counter()
        for array in arrays:
            self._check(
                llama_cpp.llama_decode(self._ctx, llama_cpp.llama_batch_get_one(array, len(array)))
            )
            if one_by_one:
                llama_cpp.llama_synchronize(self._ctx)
        llama_cpp.llama_synchronize(self._ctx)
        seconds = time.perf_counter() - start
        self._cache.extend(ids)
        return seconds

    def guess(self, ids: Sequence[int], count: int, sequence: int = 0) -> list[int]:
        """Return the ``count`` most likely tokens after ``ids``, one after the other."""
        return self._passes.guess(self._sequences.slots[sequence], ids, count)

    def time_passes(self, sizes: Sequence[int]) -> list[float]:
        """Return the seconds of a pass of so many tokens each, with the logits of all of them."""
        self._cancel.clear()
        return self._passes.time(sizes)

    def use_draft(self, draft: Draft) -> None:
        """Guess with a small model too, where tokens are guessed at all."""
        if self._speculation is not None:
            self._speculation.use(draft, self._vocabulary.size)

    def clear(self) -> None:
        """Empty the KV cache."""
        self._sequences.clear()

    def rewind(self, count: int) -> int:
        """Keep the first ``count`` tokens of the KV cache; fewer where the model cannot."""
        return self._sequences.rewind(self._sequences.slots[0], count)

    def save_state(self, path: Path) -> None:
        """Write the KV cache and its tokens to a file."""
        if not self._sequences.write(self._sequences.slots[0], path):
            raise PitoolError(f"cannot write to {path} ({self._log.reason})", "free disk space")

    def compact_state(self, path: Path) -> None:
        """Pack what ``save_state`` wrote into q8_0; UsageError for a state that cannot be."""
        compact(path)

    def load_state(self, path: Path) -> int:
        """Read a KV cache; BadInput when it is not of this model and these settings."""
        first = self._sequences.slots[0]
        if not self._sequences.read(first, path, self.info.sequence_context):
            raise BadInput(
                f"{path} is not a saved state of this model", "start the conversation again"
            )
        return len(first.tokens)

    def use_prefixes(self, places: Sequence[Place]) -> None:
        """Bring back what was read before, and save conversations that have to make room."""
        self._sequences.saved = Prefixes(places)

    def keep_prefixes(self) -> None:
        """Save the conversations that are in the KV cache, those used longest ago first."""
        for slot in sorted(self._sequences.slots, key=lambda slot: slot.used):
            self._sequences.keep(slot)

    def close(self) -> None:
        """Free context and model."""
        if self._ctx is not None:
            llama_cpp.llama_free(self._ctx)
            llama_cpp.llama_model_free(self._model)
            self._pools.close()
            self._ctx = self._model = None

    def _check(self, status: int) -> None:
        if status != 0:
            self.clear()
            raise self._failure(status)

    def _failure(self, status: int) -> PitoolError:
        return PitoolError(
            f"llama.cpp stopped with status {status} ({self._log.reason})", "ask again"
        )

    def _logits(self, row: int) -> NDArray[np.float32]:
        """Return a view of one row of llama.cpp's logits, valid until the next decode."""
        pointer = llama_cpp.llama_get_logits_ith(self._ctx, row)
        address = ctypes.cast(pointer, ctypes.c_void_p).value
        if not address:
            raise PitoolError("llama.cpp returned no logits", "load the model again")
        return np.ctypeslib.as_array(self._row.from_address(address))
