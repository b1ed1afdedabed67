"""A model over several servers on this machine: against llama.cpp's own programs, and its plan.

    python -m benchmarks.cluster --shape 135m --quant Q8_0 --boards 3 --pairs 5

First ``pitool cluster serve`` and pitool's engine against llama.cpp's own rpc-server and
llama-bench, with the same split, one thread each; the target is a ratio of the medians of 0.97 or
more. Then the same boards behind a link of ``--mbit`` and ``--round-trip``, whose decode is
predicted from what they do without it; the target is within 25 %. The last line on stdout is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import models, peer
from benchmarks.pairs import Comparison, Samples, compare
from benchmarks.peer import Figure
from benchmarks.throttle import throttled
from pitool.bench.run import Workload, measure
from pitool.catalog.gguf import read_header
from pitool.cluster import hello
from pitool.engine import worker
from pitool.engine.base import Settings
from pitool.planning.cluster import ClusterPlan, Link, Node, Splitter
from pitool.planning.memory import Load
from pitool.planning.shapes import header_shape, header_tensors

LEAST = 0.97
NEAR = 0.25
FIRST_PORT = 50252
GB = 10**9


def plan_for(model: Path, settings: Settings, nodes: Sequence[Node]) -> ClusterPlan:
    """Return how a model is split over nodes."""
    header = read_header(model)
    load = Load(settings.context, micro_batch=settings.micro_batch, repack=settings.repack)
    return Splitter(header_shape(header), header_tensors(header), load).plan(nodes)


def nodes(count: int, bandwidth: float, link: Link) -> list[Node]:
    """Return equal servers behind equal links, and the machine that asks, without layers."""
    asked = Node("here", 64 * GB, bandwidth, holds=False)
    return [asked, *(Node(str(i), 16 * GB, bandwidth, link=link) for i in range(count))]


@contextmanager
def servers(command: Sequence[str], ports: Sequence[int]) -> Iterator[None]:
    """Have a program serve at each port while the block runs."""
    with ExitStack() as stack:
        for port in ports:
            process = subprocess.Popen(
                [*command, "--port", str(port)],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                env={**os.environ, "GGML_NO_BACKTRACE": "1"},
            )  # fmt: skip
            stack.callback(process.wait)
            stack.callback(process.kill)
        for port in ports:
            _await(port)
        yield


def _await(port: int) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            hello.greet("127.0.0.1", port)
        except (OSError, ValueError):
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
        else:
            return


def our_servers(threads: int) -> list[str]:
    """Return the command of a board, without the tensors that it would keep."""
    words = ["--host", "127.0.0.1", "--threads", str(threads), "--no-cache"]
    return [sys.executable, "-m", "pitool", "cluster", "serve", *words]


def ours(model: Path, settings: Settings, workload: Workload, repetitions: int) -> list[Figure]:
    """Return what pitool's engine does over the servers of ``settings``."""
    tests = [replace(workload, generate=0), replace(workload, prompt=0)]
    with worker.start("gguf", model, settings) as engine:
        every = measure(engine, [test for test in tests if test.tokens], repetitions)
        found = {result.workload.name: result for result in every}
    return [Figure(name, result.samples_ts) for name, result in found.items()]


def theirs(model: Path, settings: Settings, workload: Workload, repetitions: int) -> list[Figure]:
    """Return what llama-bench does over servers with the same split."""
    split = list(settings.server_layers)
    split[-1] += 1  # the head, which llama.cpp counts as a layer
    order: dict[str, Any] = {
        "-m": model,
        "--rpc": ",".join(settings.servers),
        "-ts": "/".join(map(str, split)),
        "-ngl": sum(split),
        "-t": settings.decode_threads,
        "-p": workload.prompt,
        "-n": workload.generate,
        "-r": repetitions,
        "-ub": settings.micro_batch,
        "-fa": "auto",
        "-o": "json",
    }
    if settings.head_here:
        order["-ot"] = "^(output|token_embd).weight$=CPU"
    words = [str(word) for pair in order.items() for word in pair]
    done = subprocess.run(
        [peer.program(peer.BENCH), *words], check=True, capture_output=True, text=True
    )
    return [peer.figure(row) for row in json.loads(done.stdout)]


