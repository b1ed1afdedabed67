"""The parent's side of a worker: an engine whose model lives in a child process.

A crash, an abort or the OOM killer ends the child; here it becomes one ``WorkerDied`` with the
reason, and the program goes on. Owns the process and nothing of the model.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from pitool.engine import wire
from pitool.engine.base import ModelInfo, Prompt, Sampling, Settings, Squares, Token
from pitool.errors import PitoolError, WorkerDied

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CLOSE_SECONDS = 5
FLUSH_SECONDS = 0.05
"""Tokens that come faster are sent together: each message wakes this process on a core that the
model could use."""
_SIGNALS = {
    signal.SIGKILL: "killed, most likely because memory ran out",
    signal.SIGILL: "stopped by an instruction that this CPU does not have",
    signal.SIGABRT: "aborted by the runtime",
    signal.SIGSEGV: "stopped by a memory fault in the runtime",
    signal.SIGBUS: "stopped because the model file changed or the disk failed",
    signal.SIGTERM: "ended from outside",
}
_REMEDIES = {
    signal.SIGKILL: "load with a smaller --context or a smaller quantisation",
    signal.SIGILL: "install a wheel that is built for this board",
}


def start(
    format_name: str,
    entry: Path,
    settings: Settings,
    on_progress: Callable[[float], None] | None = None,
    flush_seconds: float = FLUSH_SECONDS,
) -> WorkerEngine:
    """Load an artifact in a new process; what goes wrong there is raised here.

    ``flush_seconds``: least time between two messages of one answer, but for its first and last.
    """
    return WorkerEngine(format_name, entry, settings, on_progress, flush_seconds)


class WorkerEngine:
    """An ``Engine`` by messages to a child; dead for good after a ``WorkerDied``."""

    info: ModelInfo

    def __init__(
        self,
        format_name: str,
        entry: Path,
        settings: Settings,
        on_progress: Callable[[float], None] | None,
        flush_seconds: float,
    ) -> None:
        self._turn, self._flush_seconds = threading.Lock(), flush_seconds
        # Native libraries write what they like to stderr; it explains a crash.
        self._stderr = cast("BinaryIO", tempfile.TemporaryFile())  # noqa: SIM115 - closed in close
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pitool.engine.worker_main"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            # Ctrl-C belongs to the parent, which then says what to do.
            start_new_session=True,
            env={**os.environ, "GGML_NO_BACKTRACE": "1"},
        )
        self.pid = self._process.pid
        assert self._process.stdin and self._process.stdout
        self._wire = wire.Wire(
            cast("BinaryIO", self._process.stdout), cast("BinaryIO", self._process.stdin)
        )
        try:
            self.info = self._load(format_name, entry, settings, on_progress)
        except BaseException:
            self.close()
            raise

    def _load(
        self,
        format_name: str,
        entry: Path,
        settings: Settings,
        on_progress: Callable[[float], None] | None,
    ) -> ModelInfo:
        self._send(
            {
                "do": "load",
                "format": format_name,
                "entry": str(entry),
                "settings": dataclasses.asdict(settings),
            }
        )
        while True:
            message, _ = self._receive()
            if "progress" in message:
                if on_progress:
                    on_progress(message["progress"])
            else:
                return wire.info_from_json(message["result"])

    # -- requests --------------------------------------------------------------------------

    def stream(self, prompt: Prompt, sampling: Sampling) -> Iterator[Token]:
        """Yield the answer; leaving the loop early cancels the rest."""
        with self._turn:
            self._send(
                {
                    "do": "stream",
                    "prompt": wire.prompt_to_json(prompt),
                    "sampling": dataclasses.asdict(sampling),
                    "flush": self._flush_seconds,
                }
            )
            finished = False
            try:
                while not finished:
                    message, _ = self._receive()
                    tokens = [wire.token_from_json(value) for value in message["tokens"]]
                    finished = tokens[-1].finish is not None
                    yield from tokens
            except GeneratorExit:
                if not finished:
                    self.cancel()
                    self._drain()
                raise

    def _drain(self) -> None:
        """Read the rest of an answer that nobody wants."""
        with suppress(PitoolError):
            while True:
                message, _ = self._receive()
                if any(wire.token_from_json(value).finish for value in message["tokens"]):
                    return

    def cancel(self) -> None:
        """End the running answer within one token."""
        with suppress(WorkerDied):
            self._send({"do": "cancel"})

    def tokenize(self, prompt: Prompt) -> list[int]:
        """Return token ids of a text or a conversation."""
        return list(self._ask("tokenize", prompt=wire.prompt_to_json(prompt)))

    def detokenize(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, special tokens included."""
        return str(self._ask("detokenize", ids=list(ids)))

    def logits(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Return the logits after each token, shape (tokens, vocabulary)."""
        import numpy as np

        with self._turn:
            self._send({"do": "logits", "ids": list(ids)})
            message, payload = self._receive()
            return np.frombuffer(payload, np.float32).reshape(message["result"])

    def squares(self) -> dict[str, Squares]:
        """Return the sums of squared activations since the load, by tensor name."""
        with self._turn:
            self._send({"do": "squares"})
            message, payload = self._receive()
            return wire.squares_from_payload(message["result"], payload)

    def time_forward(self, ids: Sequence[int], *, one_by_one: bool) -> float:
        """Return the seconds of an evaluation, measured inside the child."""
        return float(self._ask("time_forward", ids=list(ids), one_by_one=one_by_one))

    def clear(self) -> None:
        """Empty the KV cache."""
        self._ask("clear")

    def rewind(self, count: int) -> int:
        """Keep the first ``count`` tokens of the KV cache; return how many are left."""
        return int(self._ask("rewind", count=count))

    def save_state(self, path: Path) -> None:
        """Write the KV cache and its tokens to a file."""
        self._ask("save_state", path=str(path))

    def load_state(self, path: Path) -> int:
        """Read what ``save_state`` wrote; return the number of tokens."""
        return int(self._ask("load_state", path=str(path)))

    def close(self) -> None:
        """End the child and wait for it, so that its memory is back when this returns."""
        try:
            self._wire.close()
            self._process.wait(CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        finally:
            self._stderr.close()

    def kill(self) -> None:
        """End the child at once, from any thread; who waits for it gets a ``WorkerDied``."""
        self._process.kill()

    def __enter__(self) -> WorkerEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- messages --------------------------------------------------------------------------

    def _ask(self, what: str, **arguments: Any) -> Any:
        with self._turn:
            self._send({"do": what, **arguments})
            return self._receive()[0]["result"]

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self._wire.send(message)
        except (OSError, ValueError):
            raise self._death() from None

    def _receive(self) -> tuple[dict[str, Any], bytes]:
        try:
            received = self._wire.receive()
        except (OSError, ValueError):
            received = None
        if received is None:
            raise self._death()
        if "error" in received[0]:
            raise wire.error_from_json(received[0]["error"])
        return received

    def _death(self) -> WorkerDied:
        """Return why the child is gone, in a sentence."""
        try:
            code = self._process.wait(CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            return WorkerDied("the model process does not answer", "load the model again")
        if code >= 0:
            last = self._last_words()
            return WorkerDied(f"the model process ended with code {code}{last}", "load it again")
        number = signal.Signals(-code)
        how = _SIGNALS.get(number, f"ended by {number.name}")
        last = self._last_words() if number == signal.SIGABRT else ""
        return WorkerDied(
            f"the model process was {how} ({number.name}){last}",
            _REMEDIES.get(number, "load the model again"),
        )

    def _last_words(self) -> str:
        """Return the last line that the child wrote to stderr."""
        if self._stderr.closed:
            return ""
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        return f" after saying: {lines[-1].strip()[:200]}" if lines else ""
