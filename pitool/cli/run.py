"""``pitool run``: one prompt, the answer on stdout, the figures on stderr."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pitool.engine.base import Engine, Prompt, Sampling, Token


# Faster tokens are shown together: each write wakes a reader on a core that the model could use.
FLUSH_SECONDS = 0.02


@click.command("run")
@click.argument("words", nargs=-1, metavar="[BUNDLE] [PROMPT]")
@click.option("--quant", metavar="NAME", help="Which artifact of the bundle.")
@click.option("--raw", is_flag=True, help="Continue the prompt without the chat template.")
@click.option("--system", metavar="TEXT", help="System prompt.")
@click.option("--max-tokens", type=click.IntRange(min=1), help="Most tokens of the answer.")
@click.option("--temp", type=click.FloatRange(min=0), default=0.8, help="0 is greedy.")
@click.option("--top-k", type=click.IntRange(min=0), default=40)
@click.option("--top-p", type=click.FloatRange(0, 1), default=0.95)
@click.option("--min-p", type=click.FloatRange(0, 1), default=0.05)
@click.option("--repeat-penalty", type=click.FloatRange(min=0, min_open=True), default=1.0)
@click.option("--seed", type=int, help="Makes the answer repeatable.")
@click.option("--stop", multiple=True, metavar="TEXT", help="Text that ends the answer.")
@click.option("--context", type=click.IntRange(min=256), help="Tokens of context.")
@click.option("--threads", type=click.IntRange(1, 512), metavar="N", help="Threads of the CPU.")
@click.option("--force", is_flag=True, help="Load even if the memory seems too small.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    words: tuple[str, ...],
    quant: str | None,
    raw: bool,
    system: str | None,
    context: int | None,
    threads: int | None,
    force: bool,
    as_json: bool,
    **sampling: Any,
) -> None:
    """Answer one prompt with a bundle, a GGUF file or an ONNX folder.

    Without BUNDLE the newest one is taken. Without PROMPT it is read from standard input.

    \b
    Example:
      pitool run "What is a Raspberry Pi?"
      pitool run ./my-bundle "Write a haiku." --temp 0
      cat letter.txt | pitool run --system "Summarise." --max-tokens 200
    """
    from pitool.catalog.bundles import find_runnable
    from pitool.device import tuned
    from pitool.device.detect import detect
    from pitool.device.settings import check_memory, settings_for
    from pitool.engine import worker
    from pitool.engine.base import Sampling

    where, text = _split(words)
    runnable = find_runnable(where, quant)
    if where is None:
        click.echo(f"bundle: {runnable.name} ({runnable.quantisation})", err=True)
    text = _read_stdin() if text is None else text
    machine = detect()
    settings = settings_for(runnable, context, machine, threads=threads)
    if known := tuned.find(runnable, machine):
        click.echo(known.words, err=True)
    if not force:
        check_memory(runnable, settings)
    chosen = Sampling(
        temperature=sampling["temp"],
        **{k: v for k, v in sampling.items() if k != "temp"},
    )
    with worker.start(runnable.format, runnable.entry, settings) as engine:
        prompt = _prompt(engine, text, system, raw=raw)
        if as_json:
            click.echo(json.dumps(_collect(engine, prompt, chosen), ensure_ascii=False))
        else:
            _stream(engine, prompt, chosen)


def _split(words: tuple[str, ...]) -> tuple[Path | None, str | None]:
    """Tell bundle and prompt apart: of one word, only an existing path is a bundle."""
    from pitool.catalog.bundles import is_name
    from pitool.catalog.files import what_is
    from pitool.errors import UsageError

    match words:
        case ():
            return None, None
        case (word,):
            path = Path(word)
            looks = path.suffix == ".gguf" or word.startswith(("./", "../", "/", "~"))
            if what_is(path) or is_name(path) or looks:
                return path.expanduser(), None
            return None, word
        case (where, text):
            return Path(where).expanduser(), text
        case _:
            raise UsageError("there are more words than BUNDLE and PROMPT", "quote the prompt")


def _read_stdin() -> str:
    from pitool.errors import UsageError

    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError("there is no prompt", "give one in quotes, or pipe it in")
    text = sys.stdin.buffer.read().decode(errors="replace").strip()
    if not text:
        raise UsageError("the prompt on standard input is empty", "give one in quotes")
    return text


def _prompt(engine: Engine, text: str, system: str | None, *, raw: bool) -> Prompt:
    """Return the conversation, or the bare text for --raw and for models without a template."""
    from pitool.engine.base import Message

    if raw or not engine.info.chat_template:
        if not raw:
            click.echo("the model has no chat template: it continues the text", err=True)
        return text if system is None else f"{system}\n{text}"
    turns = [Message("system", system)] if system is not None else []
    return [*turns, Message("user", text)]


def _stream(engine: Engine, prompt: Prompt, sampling: Sampling) -> None:
    last = None
    flushed = 0.0
    try:
        for last in engine.stream(prompt, sampling):
            sys.stdout.write(last.text)
            now = time.monotonic()
            if last.text and now - flushed >= FLUSH_SECONDS:
                sys.stdout.flush()
                flushed = now
    finally:
        if last is not None and last.timings.decoded_tokens:
            sys.stdout.write("\n")
            sys.stdout.flush()
    if last is not None:
        click.echo(_figures(engine, last), err=True)


def _figures(engine: Engine, last: Token) -> str:
    from pitool.device.memory import peak_rss
    from pitool.report.numbers import format_bytes

    t = last.timings
    peak = peak_rss(engine.pid)
    parts = [
        f"prefill {t.prompt_tokens - t.reused_tokens} tokens, {t.prefill_rate:.1f} t/s",
        f"decode {t.decoded_tokens} tokens, {t.decode_rate:.1f} t/s",
        f"TTFT {t.ttft_seconds:.2f} s",
        f"load {engine.info.load_seconds:.1f} s",
        f"memory {format_bytes(peak)}" if peak else "memory unknown",
    ]
    if last.finish in ("length", "context"):
        parts.append("stopped at the limit of tokens")
    return " | ".join(parts)


def _collect(engine: Engine, prompt: Prompt, sampling: Sampling) -> dict[str, Any]:
    from pitool.device.memory import peak_rss

    tokens = list(engine.stream(prompt, sampling))
    t = tokens[-1].timings
    return {
        "model": engine.info.name,
        "quantisation": engine.info.quantisation,
        "text": "".join(token.text for token in tokens),
        "prompt_ids": engine.tokenize(prompt),
        "ids": [token.id for token in tokens if token.id is not None],
        "finish": tokens[-1].finish,
        "prompt_tokens": t.prompt_tokens,
        "decoded_tokens": t.decoded_tokens,
        "prefill_tokens_per_second": t.prefill_rate,
        "decode_tokens_per_second": t.decode_rate,
        "ttft_seconds": t.ttft_seconds,
        "load_seconds": engine.info.load_seconds,
        "peak_memory_bytes": peak_rss(engine.pid),
    }