def against_llama_cpp(
    model: Path, settings: Settings, workload: Workload, count: int, pairs: int, repetitions: int
) -> list[Comparison]:
    """Return the comparison of both, each with servers of its own, in turn."""
    ports = [FIRST_PORT + 4 * i for i in range(count)]
    their_server = [str(peer.program(peer.RPC_SERVER)), "-H", "127.0.0.1", "-t", "1"]
    found: dict[str, Samples] = {}
    for pair in range(pairs + 1):
        for mine in (True, False) if pair % 2 else (False, True):
            with servers(our_servers(1) if mine else their_server, ports):
                side = ours if mine else theirs
                figures = side(model, settings, workload, repetitions)
            for figure in figures if pair else ():  # the first is not counted
                samples = found.setdefault(figure.test, Samples())
                (samples.ours if mine else samples.theirs).append(figure.samples)
        peer.say(f"pair {pair} of {pairs}")
    return [compare(test, samples) for test, samples in found.items()]


def behind_a_link(
    model: Path, settings: Settings, count: int, link: Link, tokens: int
) -> tuple[float, float]:
    """Return predicted and measured decode over boards behind a link, in tokens/s.

    What a board reads is known from the same boards without the link.
    """
    ports = [FIRST_PORT + 4 * i for i in range(count)]
    workload = Workload(0, tokens)
    free = nodes(count, float(GB), Link(1e-9, 1e18))
    with servers(our_servers(1), ports), ExitStack() as stack:
        rate = _decode(model, settings, workload)
        streamed = GB * plan_for(model, settings, free).decode_seconds
        plan = plan_for(model, settings, nodes(count, streamed * rate, link))
        proxies = [stack.enter_context(throttled(("127.0.0.1", port), link)) for port in ports]
        slow = replace(
            settings,
            servers=tuple(f"127.0.0.1:{proxy.port}" for proxy in proxies),
            head_here=plan.head_here,
        )
        return plan.decode, _decode(model, slow, workload)


def _decode(model: Path, settings: Settings, workload: Workload) -> float:
    (figure,) = ours(model, settings, workload, 3)
    return statistics.median(figure.samples)


def main() -> None:
    """Print a line for each test, then JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--shape", choices=sorted(models.SHAPES), default="135m")
    parser.add_argument("--quant", default="Q4_0")
    parser.add_argument("--boards", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--generate", type=int, default=64)
    parser.add_argument("--mbit", type=float, default=100.0)
    parser.add_argument("--round-trip", type=float, default=1.0, metavar="MS")
    order = parser.parse_args()
    model = models.gguf(order.shape, order.quant)
    link = Link(order.round_trip / 1e3, order.mbit * 1e6 / 8)
    base = Settings(context=order.prompt + order.generate, decode_threads=1, prefill_threads=1)
    plan = plan_for(model, base, nodes(order.boards, 10e9, Link(1e-5, 1e9)))
    settings = replace(
        base,
        servers=tuple(f"127.0.0.1:{FIRST_PORT + 4 * i}" for i in range(len(plan.servers))),
        server_layers=tuple(share.layers for share in plan.servers),
        head_here=plan.head_here,
        micro_batch=plan.load.micro_batch,
    )
    workload = Workload(order.prompt, order.generate)
    results = against_llama_cpp(
        model, settings, workload, order.boards, order.pairs, order.repetitions
    )
    for result in results:
        print(result.line())
    predicted, measured = behind_a_link(model, settings, order.boards, link, order.generate)
    off = predicted / measured - 1
    print(
        f"behind {order.mbit:g} Mbit/s and {order.round_trip:g} ms: predicted {predicted:.2f} t/s,"
        f" measured {measured:.2f} t/s ({off:+.1%})"
    )
    print(
        json.dumps(
            {
                "benchmark": "cluster",
                "model": model.stem,
                "boards": order.boards,
                "layers": list(settings.server_layers),
                "llama_cpp_python": peer.version(),
                "tests": [result.json() for result in results],
                "link": {"predicted": predicted, "measured": measured},
                "target": {"ratio": LEAST, "link": NEAR},
                "met": all(r.ratio >= LEAST for r in results) and abs(off) <= NEAR,
            }
        )
    )


if __name__ == "__main__":
    main()
