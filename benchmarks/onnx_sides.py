"""One side of ``benchmarks.onnx`` in a process of its own: read a prompt, generate, say how fast.

    python -P benchmarks/onnx_sides.py SIDE MODEL PROMPT_TOKENS NEW_TOKENS THREADS wall|cpu

Greedy, on random token ids; seconds are the wall's, or those that this process spent on CPUs. The
one line on stdout is JSON: tokens/s of prefill and decode, both with what choosing a token takes,
and the peak resident bytes of this process. Peers run in a virtual environment without pitool, so
that every import is made inside its own function.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

VOCABULARY = 49152
Times = tuple[float, float]
Clock = Callable[[], float]


def pitool(model: str, ids: list[int], new: int, threads: int, clock: Clock) -> Times:
    """Run pitool's engine for the kind of artifact that ``model`` is."""
    from pitool.engine import registry
    from pitool.engine.base import Sampling, Settings

    settings = Settings(context=len(ids) + new + 8, decode_threads=threads, prefill_threads=threads)
    kind = "onnx" if Path(model).is_dir() else "gguf"
    engine = registry.load(kind, Path(model), settings)
    warm = [ids[-1], *ids[:15]]
    list(engine.stream(warm, Sampling(temperature=0, max_tokens=4)))
    engine.clear()
    start = clock()
    times = []
    for token in engine.stream(ids, Sampling(temperature=0, max_tokens=new)):
        if token.timings.decoded_tokens:
            times.append(clock())
    return times[0] - start, (times[-1] - times[0]) / (len(times) - 1)


def genai(model: str, ids: list[int], new: int, threads: int, clock: Clock) -> Times:
    """Run onnxruntime-genai."""
    import onnxruntime_genai as og

    config = og.Config(model)
    config.clear_providers()
    options = {"model": {"decoder": {"session_options": {"intra_op_num_threads": threads}}}}
    config.overlay(json.dumps(options))
    loaded = og.Model(config)
    tokenizer = og.Tokenizer(loaded)  # not used, but no program does without

    def generate(prompt: list[int], count: int) -> list[float]:
        params = og.GeneratorParams(loaded)
        length = len(prompt) + count + 8
        params.set_search_options(max_length=length, min_length=length, do_sample=False)
        generator = og.Generator(loaded, params)
        times = [clock()]
        generator.append_tokens(prompt)
        for _ in range(count):
            generator.generate_next_token()
            generator.get_next_tokens()
            times.append(clock())
        return times

    generate(ids[:16], 4)
    start, *times = generate(ids, new)
    del tokenizer
    return times[0] - start, (times[-1] - times[0]) / (len(times) - 1)


def optimum(model: str, ids: list[int], new: int, threads: int, clock: Clock) -> Times:
    """Run optimum's ORTModelForCausalLM."""
    import torch
    from onnxruntime import SessionOptions
    from optimum.onnxruntime import ORTModelForCausalLM
    from transformers import AutoTokenizer

    torch.set_num_threads(threads)
    options = SessionOptions()
    options.intra_op_num_threads = threads
    name = next(path.name for path in sorted(Path(model).glob("*.onnx")))
    loaded = ORTModelForCausalLM.from_pretrained(
        model, file_name=name, session_options=options, use_io_binding=False
    )

    def generate(prompt: list[int], count: int) -> float:
        tokens = torch.tensor([prompt])
        start = clock()
        loaded.generate(
            input_ids=tokens,
            attention_mask=torch.ones_like(tokens),
            min_new_tokens=count,
            max_new_tokens=count,
            do_sample=False,
        )
        return clock() - start

    tokenizer = AutoTokenizer.from_pretrained(model)
    generate(ids[:16], 4)
    first = generate(ids, 1)
    del tokenizer
    return first, (generate(ids, new) - first) / (new - 1)


SIDES: dict[str, Callable[[str, list[int], int, int, Clock], Times]] = {
    "pitool": pitool,
    "genai": genai,
    "optimum": optimum,
}


def peak() -> int:
    """Return the most bytes that were ever resident in this process."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def main() -> None:
    """Measure and print."""
    side, model, *counts, kind = sys.argv[1:]
    clock = time.process_time if kind == "cpu" else time.perf_counter
    prompt, new, threads = map(int, counts)
    ids = random.Random(1).choices(range(1, VOCABULARY), k=prompt)
    prefill, step = SIDES[side](model, ids, new, threads, clock)
    found: dict[str, Any] = {"prefill": prompt / prefill, "decode": 1 / step, "peak": peak()}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
