"""The parent's side of a worker: an engine whose model lives in a child process.

A crash, an abort or the OOM killer ends the child; here it becomes one ``WorkerDied`` with the
reason, and the program goes on. Owns nothing of the model; the process is ``process.child``'s.
"""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pitool.engine import registry, serialisation
from pitool.engine.base import Embeddings, ModelInfo, Prompt, Sampling, Settings, Squares, Token
from pitool.engine.prefills.files import Place
from pitool.errors import WorkerDied
from pitool.process.child import Child

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CLOSE_SECONDS = 5
SILENCE_SECONDS = 30
"""No prompt is too long: this is without a sign of life, and a board that computes, swaps or reads
from its card shows one all the time."""
FLUSH_SECONDS = 0.05
"""Tokens that come faster are sent together: each message wakes this process on a core that the
model could use."""
# What a runtime that is built with OpenMP reads when it is loaded; its own default for any other.
_WAIT_POLICIES = {0: {"OMP_WAIT_POLICY": "PASSIVE"}, 100: {"OMP_WAIT_POLICY": "ACTIVE"}}
_REMEDIES = {signal.SIGKILL: "load with a smaller --context or a smaller quantisation"}


def start(
    format_name: str,
    entry: Path,
    settings: Settings,
    on_progress: Callable[[float], None] | None = None,
    flush_seconds: float = FLUSH_SECONDS,
    prefixes: Sequence[Place] = (),
    explain: Callable[[], WorkerDied | None] | None = None,
) -> WorkerEngine:
    """Load an artifact in a new process; what goes wrong there is raised here.

    ``on_progress`` gets the share that is loaded, from 0 to 1, again and again also where it does
    not grow: what it raises gives the load up. ``flush_seconds``: least time between two
    messages of one answer, but for its first and last. ``prefixes``: where prompts that were read
    before are found by their content, and conversations saved when they have to make room; an
    engine that cannot does without. ``explain``: see ``process.child.Child``.
    """
    engine = registry.find_engine(format_name)
    child = Child(
        "pitool.engine.worker_main",
        name="the model process",
        advice="load the model again",
        remedies=_REMEDIES,
        close_seconds=CLOSE_SECONDS,
        silence_seconds=SILENCE_SECONDS,
        environment=_WAIT_POLICIES.get(settings.polling),
        explain=explain,
    )

    share = 0.0

    def tell() -> None:
        if on_progress:
            on_progress(share)

    def progress(event: dict[str, Any]) -> None:
        nonlocal share
        share = event["progress"]
        tell()

    try:
        loaded = child.call(
            "load",
            progress,
            tell,
            engine=engine,
            entry=str(entry),
            settings=dataclasses.asdict(settings),
            prefixes=list(prefixes),
        )
        return WorkerEngine(child, serialisation.info_from_json(loaded.value), flush_seconds)
    except BaseException:
        child.close()
        raise


class WorkerEngine:
    """An ``Engine`` by messages to a child; dead for good after a ``WorkerDied``.

    Several threads may use it at once. Up to ``Settings.sequences`` answers are computed side by
    side, others wait in the order in which they were asked for.
    """

    def __init__(self, child: Child, info: ModelInfo, flush_seconds: float) -> None:
        self._child, self._flush_seconds = child, flush_seconds
        self.info, self.pid = info, child.pid

    def stream(self, prompt: Prompt, sampling: Sampling) -> Iterator[Token]:
        """Yield the answer; leaving the loop early cancels the rest of this one."""
        events = self._child.stream(
            "stream",
            prompt=serialisation.prompt_to_json(prompt),
            sampling=dataclasses.asdict(sampling),
            flush=self._flush_seconds,
        )
        with closing(events):
            for event in events:
                yield from map(serialisation.token_from_json, event["tokens"])

    def cancel(self) -> None:
        """End all running answers within one token."""
        self._child.cancel()

    def tokenize(self, prompt: Prompt) -> list[int]:
        """Return token ids of a text or a conversation."""
        return list(self._ask("tokenize", prompt=serialisation.prompt_to_json(prompt)))

    def detokenize(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, special tokens included."""
        return str(self._ask("detokenize", ids=list(ids)))

    def logits(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Return the logits after each token, shape (tokens, vocabulary)."""
        import numpy as np

        shape, payload = self._child.call("logits", ids=list(ids))
        return np.frombuffer(payload, np.float32).reshape(shape)

    def embed(self, texts: Sequence[str | Sequence[int]]) -> Embeddings:
        """Return a vector for each text or its token ids."""
        import numpy as np

        sent = [serialisation.prompt_to_json(text) for text in texts]
        counts, payload = self._child.call("embed", texts=sent)
        vectors = np.frombuffer(payload, np.float32).reshape(len(counts), -1)
        return Embeddings(vectors, tuple(counts))

    def answer_together(
        self, prompts: Sequence[Prompt], sampling: Sampling, on_tokens: Callable[[int], None]
    ) -> list[list[int]]:
        """Return the tokens that each prompt is answered with, its end token included."""
        answers = self._child.call(
            "answer_together",
            lambda event: on_tokens(event["tokens"]),
            prompts=[serialisation.prompt_to_json(prompt) for prompt in prompts],
            sampling=dataclasses.asdict(sampling),
        )
        return list(answers.value)

    def squares(self) -> dict[str, Squares]:
        """Return the sums of squared activations since the load, by tensor name."""
        return serialisation.squares_from_payload(*self._child.call("squares"))

    def time_forward(self, ids: Sequence[int], *, one_by_one: bool) -> float:
        """Return the seconds of an evaluation, measured inside the child."""
        return float(self._ask("time_forward", ids=list(ids), one_by_one=one_by_one))

    def time_passes(self, sizes: Sequence[int]) -> list[float]:
        """Return the seconds of a pass of so many tokens each, with the logits of all of them.

        None of an engine that makes no such passes.
        """
        return list(self._ask("time_passes", sizes=list(sizes)))

    def clear(self) -> None:
        """Empty the KV cache."""
        self._ask("clear")

    def rewind(self, count: int) -> int:
        """Keep the first ``count`` tokens of the KV cache; return how many are left."""
        return int(self._ask("rewind", count=count))

    def save_state(self, path: Path) -> None:
        """Write the KV cache and its tokens to a file."""
        self._ask("save_state", path=str(path))

    def compact_state(self, path: Path) -> None:
        """Pack what ``save_state`` wrote into q8_0; UsageError for an engine that cannot."""
        self._ask("compact_state", path=str(path))

    def load_state(self, path: Path) -> int:
        """Read what ``save_state`` wrote; return the number of tokens."""
        return int(self._ask("load_state", path=str(path)))

    def keep_prefixes(self) -> None:
        """Save the conversations in the KV cache for a later start, where ``prefixes`` are kept.

        For one that is about to be closed; waits for the answers that run.
        """
        self._ask("keep_prefixes")

    def close(self) -> None:
        """End the child, so that its memory is back; from any thread, never blocks."""
        self._child.close()

    @property
    def alive(self) -> bool:
        """Whether the process of the model runs; from any thread."""
        return self._child.alive

    def kill(self) -> None:
        """End the child at once, from any thread; who waits for it gets a ``WorkerDied``."""
        self._child.kill()

    def __enter__(self) -> WorkerEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, method: str, **arguments: Any) -> Any:
        return self._child.call(method, **arguments).value
