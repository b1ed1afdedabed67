"""``pitool bench``: tokens per second of prefill and decode, as llama-bench measures them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pitool.bench.run import Result, Workload
    from pitool.engine.base import Settings
    from pitool.spec.bundles import Runnable

LARGEST = 1 << 24


@click.command("bench")
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@click.option("--quant", metavar="NAME", help="Which artifact of the bundle: Q4_K_M, Q8_0, ...")
@click.option("-p", "prompts", default="512", metavar="LIST", help="Prompt tokens; 0 is none.")
@click.option("-n", "generates", default="128", metavar="LIST", help="Generated tokens; 0 is none.")
@click.option("-r", "repetitions", default="5", metavar="N", help="Repetitions of each test.")
@click.option("-t", "threads", metavar="N", help="Threads for both; default: the board's best.")
@click.option("--force", is_flag=True, help="Load even if the memory does not seem to suffice.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def command(
    bundle: Path | None,
    quant: str | None,
    prompts: str,
    generates: str,
    repetitions: str,
    threads: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Measure tokens per second, with llama-bench's tests and statistics.

    BUNDLE is a folder, the name of one in the default folder, or a GGUF file; without it the
    newest bundle is taken. Lists are comma-separated.

    \b
    Example:
      pitool bench sample --quant Q4_0 -p 128,512 -n 64 -r 3
    """
    from pitool.bench import run
    from pitool.errors import Interrupted, UsageError

    tests = run.workloads(_numbers("-p", prompts), _numbers("-n", generates))
    if not tests:
        raise UsageError("-p 0 and -n 0 leave nothing to measure", "give one of them a number")
    times = _number("-r", repetitions, 1)
    runnable = _find(bundle, quant)
    settings = _settings(runnable, run.context_for(tests), threads, force=force)
    results: list[Result] = []
    try:
        _measure(runnable, settings, tests, times, results, as_json=as_json)
    except KeyboardInterrupt:
        done = sum(len(result.samples_ns) == times for result in results)
        raise Interrupted(
            f"stopped after {done} of {len(tests)} tests", "run it again for the rest"
        ) from None


def _find(bundle: Path | None, quant: str | None) -> Runnable:
    """Return what to measure, and say what it is when the user did not."""
    from pitool.spec.bundles import find_runnable, newest

    if bundle is None:
        bundle = newest().path
        click.echo(f"measuring the newest bundle, {bundle.name}", err=True)
    return find_runnable(bundle, quant)


def _settings(runnable: Runnable, context: int, threads: str | None, *, force: bool) -> Settings:
    from dataclasses import replace

    from pitool.device.settings import check_memory, settings_for

    settings = settings_for(runnable, context)
    if threads is not None:
        count = _number("-t", threads, 1)
        settings = replace(settings, decode_threads=count, prefill_threads=count)
    if not force:
        check_memory(runnable, settings)
    return settings


def _measure(
    runnable: Runnable,
    settings: Settings,
    tests: list[Workload],
    repetitions: int,
    results: list[Result],
    *,
    as_json: bool,
) -> None:
    """Measure into ``results`` and print them, also those before an error or Ctrl-C."""
    from pitool.bench import formats, run
    from pitool.bench.subject import describe
    from pitool.engine import worker

    with worker.start(runnable.format, runnable.entry, settings) as engine:
        try:
            for result in run.measure(engine, tests, repetitions):
                if not result.samples_ns:
                    results.append(result)
                results[-1] = result
                _show(result, repetitions, table=not as_json, first=len(results) == 1)
        finally:
            subject = describe(runnable, settings, engine.pid)
            if as_json:
                rows = [formats.row(result, subject) for result in results if result.samples_ns]
                click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
            elif results:
                last = results[-1]
                if 0 < len(last.samples_ns) < repetitions:
                    click.echo(formats.line(last))
                click.echo(f"\n{formats.footer(subject, engine.info.load_seconds)}", err=True)


def _show(result: Result, repetitions: int, *, table: bool, first: bool) -> None:
    """Say how far a test is, and print its line of the table when it is finished."""
    from pitool.bench import formats

    done = len(result.samples_ns)
    if done == 0:
        click.echo(f"{result.workload.name} warm-up", err=True)
        if table and first:
            click.echo(formats.head())
        return
    click.echo(f"{result.workload.name} {done}/{repetitions}", err=True)
    if table and done == repetitions:
        click.echo(formats.line(result))


def _numbers(flag: str, text: str) -> list[int]:
    """Return a comma-separated list of counts."""
    return [_number(flag, part, 0) for part in text.split(",")]


def _number(flag: str, text: str, least: int) -> int:
    """Return a whole number from ``least`` on; UsageError when it is none."""
    from pitool.errors import UsageError

    word = text.strip()
    if not (word.isascii() and word.isdigit()) or len(word) > len(str(LARGEST)):
        raise UsageError(
            f"{flag} {text!r} is not a whole number", f"give a number from {least} to {LARGEST}"
        )
    if not least <= int(word) <= LARGEST:
        raise UsageError(f"{flag} {word} is out of range", f"give one from {least} to {LARGEST}")
    return int(word)
