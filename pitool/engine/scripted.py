"""An engine that answers from a script: for tests, snapshots and demonstrations.

Behaves like a real one at the protocol (prefill progress, prefix reuse, cancel, context limit)
with a clock of its own, so that whatever is shown of it is the same every time.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pitool.catalog import reading
from pitool.engine.base import (
    ChatPrompt,
    Embeddings,
    ModelInfo,
    Prompt,
    Sampling,
    Settings,
    Timings,
    Token,
    as_chat,
)
from pitool.engine.generate import shared_prefix
from pitool.errors import PitoolError, WorkerDied

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DEFAULT_SETTINGS = Settings(context=2048, decode_threads=2, prefill_threads=4)
PREFILL_CHUNK = 32


class Scripted:
    """Gives ``answers`` in turn, a word a token.

    ``prefill_rate`` and ``decode_rate`` are tokens per second of the reported clock;
    ``real_time`` makes them pass for real; ``fail_after`` raises after so many tokens.
    """

    def __init__(
        self,
        answers: Sequence[str] = ("Hello from the script.",),
        *,
        prefill_rate: float = 100.0,
        decode_rate: float = 10.0,
        real_time: bool = False,
        fail_after: int | None = None,
        name: str = "scripted",
        settings: Settings = DEFAULT_SETTINGS,
    ) -> None:
        self._answers = list(answers)
        self._next = 0
        self._prefill_rate, self._decode_rate = prefill_rate, decode_rate
        self._real_time, self._fail_after = real_time, fail_after
        self._cancelled, self._killed = threading.Event(), threading.Event()
        self._cache: list[int] = []
        self.info = ModelInfo(
            engine="scripted",
            name=name,
            architecture="script",
            quantisation="F32",
            bytes=1_000_000,
            parameters=250_000,
            layers=1,
            vocabulary=256,
            trained_context=settings.context,
            chat_template=True,
            backend="script",
            load_seconds=0.5,
            settings=settings,
            embedding=256,
        )
        self.pid = os.getpid()

    def _wait(self, seconds: float) -> None:
        if self._real_time:
            self._killed.wait(seconds)

    def stream(self, prompt: Prompt, sampling: Sampling) -> Iterator[Token]:
        """Yield the next answer of the script."""
        self._cancelled.clear()
        ids = self.tokenize(prompt)
        shared = shared_prefix(self._cache, ids[:-1])
        now = Timings(len(ids), shared, shared)
        for done in range(shared, len(ids), PREFILL_CHUNK):
            filled = min(done + PREFILL_CHUNK, len(ids))
            self._wait((filled - now.prefilled_tokens) / self._prefill_rate)
            seconds = (filled - shared) / self._prefill_rate
            now = replace(
                now, prefilled_tokens=filled, prefill_seconds=seconds, ttft_seconds=seconds
            )
            self._cache = ids[:filled]
            if self._cancelled.is_set():
                yield Token("", None, now, "cancelled")
                return
            yield Token("", None, now)
        yield from self._decode(now, sampling)

    def _decode(self, now: Timings, sampling: Sampling) -> Iterator[Token]:
        words = self._answers[self._next % len(self._answers)].split(" ")
        self._next += 1
        for count, word in enumerate(words, start=1):
            if self._fail_after is not None and count > self._fail_after:
                raise PitoolError("the script was told to fail", "ask again")
            if self._cancelled.is_set():
                yield Token("", None, now, "cancelled")
                return
            if len(self._cache) >= self.info.settings.context:
                yield Token("", None, now, "context")
                return
            self._wait(1 / self._decode_rate if count > 1 else 0)
            now = replace(now, decoded_tokens=count, decode_seconds=(count - 1) / self._decode_rate)
            text = word if count == 1 else f" {word}"
            self._cache.append(count)
            if sampling.max_tokens is not None and count >= sampling.max_tokens:
                yield Token(text, count, now, "length")
                return
            yield Token(text, count, now, "stop" if count == len(words) else None)

    def cancel(self) -> None:
        """End the running answer before its next word."""
        self._cancelled.set()

    def tokenize(self, prompt: Prompt) -> list[int]:
        """Return the bytes of the prompt; a conversation is written a line a turn."""
        chat = as_chat(prompt)
        if isinstance(chat, ChatPrompt):
            chat = "".join(f"{turn.role}: {turn.content}\n" for turn in chat.messages)
        return list(chat.encode()) if isinstance(chat, str) else list(chat)

    def detokenize(self, ids: Sequence[int]) -> str:
        """Return the text of the bytes."""
        return bytes(ids).decode(errors="replace")

    def logits(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Return logits that are certain of the token's own id."""
        import numpy as np

        table = np.zeros((len(ids), self.info.vocabulary), np.float32)
        table[np.arange(len(ids)), list(ids)] = 10.0
        return table

    def embed(self, texts: Sequence[str | Sequence[int]]) -> Embeddings:
        """Return how often each byte is in a text, as a vector of length 1."""
        import numpy as np

        rows = [self.tokenize(text) for text in texts]
        counts = np.array([np.bincount(row, minlength=256) for row in rows], np.float32)
        lengths = np.linalg.norm(counts, axis=1, keepdims=True)
        return Embeddings(counts / np.maximum(lengths, 1), tuple(map(len, rows)))

    def time_forward(self, ids: Sequence[int], *, one_by_one: bool) -> float:
        """Return what the script's rates make of it."""
        seconds = len(ids) / (self._decode_rate if one_by_one else self._prefill_rate)
        self._wait(seconds)
        if self._killed.is_set():
            raise WorkerDied("the script was killed", "load it again")
        return seconds

    def clear(self) -> None:
        """Forget the prompt."""
        self._cache = []

    def rewind(self, count: int) -> int:
        """Forget what came after so many tokens."""
        del self._cache[count:]
        return len(self._cache)

    def save_state(self, path: Path) -> None:
        """Write the remembered tokens."""
        path.write_bytes(bytes(self._cache))

    def load_state(self, path: Path) -> int:
        """Read the remembered tokens."""
        self._cache = list(path.read_bytes())
        return len(self._cache)

    def kill(self) -> None:
        """Let whoever waits for ``time_forward`` go on with a ``WorkerDied``."""
        self._killed.set()

    def close(self) -> None:
        """Do nothing: there is nothing to free."""


class ScriptFile(Scripted):
    """A script in a JSON file with the keyword arguments of ``Scripted``."""

    def __init__(
        self,
        entry: Path,
        settings: Settings,
        on_progress: Callable[[float], None] | None = None,
    ) -> None:
        super().__init__(**reading.read_object(entry, "write it again"), settings=settings)
        if on_progress:
            on_progress(1.0)
