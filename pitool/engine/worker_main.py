"""The child's side of a worker: holds one engine and serves one parent over stdin and stdout.

Ends when the parent's end of the pipe closes, so that no model outlives the program.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pitool.engine import registry, wire
from pitool.engine.base import Engine, Sampling
from pitool.errors import PitoolError

PROGRESS_STEP = 0.01


class Server:
    """Answers requests in order; ``cancel`` overtakes them."""

    def __init__(self, connection: wire.Wire) -> None:
        self._wire = connection
        self._requests: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._engine: Engine | None = None
        self._do: dict[str, Callable[[dict[str, Any]], None]] = {
            "load": self._load,
            "stream": self._stream,
            "logits": self._logits,
            "squares": self._squares,
            "tokenize": lambda m: self._reply(
                self._loaded.tokenize(wire.prompt_from_json(m["prompt"]))
            ),
            "detokenize": lambda m: self._reply(self._loaded.detokenize(m["ids"])),
            "time_forward": lambda m: self._reply(
                self._loaded.time_forward(m["ids"], one_by_one=m["one_by_one"])
            ),
            "clear": self._clear,
            "rewind": lambda m: self._reply(self._loaded.rewind(m["count"])),
            "save_state": self._save_state,
            "load_state": lambda m: self._reply(self._loaded.load_state(Path(m["path"]))),
        }

    @property
    def _loaded(self) -> Engine:
        if self._engine is None:
            raise PitoolError("no model is loaded", "load one first")
        return self._engine

    def run(self) -> None:
        """Serve until the parent is gone."""
        threading.Thread(target=self._read, daemon=True).start()
        while (message := self._requests.get()) is not None:
            try:
                self._do[message["do"]](message)
            except PitoolError as error:
                self._wire.send({"error": wire.error_to_json(error)})

    def _read(self) -> None:
        """Take messages off the pipe at once, so that a cancel is never behind a request."""
        while (received := self._wire.receive()) is not None:
            message, _ = received
            if message["do"] != "cancel":
                self._requests.put(message)
            elif self._engine is not None:
                self._engine.cancel()
        # The parent is gone: nothing is worth finishing, and a decode may take a while.
        os._exit(0)

    def _reply(self, result: Any) -> None:
        self._wire.send({"result": result})

    def _clear(self, _: dict[str, Any]) -> None:
        self._loaded.clear()
        self._reply(None)

    def _save_state(self, message: dict[str, Any]) -> None:
        self._loaded.save_state(Path(message["path"]))
        self._reply(None)

    def _load(self, message: dict[str, Any]) -> None:
        shown = 0.0

        def progress(share: float) -> None:
            nonlocal shown
            if share - shown >= PROGRESS_STEP or share >= 1:
                shown = share
                self._wire.send({"progress": share})

        self._engine = registry.load(
            message["format"],
            Path(message["entry"]),
            wire.settings_from_json(message["settings"]),
            progress,
        )
        self._reply(wire.info_to_json(self._engine.info))

    def _stream(self, message: dict[str, Any]) -> None:
        sampling = message["sampling"]
        sampling["stop"] = tuple(sampling["stop"])
        prompt = wire.prompt_from_json(message["prompt"])
        held: list[Any] = []
        sent = 0.0
        try:
            for token in self._loaded.stream(prompt, Sampling(**sampling)):
                held.append(wire.token_to_json(token))
                now = time.perf_counter()
                first = token.timings.decoded_tokens == 1
                if first or token.finish or now - sent >= message["flush"]:
                    self._wire.send({"tokens": held})
                    held, sent = [], now
        except PitoolError:
            if held:  # what came before the fault is the user's
                self._wire.send({"tokens": held})
            raise

    def _logits(self, message: dict[str, Any]) -> None:
        table = self._loaded.logits(message["ids"])
        self._wire.send({"result": table.shape}, table.tobytes())

    def _squares(self, _: dict[str, Any]) -> None:
        found = wire.squares_of(self._loaded)
        shapes = {name: entry.sums.shape for name, entry in found.items()}
        parts = [a.tobytes() for entry in found.values() for a in entry]
        self._wire.send({"result": shapes}, b"".join(parts))


def main() -> None:
    """Serve the parent; anything that native code prints goes to stderr."""
    incoming = os.fdopen(os.dup(0), "rb")
    outgoing = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    Server(wire.Wire(incoming, outgoing)).run()


if __name__ == "__main__":
    main()
