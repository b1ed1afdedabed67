"""What the chat costs: decode against ``pitool run``, CPU when idle, frames, start, memory.

    python -m benchmarks.tui                       every part, about six minutes
    python -m benchmarks.tui decode --pairs 5      decode through the chat against ``pitool run``
    python -m benchmarks.tui decode --threads 1    the same with a core to spare, as on a Pi 5
    python -m benchmarks.tui wakeups --threads 1   what the chat's own process does meanwhile
    python -m benchmarks.tui idle frames start memory

Everything runs in a terminal of 80x24 of its own and is driven by keys. Targets: decode at 0.97 of
``pitool run``; less than 1 % of a core when idle with 200 messages open; a frame at 10,000 tokens
that costs at most 1.25 times one at 1,000; first paint within twice that of a bare Textual app;
less than 60 MB without a model. The last line on stdout is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import models
from benchmarks.pairs import interleave
from benchmarks.peer import Figure, say
from benchmarks.stream_overhead import pitool_run
from benchmarks.terminal import Terminal, cpu_seconds
from benchmarks.tui_sides import LENGTHS, READY
from pitool.catalog.bundles import default_folder
from pitool.device.memory import rss
from pitool.engine.base import Sampling
from pitool.store.conversation import Answer, Conversation, Question
from pitool.store.database import FILE_NAME, Database
from pitool.tui import demo

DECODE_TARGET, IDLE_TARGET, FRAME_TARGET, START_TARGET, MEMORY_TARGET = 0.97, 0.01, 1.25, 2.0, 60e6
TOKENS = 512
MESSAGES = 200
IDLE_SECONDS = 30
WAKEUP_SECONDS = 5
SETTLE_SECONDS = 3
LOOK_SECONDS = 2.0
CHAT = [sys.executable, "-m", "pitool", "chat"]
SIDES = [sys.executable, "-m", "benchmarks.tui_sides"]
PROMPT_SHOWN = "Ask something"

Result = dict[str, Any]


@contextmanager
def home() -> Iterator[Path]:
    """Give a folder that stands for the user's own, with bundles to list."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        demo.write_bundles(folder / default_folder().name)
        yield folder


@contextmanager
def chat(folder: Path, *words: str) -> Iterator[Terminal]:
    """Give a chat that keeps its things in ``folder``."""
    with Terminal([*CHAT, *words], {"PITOOL_HOME": str(folder)}) as terminal:
        yield terminal


def decode(order: argparse.Namespace) -> Result:
    """Decode greedily through the chat and through ``pitool run``, in turn."""
    model = models.gguf(order.shape, order.quant)
    threads = ["--threads", str(order.threads)] if order.threads else []

    def ours() -> list[Figure]:
        return [Figure(f"tg{TOKENS}", (_decode_in_chat(model, threads),))]

    def theirs() -> list[Figure]:
        return [Figure(f"tg{TOKENS}", (pitool_run(model, TOKENS, ["--temp", "0", *threads]),))]

    (result,) = interleave(ours, theirs, order.pairs)
    print("decode", result.line())
    return {**result.json(), "target": DECODE_TARGET, "met": result.ratio >= DECODE_TARGET}


def wakeups(order: argparse.Namespace) -> Result:
    """Return how often a second the chat's process wakes while an answer is decoded, and idle."""
    model = models.gguf(order.shape, order.quant)
    threads = ["--threads", str(order.threads)] if order.threads else []
    with home() as folder:
        _keep(folder, Conversation(sampling=Sampling(temperature=0.0)), 1, "Short.")
        with chat(folder, str(model), *threads) as terminal:
            _open(terminal, "Number 0")
            found: Result = {}
            for state, keys in (("decoding", "a\r"), ("idle", "\x1b")):
                terminal.send(keys)
                time.sleep(SETTLE_SECONDS)
                before, spent = terminal.wakeups(), cpu_seconds(terminal.pid)
                time.sleep(WAKEUP_SECONDS)
                found[state] = {
                    "wakeups": (terminal.wakeups() - before) / WAKEUP_SECONDS,
                    "share": (cpu_seconds(terminal.pid) - spent) / WAKEUP_SECONDS,
                }
    for state, each in found.items():
        print(f"wakeups {state}: {each['wakeups']:.0f} a second, {each['share']:.1%} of a core")
    return {**found, "met": True}


def _decode_in_chat(model: Path, threads: list[str]) -> float:
    """Ask once in a chat of its own; return the tokens/s that it has written down."""
    sampling = Sampling(temperature=0.0, max_tokens=TOKENS + 1)
    with home() as folder:
        made = _keep(folder, Conversation(sampling=sampling), 1, "Short.")
        with chat(folder, str(model), *threads) as terminal:
            _open(terminal, "Number 0")
            terminal.send("a\r")
            # Looking at the screen all the time would take a core that the model wants.
            while (answer := _last_answer(folder, made.key)).finish in (None, "failed", "stop"):
                time.sleep(LOOK_SECONDS)
                if not terminal.runs():
                    raise SystemExit("the chat ended by itself")
    if answer.timings is None or answer.timings.decoded_tokens < TOKENS:
        raise SystemExit("the chat ended early")
    return answer.timings.decode_rate


def _keep(folder: Path, made: Conversation, turns: int, text: str) -> Conversation:
    """Write a conversation of so many turns where the chat finds it."""
    made.title = "A kept one"
    for number in range(turns):
        answer = Answer("made", f"{text}\n\nNumber {number}.", finish="stop")
        made.rows += [Question(f"Question {number}?"), answer]
    database = Database(folder / FILE_NAME)
    database.save(made, made.rows, ())
    database.close()
    return made


