"""The child's side of a worker: holds one engine and does what its parent asks."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from pitool.engine import registry, serialisation
from pitool.engine.base import Engine, Squares
from pitool.errors import PitoolError
from pitool.process.service import Call, serve

PROGRESS_STEP = 0.01


class Worker:
    """The methods of a worker, each with the name that it is called by."""

    def __init__(self) -> None:
        self._engine: Engine | None = None

    @property
    def _loaded(self) -> Engine:
        if self._engine is None:
            raise PitoolError("no model is loaded", "load a model first")
        return self._engine

    def cancel(self) -> None:
        """End the running answer; from another thread."""
        if self._engine is not None:
            self._engine.cancel()

    def load(self, call: Call) -> None:
        """Load an artifact, with its share that is loaded as events."""
        shown = 0.0

        def progress(share: float) -> None:
            nonlocal shown
            if share - shown >= PROGRESS_STEP or share >= 1:
                shown = share
                call.event(progress=share)

        asked = call.arguments
        settings = serialisation.settings_from_json(asked["settings"])
        self._engine = registry.load(asked["engine"], Path(asked["entry"]), settings, progress)
        call.result(serialisation.info_to_json(self._engine.info))

    def stream(self, call: Call) -> None:
        """Answer a prompt, with its tokens as events; those that come fast go together."""
        asked, engine = call.arguments, self._loaded
        prompt = serialisation.prompt_from_json(asked["prompt"])
        held: list[Any] = []
        sent, flush = 0.0, asked["flush"]
        try:
            for token in engine.stream(prompt, serialisation.sampling_from_json(asked["sampling"])):
                if call.cancelled:  # perhaps before the stream began, which forgot it then
                    engine.cancel()
                held.append(serialisation.token_to_json(token))
                now = time.perf_counter()
                first = token.timings.decoded_tokens == 1
                if first or token.finish or now - sent >= flush:
                    call.event(tokens=held)
                    held, sent = [], now
        except PitoolError:
            if held:  # what came before the fault is the user's
                call.event(tokens=held)
            raise
        call.result()

    def logits(self, call: Call) -> None:
        """Return the table of logits as raw float32."""
        table = self._loaded.logits(call.arguments["ids"])
        call.result(table.shape, table.tobytes())

    def embed(self, call: Call) -> None:
        """Return the vectors of some texts as raw float32, and their counts of tokens."""
        found = self._loaded.embed(call.arguments["texts"])
        call.result(found.tokens, found.vectors.tobytes())

    def answer_together(self, call: Call) -> None:
        """Return the token ids of several answers, with the number of new ones as events."""
        asked = call.arguments
        engine: Any = self._loaded
        answers = engine.answer_together(
            [serialisation.prompt_from_json(prompt) for prompt in asked["prompts"]],
            serialisation.sampling_from_json(asked["sampling"]),
            lambda tokens: call.event(tokens=tokens),
        )
        call.result(answers)

    def squares(self, call: Call) -> None:
        """Return the sums and counts of each tensor as raw numbers."""
        collect = getattr(self._loaded, "squares", None)
        if collect is None:
            raise PitoolError(
                f"{self._loaded.info.engine} cannot collect an importance matrix",
                "use --calibration none",
            )
        found: dict[str, Squares] = collect()
        shapes = {name: entry.sums.shape for name, entry in found.items()}
        call.result(shapes, b"".join(a.tobytes() for entry in found.values() for a in entry))

    def tokenize(self, call: Call) -> None:
        """Return the token ids of a prompt."""
        prompt = serialisation.prompt_from_json(call.arguments["prompt"])
        call.result(self._loaded.tokenize(prompt))

    def detokenize(self, call: Call) -> None:
        """Return the text of token ids."""
        call.result(self._loaded.detokenize(call.arguments["ids"]))

    def time_forward(self, call: Call) -> None:
        """Return the seconds of an evaluation."""
        asked = call.arguments
        call.result(self._loaded.time_forward(asked["ids"], one_by_one=asked["one_by_one"]))

    def clear(self, call: Call) -> None:
        """Empty the KV cache."""
        self._loaded.clear()
        call.result()

    def rewind(self, call: Call) -> None:
        """Shorten the KV cache and return what is left."""
        call.result(self._loaded.rewind(call.arguments["count"]))

    def save_state(self, call: Call) -> None:
        """Write the KV cache to a file."""
        self._loaded.save_state(Path(call.arguments["path"]))
        call.result()

    def load_state(self, call: Call) -> None:
        """Read the KV cache from a file and return its tokens."""
        call.result(self._loaded.load_state(Path(call.arguments["path"])))


METHODS = (
    "load",
    "stream",
    "logits",
    "embed",
    "answer_together",
    "squares",
    "tokenize",
    "detokenize",
    "time_forward",
    "clear",
    "rewind",
    "save_state",
    "load_state",
)


def main() -> None:
    """Serve the parent."""
    worker = Worker()
    serve({name: getattr(worker, name) for name in METHODS}, cancel=worker.cancel)


if __name__ == "__main__":
    main()
