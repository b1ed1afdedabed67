"""Memory over a thousand turns of a chat: what a turn leaves behind in pitool and in its workers.

    python -m benchmarks.soak --turns 1000

Turns are drawn: most are questions that go on from what was said, some are stopped in the middle of
their answer, some answered again; conversations are begun and earlier ones opened with their saved
prefills, and the model changes between a GGUF and an ONNX one. The slope is that of a line through
the anonymous memory after each turn, without those of the warm-up; of the workers, through what
each that lives long enough holds after its own. The last line on stdout is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from string import ascii_lowercase

import numpy as np

from benchmarks import models
from benchmarks.peer import say
from pitool.catalog.bundles import Runnable
from pitool.catalog.model_argument import find_runnable
from pitool.chat.session import Session
from pitool.chat.status import Phase
from pitool.device.memory import anonymous
from pitool.device.settings import settings_for
from pitool.engine import worker
from pitool.engine.base import Engine, Sampling
from pitool.engine.prefills.files import Prefills
from pitool.errors import PitoolError
from pitool.store.conversation import Answer, Conversation
from pitool.store.database import Database
from pitool.store.journal import Journal

TARGET = 1024
"""Bytes a turn, of pitool's own process and of each worker."""
SEED, CONTEXT, ANSWER_TOKENS, SECONDS = 11, 1024, 24, 120
WARM_UP, OF_A_CONVERSATION = 100, 20
# Turns of one model before the other is loaded, again and again.
LIVES = (20, 30, 20, 30, 450, 450)
# Of the turns of a worker, those in which its context fills for the first time and the allocator
# of onnxruntime finds the sizes that come again.
SETTLING = 300
STOPPED, AGAIN, EARLIER = 0.15, 0.1, 0.3
# The tokenizers library keeps the tokens of so many words and no more, at 440 bytes each. A model
# of random weights says new ones in every turn: filled before, that is not taken for a leak.
KEPT_WORDS, IN_A_TEXT = 10_000, 200
WORDS = ("what", "where", "board", "model", "memory", "speed", "answer", "token", "heat", "light")


@dataclass(slots=True)
class Soak:
    """A session whose questions are drawn; what its processes held after each turn, in bytes."""

    runnables: tuple[Runnable, ...]
    folder: Path
    source: random.Random = field(default_factory=lambda: random.Random(SEED))
    own: list[int] = field(default_factory=list)
    workers: list[list[int]] = field(default_factory=list)
    done: dict[str, int] = field(default_factory=dict)
    keys: list[str] = field(default_factory=list)
    _worker: int = 0
    _changed: threading.Event = field(default_factory=threading.Event)

    def run(self, turns: int) -> None:
        """Take the turns, one after another."""
        database = Database(self.folder / "conversations.db")
        journal = Journal(database, _fail)
        prefills = Prefills(self.folder / "prefills")
        session = Session(
            load, self._memory, self._changed.set, recorder=journal, prefills=prefills
        )
        try:
            left = 0
            for turn in range(turns):
                if not left:
                    place = len(self.workers)
                    left = LIVES[place % len(LIVES)]
                    self._load(session, self.runnables[place % len(self.runnables)])
                    self.workers.append([])
                left -= 1
                if turn % OF_A_CONVERSATION == 0:
                    self._conversation(session, database, journal)
                self._turn(session)
                self.own.append(anonymous(os.getpid()) or 0)
                self.workers[-1].append(anonymous(self._worker) or 0)
                if not left:
                    say(f"{turn + 1} turns, {self.own[-1] / 1e6:.1f} MB")
        finally:
            session.close()
            journal.close()
            database.close()

    def _load(self, session: Session, runnable: Runnable) -> None:
        """Change the model; returns when it is ready."""
        session.load(runnable)
        self._wait(
            lambda: session.status.runnable is runnable and session.status.phase is Phase.READY
        )

    def _conversation(self, session: Session, database: Database, journal: Journal) -> None:
        """Begin a conversation, or open one of the last few."""
        journal.flush()
        if self.keys and self.source.random() < EARLIER:
            self._count("earlier conversations")
            session.open(database.open(self.source.choice(self.keys[-5:])))
            return
        sampling = Sampling(temperature=0.7, seed=SEED, max_tokens=ANSWER_TOKENS)
        session.open(Conversation(sampling=sampling))
        self.keys.append(session.conversation.key)

    def _turn(self, session: Session) -> None:
        """Ask, stop or answer again; returns when the session is at rest."""
        drawn = self.source.random()
        if drawn < AGAIN and session.again():
            self._count("answered again")
        else:
            words = self.source.choices(WORDS, k=self.source.randint(3, 30))
            if not session.ask(" ".join(words) + "?"):
                raise SystemExit("the session takes no question")
        answer = session.conversation.last_answer()
        assert answer is not None
        if drawn > 1 - STOPPED:
            self._wait(lambda: bool(answer.text) or answer.finish is not None)
            session.stop()
            self._count("stopped")
        self._wait(lambda: answer.finish is not None and session.status.phase is Phase.READY)
        self._judge(answer)

    def _judge(self, answer: Answer) -> None:
        if answer.finish not in {"stop", "length", "cancelled"}:
            raise SystemExit(f"an answer ended in {answer.finish}")
        if answer.timings is not None and answer.timings.reused_tokens:
            self._count("reused")
        self._count("turns")

    def _count(self, what: str) -> None:
        self.done[what] = self.done.get(what, 0) + 1

    def _memory(self, pid: int) -> int | None:
        self._worker = pid
        return anonymous(pid)

    def _wait(self, condition: Callable[[], bool]) -> None:
        while not condition():
            if not self._changed.wait(SECONDS):
                raise SystemExit("the session does not answer")
            self._changed.clear()


