"""Returning to a long conversation after a restart: TTFT with its saved prefill against without.

    python -m benchmarks.return_to_conversation --tokens 2000 --pairs 3

Each run starts a worker of its own and opens the conversation from its database, as the chat does;
the time to bring the saved prefill back is part of the TTFT. The target is a ratio of at most 0.15.
The last line on stdout is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from benchmarks import models
from benchmarks.peer import say
from pitool.catalog.bundles import Runnable
from pitool.catalog.model_argument import find_runnable
from pitool.chat.session import Session
from pitool.chat.status import Phase
from pitool.device.memory import rss
from pitool.device.settings import settings_for
from pitool.engine import worker
from pitool.engine.base import Engine, Sampling
from pitool.engine.prefills.files import Prefills
from pitool.store.conversation import Answer, Conversation, Question
from pitool.store.database import Database
from pitool.store.journal import Journal

TARGET = 0.15
CONTEXT = 4096
ANSWER_TOKENS = 8
SECONDS = 300


def load(runnable: Runnable, on_progress: Callable[[float], None]) -> Engine:
    """Start a worker with the settings of this machine."""
    settings = settings_for(runnable, CONTEXT)
    return worker.start(runnable.format, runnable.entry, settings, on_progress)


def conversation_of(tokens: int, runnable: Runnable) -> Conversation:
    """Return turns that come to about ``tokens`` tokens, the last of them an answer."""
    made = Conversation(sampling=Sampling(temperature=0.0, max_tokens=ANSWER_TOKENS))
    engine = load(runnable, lambda _: None)
    try:
        while len(engine.tokenize(made.messages())) < tokens:
            number = len(made.rows)
            made.rows.append(Question(f"Question {number} about boards, memory and models?"))
            text = " ".join(f"word {number} {place}" for place in range(30))
            made.rows.append(Answer("made", text, finish="stop"))
        say(f"a conversation of {len(engine.tokenize(made.messages()))} tokens")
    finally:
        engine.close()
    return made


def ask(runnable: Runnable, folder: Path, key: str, prefills: Prefills | None) -> Answer:
    """Open the conversation in a new worker, ask one question, and return its answer."""
    changed = threading.Event()
    database = Database(folder / "conversations.db")
    journal = Journal(database, lambda error: say(error.what))
    session = Session(load, rss, changed.set, recorder=journal, prefills=prefills)
    try:
        session.load(runnable)
        session.open(database.open(key))
        _wait(changed, lambda: session.status.phase is Phase.READY)
        session.ask("And then?")
        answer = session.conversation.last_answer()
        assert answer is not None
        _wait(changed, lambda: answer.finish is not None and not session.status.busy)
        return answer
    finally:
        session.close()
        journal.close()
        database.close()


def _wait(changed: threading.Event, condition: Callable[[], bool]) -> None:
    while not condition():
        if not changed.wait(SECONDS):
            raise SystemExit("the session does not answer")
        changed.clear()


def pair(runnable: Runnable, made: Conversation, folder: Path) -> tuple[float, float, int, int]:
    """Return TTFT without and with the saved prefill, then prompt and reused tokens of the second.

    The first run with prefills reads the conversation and saves it; it is the cold one.
    """
    database = Database(folder / "conversations.db")
    database.save(made, made.rows, ())
    database.close()
    prefills = Prefills(folder / "prefills")
    cold = ask(runnable, folder, made.key, prefills)
    warm = ask(runnable, folder, made.key, prefills)
    if cold.timings is None or warm.timings is None:
        raise SystemExit("an answer has no timings")
    return (
        cold.timings.ttft_seconds,
        warm.timings.ttft_seconds,
        warm.timings.prompt_tokens,
        warm.timings.reused_tokens,
    )


def main() -> None:
    """Print a line a pair, then JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", default="135m")
    parser.add_argument("--quant", default="Q4_0")
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--pairs", type=int, default=3)
    order = parser.parse_args()
    runnable = find_runnable(models.gguf(order.shape, order.quant))
    made = conversation_of(order.tokens, runnable)
    ratios = []
    for _ in range(order.pairs):
        with tempfile.TemporaryDirectory() as folder:
            cold, warm, prompt, reused = pair(runnable, made, Path(folder))
        ratios.append(warm / cold)
        print(
            f"TTFT cold {cold:.2f} s  returning {warm:.3f} s  ratio {ratios[-1]:.3f}"
            f"  reused {reused} of {prompt} tokens"
        )
    median = statistics.median(ratios)
    result = {"ratio": median, "ratios": ratios, "target": TARGET, "met": median <= TARGET}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