def _last_answer(folder: Path, key: str) -> Answer:
    database = Database(folder / FILE_NAME)
    answer = database.open(key).last_answer()
    database.close()
    assert answer is not None
    return answer


def _open(terminal: Terminal, text: str) -> None:
    """Wait for the model, then open the kept conversation, which shows ``text``."""
    terminal.wait_for("ready")
    terminal.send("\x1bOR")  # F3
    terminal.wait_for("A kept one")
    terminal.send("\r")
    terminal.wait_for(text)


def idle(order: argparse.Namespace) -> Result:
    """Return the CPU that chat and worker take while a long conversation is open."""
    model = models.gguf(order.shape, order.quant)
    with home() as folder:
        _keep(folder, Conversation(), MESSAGES // 2, demo.ANSWER)
        with chat(folder, str(model)) as terminal:
            _open(terminal, f"Number {MESSAGES // 2 - 1}")
            time.sleep(SETTLE_SECONDS)
            before = terminal.cpu_seconds()
            time.sleep(IDLE_SECONDS)
            share = (terminal.cpu_seconds() - before) / IDLE_SECONDS
    print(f"idle   {share:.2%} of a core with {MESSAGES} messages open, worker included")
    return {"share": share, "target": IDLE_TARGET, "met": share < IDLE_TARGET}


def frames(order: argparse.Namespace) -> Result:
    """Return the CPU milliseconds of a frame of a short answer and of a long one."""
    found: dict[str, list[dict[str, float]]] = {"ours": [], "markdown": []}
    for _ in range(order.pairs):
        for side in found:
            with tempfile.TemporaryDirectory() as folder:
                made = Path(folder) / "frames.json"
                with Terminal([*SIDES, "frames", side, str(made)]):
                    _wait(made.exists)
                found[side].append(json.loads(made.read_text(encoding="utf-8")))
    result: Result = {}
    for side, runs in found.items():
        short, long = (statistics.median(run[str(length)] for run in runs) for length in LENGTHS)
        name = "pitool's chat" if side == "ours" else "Textual's Markdown"
        print(f"frames {name}: {short:.1f} ms at {LENGTHS[0]} tokens, {long:.1f} at {LENGTHS[1]}")
        result[side] = {"short_ms": short, "long_ms": long, "ratio": long / short}
    return {**result, "target": FRAME_TARGET, "met": result["ours"]["ratio"] <= FRAME_TARGET}


def start(order: argparse.Namespace) -> Result:
    """Return the seconds to the first paint: a bare app, the list of models, the chat itself."""
    model = models.gguf(order.shape, order.quant)
    bare: list[float] = []
    models_screen: list[float] = []
    chat_screen: list[float] = []
    with home() as folder:
        for number in range(order.pairs * 2 + 1):
            seconds = (
                _first_paint([*SIDES, "bare"], folder, READY),
                _first_paint(CHAT, folder, "Leaf-360M"),
                _first_paint([*CHAT, str(model)], folder, PROMPT_SHOWN),
            )
            for one, into in zip(seconds, (bare, models_screen, chat_screen), strict=True):
                if number:  # the first time, files come from the disk
                    into.append(one)
    base, list_, chat_ = map(statistics.median, (bare, models_screen, chat_screen))
    print(
        f"start  bare {base:.2f} s, models {list_:.2f} s ({list_ / base:.2f}),"
        f" chat {chat_:.2f} s ({chat_ / base:.2f})"
    )
    ratios = {"models": list_ / base, "chat": chat_ / base}
    met = max(ratios.values()) <= START_TARGET
    return {"bare_seconds": base, "ratios": ratios, "target": START_TARGET, "met": met}


def _first_paint(command: list[str], folder: Path, text: str) -> float:
    with Terminal(command, {"PITOOL_HOME": str(folder)}) as terminal:
        return terminal.wait_for(text)


def memory(_: argparse.Namespace) -> Result:
    """Return the resident bytes of a bare app and of the chat without a model."""
    with home() as folder:
        with Terminal([*SIDES, "bare"]) as terminal:
            terminal.wait_for(READY)
            time.sleep(SETTLE_SECONDS)
            bare = rss(terminal.pid) or 0
        with chat(folder) as terminal:
            terminal.wait_for("Leaf-360M")
            terminal.send("\x1b")
            terminal.wait_for(PROMPT_SHOWN)
            time.sleep(SETTLE_SECONDS)
            ours = rss(terminal.pid) or 0
    print(f"memory bare {bare / 1e6:.0f} MB, chat without a model {ours / 1e6:.0f} MB")
    return {"bare": bare, "chat": ours, "target": MEMORY_TARGET, "met": 0 < ours < MEMORY_TARGET}


def _wait(condition: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise SystemExit("a program in a terminal does not end")
        time.sleep(0.1)


PARTS = {
    "decode": decode,
    "wakeups": wakeups,
    "idle": idle,
    "frames": frames,
    "start": start,
    "memory": memory,
}


def main() -> None:
    """Print a line or two for each part, then JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--shape", choices=sorted(models.SHAPES), default="135m")
    parser.add_argument("--quant", default="Q4_0")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", type=int, help="of decode on both sides")
    order = parser.parse_args()
    if unknown := set(order.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}: {', '.join(PARTS)}")
    results = {}
    for name in order.parts or PARTS:
        say(f"{name} ...")
        results[name] = PARTS[name](order)
    done = {"benchmark": "tui", "shape": order.shape, "quantisation": order.quant}
    print(json.dumps({**done, "parts": results, "met": all(r["met"] for r in results.values())}))


if __name__ == "__main__":
    main()