def load(runnable: Runnable, on_progress: Callable[[float], None]) -> Engine:
    """Start a worker with the settings of this machine, the cache of its tokenizer full."""
    settings = settings_for(runnable, CONTEXT)
    engine = worker.start(runnable.format, runnable.entry, settings, on_progress)
    source = random.Random(SEED)
    for _ in range(KEPT_WORDS // IN_A_TEXT):
        engine.tokenize(
            " ".join("".join(source.choices(ascii_lowercase, k=12)) for _ in range(IN_A_TEXT))
        )
    return engine


def _fail(error: PitoolError) -> None:
    raise SystemExit(error.what)


def slope(values: list[int]) -> float:
    """Return the slope of the line of least squares, in bytes a turn."""
    return float(np.polyfit(np.arange(len(values)), np.asarray(values, np.float64), 1)[0])


def slope_of_each(lives: list[list[int]]) -> float:
    """Return the common slope of several lines of values, each with a mean of its own."""
    lives = [life for life in lives if life]
    times = [np.arange(len(life)) - (len(life) - 1) / 2 for life in lives]
    levels = [np.asarray(life, np.float64) - np.mean(life) for life in lives]
    x, y = np.concatenate(times), np.concatenate(levels)
    return float(x @ y / (x @ x))


def main() -> None:
    """Print what was done and the slopes, then JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=1000)
    parser.add_argument("--shape", default="25m")
    order = parser.parse_args()
    if order.turns < 2 * WARM_UP:
        parser.error(f"--turns must be at least {2 * WARM_UP}")
    # In a process of their own: what making them leaves free would hide what a turn takes.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as maker:
        makers = ((models.gguf, "Q4_0"), (models.onnx, "INT8"))
        paths = [maker.submit(make, order.shape, kind).result() for make, kind in makers]
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(tuple(find_runnable(path) for path in paths), Path(folder))
        soak.run(order.turns)
    own = slope(soak.own[WARM_UP:])
    kinds = {
        path.name: slope_of_each([life[SETTLING:] for life in soak.workers[place::2]])
        for place, path in enumerate(paths)
        if any(len(life) > SETTLING + 1 for life in soak.workers[place::2])
    }
    print(", ".join(f"{count} {what}" for what, count in soak.done.items()))
    print(f"pitool {own:+.0f} bytes a turn, at the end {soak.own[-1] / 1e6:.1f} MB")
    for name, value in kinds.items():
        print(f"worker of {name} {value:+.0f} bytes a turn")
    result = {"slope": own, "workers": kinds, "done": soak.done}
    print(json.dumps({**result, "target": TARGET, "met": max(own, *kinds.values(), 0) <= TARGET}))


if __name__ == "__main__":
    main()
