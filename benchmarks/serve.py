"""``pitool serve`` against llama-server of the same llama.cpp, by OpenAI's interface, interleaved.

    python -m benchmarks.serve --shape 135m --quant Q4_K_M --pairs 5

Both serve the same file with the same threads, context, slots and type of cache, and are asked by
the same client. Four figures: the decode of one client; the sum of four that ask at once; the TTFT
of a second turn while another conversation is answered; the first token after the start of the
program. Run it on a quiet machine. The last line on stdout is JSON.
"""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks import peer
from benchmarks.bench_parity import arguments, model_and_settings
from benchmarks.pairs import Comparison, Side, interleave
from benchmarks.peer import Figure
from pitool.bench.rows import LOAD_MODES
from pitool.engine.base import Settings

CLIENTS = 4
CONTEXT = 1024
"""Tokens of each slot."""
ONE, FOUR, SECOND = "one client", "four clients", "second turn"
LEAST = {ONE: 0.97, FOUR: 0.95}
SPEED_UP = 1.5
"""Of four clients over one, by pitool."""
LONGEST_TTFT = 1.1
START_SECONDS = 120.0
_TEXT = "the board has four cores and a little memory so a small model answers soon and well"
_WORDS = _TEXT.split()


@dataclass(frozen=True, slots=True)
class Answer:
    """What one request came to: tokens, seconds to the first, and seconds of the decode."""

    text: str
    tokens: int
    ttft: float
    decode: float

    @property
    def rate(self) -> float:
        """Tokens per second after the first."""
        return (self.tokens - 1) / self.decode


class Client:
    """Asks a server at a port of this machine."""

    def __init__(self, port: int) -> None:
        self.port = port

    def complete(
        self, prompt: str, tokens: int, started: Callable[[], object] = lambda: None
    ) -> Answer:
        """Return the answer to a raw prompt, streamed; ``started`` is called at its first token."""
        request = {
            "model": "any",
            "prompt": prompt,
            "max_tokens": tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        start = time.perf_counter()
        connection.request(
            "POST", "/v1/completions", json.dumps(request), {"Content-Type": "application/json"}
        )
        response = connection.getresponse()
        if response.status != 200:
            raise SystemExit(f"port {self.port} answered {response.status}: {response.read()!r}")
        first = last = 0.0
        text, tokens_said = "", 0
        for event in _events(response):
            if choices := event.get("choices"):
                last = time.perf_counter()
                if not first:
                    first = last
                    started()
                text += choices[0].get("text") or ""
            if usage := event.get("usage"):
                tokens_said = usage["completion_tokens"]
        connection.close()
        if tokens_said < tokens:
            raise SystemExit(f"port {self.port} answered {tokens_said} of {tokens} tokens")
        return Answer(text, tokens_said, first - start, last - first)


def _events(response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    """Yield the events of a stream."""
    for line in response:
        data = line.decode().strip().removeprefix("data: ")
        if data.startswith("{"):
            yield json.loads(data)


def pitool_serve(model: Path, port: int) -> list[str]:
    """Return the command that serves a model with pitool."""
    options = {"--port": port, "--context": CONTEXT, "--parallel": CLIENTS, "--waiting": CLIENTS}
    words = [str(word) for pair in options.items() for word in pair]
    return [sys.executable, "-m", "pitool", "serve", str(model), *words]


def llama_server(model: Path, settings: Settings, port: int) -> list[str]:
    """Return the command that serves a model with llama-server, as pitool loads it."""
    options = {
        "--port": port,
        "-c": CONTEXT * CLIENTS,
        "-np": CLIENTS,
        "-t": settings.decode_threads,
        "-tb": settings.prefill_threads,
        "-ub": settings.micro_batch,
        "-ctk": settings.kv_type,
        "-ctv": settings.kv_type,
        "-fa": settings.flash_attention,
        "-lm": LOAD_MODES[settings.load_mode],
        "-fit": "off",
    }
    words = [str(word) for pair in options.items() for word in pair]
    return [str(peer.program(peer.SERVER)), "-m", str(model), *words, "--no-ui", "--offline"]


@contextmanager
def serving(command: Sequence[str], port: int) -> Iterator[Client]:
    """Start a server, wait until it listens and is well, and end it."""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdout=said, stderr=said)
        try:
            _wait_for(port, process)
            yield Client(port)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            raise SystemExit(f"{process.args!r} ended with {process.returncode}")
        with suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=START_SECONDS)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        time.sleep(0.01)
    raise SystemExit(f"nothing answers at port {port}")


