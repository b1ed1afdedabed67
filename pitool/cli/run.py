"""``pitool run``: a prompt, or line after line of them; answers on stdout, figures on stderr."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pitool.cli.guess_options import guess_options
from pitool.cli.kv_type import kv_type_option, parse
from pitool.cli.names import cluster_option
from pitool.cli.ranges import FiniteRange, WholeRange

if TYPE_CHECKING:
    from pitool.chat.answer import PromptStyle
    from pitool.engine.base import Engine, Prompt, Sampling


@click.command("run", context_settings={"show_default": True})
@click.argument("words", nargs=-1, metavar="[BUNDLE] [PROMPT]")
@click.option("-i", "--interactive", is_flag=True, help="Chat line by line, without a screen.")
@click.option("--quant", metavar="NAME", help="Artifact of the bundle, such as Q4_K_M.")
@click.option("--raw", is_flag=True, help="Continue the prompt without the chat template.")
@click.option("--system", metavar="TEXT", help="System prompt.")
@click.option("--prefill", metavar="NAME|FILE",
              help="Begin with a prompt that pitool prefill has read.")  # fmt: skip
@click.option("--max-tokens", type=WholeRange(min=1), help="Maximum tokens in the answer.")
@click.option("--temp", type=FiniteRange(min=0), default=0.8, help="Temperature; 0 is greedy.")
@click.option(
    "--top-k", type=WholeRange(min=0), default=40, help="Most likely tokens kept; 0 for all."
)
@click.option("--top-p", type=FiniteRange(0, 1), default=0.95, help="Probability kept; 1 for all.")
@click.option("--min-p", type=FiniteRange(0, 1), default=0.05,
              help="Least probability, relative to the most likely token.")  # fmt: skip
@click.option("--repeat-penalty", type=FiniteRange(min=0, min_open=True), default=1.0,
              help="Penalty on repeated tokens; 1 for none.")  # fmt: skip
@click.option("--seed", type=int, help="Random seed, for repeatable answers.")
@click.option("--stop", multiple=True, metavar="TEXT", help="Text that ends the answer.")
@click.option("--context", type=WholeRange(min=256), help="Context size in tokens.")
@click.option("--threads", type=WholeRange(1, 512), metavar="N", help="CPU threads.")
@cluster_option
@guess_options
@kv_type_option
@click.option("--force", is_flag=True, help="Load even if the memory seems too small.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    words: tuple[str, ...],
    interactive: bool,
    quant: str | None,
    raw: bool,
    system: str | None,
    prefill: str | None,
    context: int | None,
    threads: int | None,
    cluster: str | None,
    draft: str | None,
    speculate: bool,
    kv_type: str | None,
    force: bool,
    as_json: bool,
    **sampling: Any,
) -> None:
    """Answer one prompt with a bundle, a GGUF file or an ONNX folder.

    Without BUNDLE the newest one is used. Without PROMPT it is read from standard input.

    With -i each line of standard input is a turn of one conversation, PROMPT the first of them;
    lines that begin with / are commands, which /help lists. Ctrl-C stops an answer, Ctrl-D ends.

    \b
    Example:
      pitool run "What is a Raspberry Pi?"
      pitool run ./my-bundle "Write a haiku." --temp 0
      cat letter.txt | pitool run --system "Summarise." --max-tokens 200
      pitool run -i --system "Answer briefly."
    """
    from pitool.catalog.model_argument import find_runnable
    from pitool.chat.answer import PromptStyle
    from pitool.cli.loading import loader, loading_words
    from pitool.cli.prefill import beginning_of
    from pitool.engine.base import Sampling
    from pitool.errors import UsageError
    from pitool.report.progress import talk

    if interactive and as_json:
        raise UsageError("-i and --json cannot be combined", "drop one of them")
    where, text = _split(words)
    runnable = find_runnable(where, quant)
    if where is None:
        click.echo(f"bundle: {runnable.name} ({runnable.quantisation})", err=True)
    if not interactive:
        text = _read_stdin() if text is None else text
    if words_before := loading_words(runnable, context):
        click.echo(words_before, err=True)
    chosen = Sampling(
        temperature=sampling["temp"],
        **{k: v for k, v in sampling.items() if k != "temp"},
    )
    load = loader(
        context,
        threads,
        force=force,
        cluster=cluster,
        draft=draft,
        speculate=speculate,
        cache=parse(kv_type),
        say=talk,
    )
    style = PromptStyle(raw=raw, empty_system=system == "")
    if prefill is not None:
        style = replace(style, before=beginning_of(runnable, prefill))
    if as_json:
        assert text is not None
        with load(runnable, lambda _: None) as engine:
            document = _collect(engine, _prompt(engine, text, system or "", style), chosen)
        click.echo(json.dumps(document, ensure_ascii=False))
        return
    from pitool.cli.run_answers import AnswerWriter

    with AnswerWriter(load, style, system or "", chosen) as writer:
        writer.load(runnable)
        if interactive:
            from pitool.cli.run_dialogue import Dialogue

            Dialogue(writer).talk(text)
        else:
            assert text is not None
            writer.ask(text)


def _split(words: tuple[str, ...]) -> tuple[Path | None, str | None]:
    """Tell bundle and prompt apart: of one word, only an existing path is a bundle."""
    from pitool.catalog.bundles import is_name
    from pitool.catalog.files import expand, path_kind
    from pitool.errors import UsageError

    match words:
        case ():
            return None, None
        case (word,):
            path = Path(word)
            looks = path.suffix == ".gguf" or word.startswith(("./", "../", "/", "~"))
            if path_kind(path) or is_name(path) or looks:
                return expand(str(path)), None
            return None, word
        case (where, text):
            return expand(where), text
        case _:
            raise UsageError("too many arguments", "quote the prompt")


def _read_stdin() -> str:
    from pitool.errors import UsageError

    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError("no prompt given", "give one in quotes, or on standard input")
    text = sys.stdin.buffer.read().decode(errors="replace").strip()
    if not text:
        raise UsageError("the prompt on standard input is empty", "give one in quotes")
    return text


def _prompt(engine: Engine, text: str, system: str, style: PromptStyle) -> Prompt:
    """Return the prompt of the first question of a conversation."""
    from pitool.chat.answer import fit
    from pitool.store.conversation import Answer, Conversation, Question

    answer = Answer("")
    asked = Conversation(system, [Question(text), answer])
    return fit(engine, asked, answer, drop=False, style=style).prompt


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
        "reused_tokens": t.reused_tokens,
        "decoded_tokens": t.decoded_tokens,
        "prefill_tokens_per_second": t.prefill_rate,
        "decode_tokens_per_second": t.decode_rate,
        "guessed_tokens": t.guessed_tokens,
        "accepted_tokens": t.accepted_tokens,
        "ttft_seconds": t.ttft_seconds,
        "load_seconds": engine.info.load_seconds,
        "peak_memory_bytes": peak_rss(engine.pid),
    }
