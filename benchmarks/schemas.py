"""Do a model's answers follow the schemas that are asked for? Random schemas, a real GGUF.

    python -m benchmarks.schemas MODEL.gguf --count 200 --tokens 300

Every answer that ends by itself has to parse and to validate by the jsonschema package, which
knows nothing of pitool; how many ended within the tokens is told beside it. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from pitool.engine import worker
from pitool.engine.base import Engine, Message, Sampling, Settings
from pitool.grammar import grammar_of_schema
from tests.grammar.schemas import random_schema


def ask(engine: Engine, schema: Any, seed: int, tokens: int, *, held: bool) -> tuple[str, str]:
    """Return an answer and why it ended; ``held``: by the grammar."""
    sampling = Sampling(
        temperature=0.7, seed=seed, max_tokens=tokens,
        grammar=grammar_of_schema(schema) if held else "",
    )  # fmt: skip
    prompt = f"Write one example as JSON that follows this schema:\n{json.dumps(schema)}"
    text, finish = "", ""
    for token in engine.stream([Message("user", prompt)], sampling):
        text, finish = text + token.text, token.finish or finish
    return text, finish


def follows(text: str, schema: Any) -> str:
    """Return what is wrong with an answer, nothing where it parses and validates."""
    import jsonschema

    checker = jsonschema.Draft202012Validator(
        schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )
    try:
        return "; ".join(error.message for error in checker.iter_errors(json.loads(text)))
    except ValueError as error:
        return str(error)


def main() -> int:
    """Ask and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=300)
    parser.add_argument("--free", action="store_true", help="without the grammar, to compare")
    asked = parser.parse_args()
    settings = Settings(context=2048, decode_threads=1, prefill_threads=1)
    ended = wrong = 0
    start = time.perf_counter()
    with worker.start("gguf", asked.model, settings) as engine:
        for seed in range(asked.count):
            schema = random_schema(seed)
            text, finish = ask(engine, schema, seed, asked.tokens, held=not asked.free)
            print(f"\r{seed + 1} of {asked.count}", end="", file=sys.stderr, flush=True)
            if finish != "stop":
                continue
            ended += 1
            if fault := follows(text, schema):
                wrong += 1
                print(f"{seed}: {fault[:200]}\n  {text}", file=sys.stderr)
    result = {
        "schemas": asked.count, "ended": ended, "wrong": wrong,
        "seconds": round(time.perf_counter() - start, 1),
    }  # fmt: skip
    print(json.dumps(result))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