def free_port() -> int:
    """Return a port that nothing listens on at this moment."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def prompt(number: int, words: int) -> str:
    """Return a text that begins otherwise for each number."""
    return f"{number} " + " ".join(_WORDS[(number + i) % len(_WORDS)] for i in range(words))


def one_client(client: Client, tokens: int, number: int) -> float:
    """Return the tokens/s that one answer is decoded with, while nobody else asks."""
    return client.complete(prompt(number, 8), tokens).rate


def four_clients(client: Client, tokens: int, number: int) -> float:
    """Return the sum of the tokens/s of four answers that are decoded at once."""
    together = threading.Barrier(CLIENTS)

    def ask(place: int) -> Answer:
        together.wait()
        return client.complete(prompt(number * CLIENTS + place, 8), tokens)

    with ThreadPoolExecutor(CLIENTS) as pool:
        return sum(answer.rate for answer in pool.map(ask, range(CLIENTS)))


def second_turn(client: Client, tokens: int, number: int) -> float:
    """Return the TTFT of a second turn, in seconds, while another conversation is answered."""
    first = prompt(1000 + number, 150)
    earlier = client.complete(first, 16)
    begun = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(client.complete, prompt(2000 + number, 8), 4 * tokens, begun.set)
        begun.wait()
        ttft = client.complete(first + earlier.text + prompt(number, 30), 2).ttft
        if other.done():
            raise SystemExit("the other conversation ended too soon: raise --generate")
        other.result()
    return ttft


Measure = Callable[[Client, int, int], float]
MEASURES: dict[str, Measure] = {ONE: one_client, FOUR: four_clients, SECOND: second_turn}


def first_token(command: Sequence[str], port: int) -> float:
    """Return the seconds from the start of a server to the first token of the first request."""
    start = time.perf_counter()
    with serving(command, port) as client:
        ready = time.perf_counter() - start
        return ready + client.complete(prompt(1, 8), 2).ttft


def main() -> None:
    """Print a line for each figure, then JSON."""
    order = arguments(__doc__)
    if order.threads:
        raise SystemExit("pitool serve takes the threads that suit the machine: drop --threads")
    model, settings = model_and_settings(order)
    ports = free_port(), free_port()
    commands = pitool_serve(model, ports[0]), llama_server(model, settings, ports[1])
    found = []
    with ExitStack() as stack:
        servers = [
            stack.enter_context(serving(*each)) for each in zip(commands, ports, strict=True)
        ]
        numbers = count()
        for name, measure in MEASURES.items():

            def on(
                client: Client, name: str = name, measure: Measure = measure
            ) -> Sequence[Figure]:
                values = [
                    measure(client, order.generate, next(numbers)) for _ in range(order.repetitions)
                ]
                return [Figure(name, tuple(values))]

            found.append(compared(order.pairs, *(partial(on, client) for client in servers)))
    starts = [partial(start_figures, *each) for each in zip(commands, ports, strict=True)]
    found.append(compared(order.pairs, *starts))
    results = {each.test: each for each in found}
    speed_up = results[FOUR].ours / results[ONE].ours
    print(f"      speed-up  four clients over one: {speed_up:.2f}")
    print(json.dumps(summary(model, settings, results, speed_up)))


def start_figures(command: Sequence[str], port: int) -> Sequence[Figure]:
    """Return the seconds to the first token of two starts."""
    return [Figure("first token", (first_token(command, port), first_token(command, port)))]


def compared(pairs: int, ours: Side, theirs: Side) -> Comparison:
    """Measure one figure on both sides, print it and return it."""
    (found,) = interleave(ours, theirs, pairs)
    unit = "t/s" if found.test in (ONE, FOUR) else "s  "
    low, high = min(found.pair_ratios), max(found.pair_ratios)
    print(
        f"{found.test:>14}  ours {found.ours:8.3f} {unit}  theirs {found.theirs:8.3f} {unit}"
        f"  ratio {found.ratio:.3f}  (pairs {low:.3f} to {high:.3f})"
    )
    return found


def summary(
    model: Path, settings: Settings, results: dict[str, Comparison], speed_up: float
) -> dict[str, object]:
    """Return the results as JSON values, with which goals are reached."""
    met = {name: results[name].ratio >= least for name, least in LEAST.items()}
    met |= {"speed-up": speed_up >= SPEED_UP, SECOND: results[SECOND].ratio <= LONGEST_TTFT}
    return {
        "benchmark": "serve",
        "model": model.stem,
        "threads": settings.decode_threads,
        "llama_cpp_python": peer.version(),
        "tests": {name: result.json() for name, result in results.items()},
        "speed_up": speed_up,
        "met": met,
    }


if __name__ == "__main__":
    main()
