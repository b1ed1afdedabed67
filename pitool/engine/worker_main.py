"""The child's side of a worker: holds one engine and does what its parent asks.

Answers run side by side as far as the engine can; what needs the KV cache for itself waits until
they have ended, and answers that are asked for after it wait behind it.
"""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path
from typing import Any

from pitool.engine import registry, serialisation
from pitool.engine.base import Engine, Squares, Token
from pitool.engine.prefills.files import Place
from pitool.engine.scheduling import InTurn, Scheduler
from pitool.engine.speculation.draft import use_draft
from pitool.errors import PitoolError, UsageError
from pitool.process.service import Call, Method, serve

PROGRESS_STEP = 0.01


class Streamed:
    """Sends the tokens of an answer to who called for it; those that come fast go together.

    So do those of the answers ``beside`` it: each time that the parent wakes, it takes a core from
    the model.
    """

    def __init__(self, call: Call, beside: set[Streamed]) -> None:
        self._call, self._beside, self._flush = call, beside, call.arguments["flush"]
        self._held: list[Any] = []
        self._sent = 0.0

    @property
    def cancelled(self) -> bool:
        """Whether the caller has given it up."""
        return self._call.cancelled

    def token(self, token: Token) -> None:
        """Take a step of the answer."""
        self._beside.add(self)
        self._held.append(serialisation.token_to_json(token))
        now = time.perf_counter()
        first = token.timings.decoded_tokens == 1
        if first or token.finish or now - self._sent >= self._flush:
            for each in self._beside:
                each.send(now)
        if token.finish:
            self._beside.discard(self)
            self._call.result()

    def send(self, now: float) -> None:
        """Send what is held."""
        if self._held:
            self._call.event(tokens=self._held)
            self._held, self._sent = [], now

    def fail(self, error: PitoolError) -> None:
        """Send what came before the fault, which is the user's, and the fault."""
        self.send(time.perf_counter())
        self._beside.discard(self)
        self._call.fail(error)


class Worker:
    """The methods of a worker, each with the name that it is called by."""

    def __init__(self) -> None:
        self._engine: Engine | None = None
        self._scheduler: Scheduler | None = None
        self._alone: Call | None = None
        self._streams: set[Streamed] = set()
        self._waiting: deque[tuple[Method, Call]] = deque()

    def methods(self) -> dict[str, Method]:
        """Return what a parent may call, by name."""
        now = {name: getattr(self, name) for name in AT_ONCE}
        later = {name: self._in_turn(getattr(self, name)) for name in IN_TURN}
        return {**now, **later, "stream": self._in_turn(self.stream)}

    def _in_turn(self, method: Method) -> Method:
        def begin(call: Call) -> None:
            self._waiting.append((method, call))

        return begin

    def work(self) -> bool:
        """Begin what may begin, and compute a step of the answers; False when all is done."""
        while self._waiting and self._may_begin(self._waiting[0][0]):
            method, call = self._waiting.popleft()
            self._begin(method, call)
        if self._scheduler is not None and self._scheduler.busy:
            self._scheduler.step()
        return self._answering or bool(self._waiting)

    @property
    def _answering(self) -> bool:
        return self._scheduler is not None and self._scheduler.busy

    def _may_begin(self, method: Method) -> bool:
        return method == self.stream or not self._answering

    def _begin(self, method: Method, call: Call) -> None:
        self._alone = None if method == self.stream else call
        try:
            method(call)
        except PitoolError as error:
            call.fail(error)
        finally:
            self._alone = None

    @property
    def _loaded(self) -> Engine:
        if self._engine is None:
            raise PitoolError("no model is loaded", "load a model first")
        return self._engine

    def cancel(self) -> None:
        """See what was cancelled; from another thread."""
        if self._scheduler is not None:
            self._scheduler.look()
        alone = self._alone
        if self._engine is not None and alone is not None and alone.cancelled:
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
        use_draft(self._engine, settings)
        own: Scheduler | None = getattr(self._engine, "scheduler", None)
        self._scheduler = own or InTurn(self._engine)
        use = getattr(self._engine, "use_prefixes", None)
        if use is not None and asked["prefixes"]:
            use([Place(*place) for place in asked["prefixes"]])
        call.result(serialisation.info_to_json(self._engine.info))

    def stream(self, call: Call) -> None:
        """Answer a prompt, with its tokens as events."""
        if self._scheduler is None:
            raise PitoolError("no model is loaded", "load a model first")
        prompt = serialisation.prompt_from_json(call.arguments["prompt"])
        sampling = serialisation.sampling_from_json(call.arguments["sampling"])
        self._scheduler.add(prompt, sampling, Streamed(call, self._streams))

    def logits(self, call: Call) -> None:
        """Return the table of logits as raw float32."""
        table = self._loaded.logits(call.arguments["ids"])
        call.result(table.shape, table.tobytes())

    def embed(self, call: Call) -> None:
        """Return the vectors of some texts as raw float32, and their counts of tokens."""
        found = self._loaded.embed(call.arguments["texts"])
        call.result(found.tokens, found.vectors.tobytes())

    def keep_prefixes(self, call: Call) -> None:
        """Save the conversations that are in the KV cache."""
        keep = getattr(self._loaded, "keep_prefixes", None)
        if keep is not None:
            keep()
        call.result()

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

    def time_passes(self, call: Call) -> None:
        """Return the seconds of passes of several tokens; none of an engine that makes none."""
        measure = getattr(self._loaded, "time_passes", None)
        call.result([] if measure is None else measure(call.arguments["sizes"]))

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

    def compact_state(self, call: Call) -> None:
        """Pack a file that ``save_state`` wrote."""
        pack = getattr(self._loaded, "compact_state", None)
        if pack is None:
            raise UsageError(
                f"{self._loaded.info.engine} stores the KV cache in its own type only",
                "leave out --compact",
            )
        pack(Path(call.arguments["path"]))
        call.result()

    def load_state(self, call: Call) -> None:
        """Read the KV cache from a file and return its tokens."""
        call.result(self._loaded.load_state(Path(call.arguments["path"])))


AT_ONCE = ("tokenize", "detokenize")
"""What is answered between two steps of the answers that run."""
IN_TURN = (
    "load",
    "logits",
    "embed",
    "keep_prefixes",
    "answer_together",
    "squares",
    "time_forward",
    "time_passes",
    "clear",
    "rewind",
    "save_state",
    "compact_state",
    "load_state",
)


def main() -> None:
    """Serve the parent."""
    worker = Worker()
    serve(worker.methods(), work=worker.work, cancel=worker.cancel)


if __name__ == "__main__":
    main()
