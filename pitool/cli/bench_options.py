"""The flags of ``pitool bench``: llama-bench's and those of the modes, and what they ask for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pitool.bench.modes import MODES, asked_for
from pitool.cli.ranges import WholeRange

if TYPE_CHECKING:
    from pitool.bench.grid import Grid
    from pitool.bench.session import Procedure

OUTPUTS = ("table", "md", "csv", "json", "jsonl", "sql")
F = TypeVar("F", bound=Callable[..., Any])

# Each takes lists, ranges and repetition of the flag, as llama-bench's do.
_LISTS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("-p", "--n-prompt", "prompts"), "Prompt tokens (default: 512; 0 for none)."),
    (("-n", "--n-gen", "generates"), "Generated tokens (default: 128; 0 for none)."),
    (("-d", "--n-depth", "depths"), "Tokens in the KV cache before the test, not timed."),
    (("-b", "--batch-size", "batches"), "Maximum tokens per prefill call."),
    (("-ub", "--ubatch-size", "micro"), "Tokens per pass over the weights."),
    (("-t", "--threads", "threads"), "Threads (default: the best for this board)."),
    (("-ctk", "--cache-type-k", "keys"), "KV cache type of the keys: f16,q8_0,..."),
    (("-ctv", "--cache-type-v", "values"), "KV cache type of the values."),
    (("-fa", "--flash-attn", "flash"), "Flash attention: auto, on, off."),
    (("-lm", "--load-mode", "modes"), "How weights are loaded: mmap, none, mmap+mlock."),
    (("--repack", "repack"), "Repack the weights for this CPU: 1 or 0."),
)


def grid_options(function: F) -> F:
    """Give a command llama-bench's flags."""
    decorators = [
        click.option("-m", "--model", "models", multiple=True, type=click.Path(path_type=Path),
                     help="A GGUF file to measure, like one of BUNDLES."),
        *(
            click.option(*names, multiple=True, metavar="LIST", help=text)
            for names, text in _LISTS
        ),
        click.option("-pg", "both", multiple=True, metavar="P,G",
                     help="Prompt and generated tokens, timed together."),
        click.option("-r", "--repetitions", default="5", metavar="N",
                     help="Repetitions of each test (default: 5)."),
        click.option("--no-warmup", is_flag=True, help="Measure without a warm-up run."),
        click.option("--delay", type=WholeRange(0, 86400), default=0, metavar="SECONDS",
                     help="Pause before each test."),
    ]  # fmt: skip
    return _decorated(function, decorators)


def mode_options(function: F) -> F:
    """Give a command the flags of every mode."""
    every = [flag for flags in MODES.values() for flag in flags]
    return _decorated(
        function,
        [
            click.option(flag.name, metavar=flag.metavar, is_flag=not flag.metavar, help=flag.help)
            for flag in every
        ],
    )


def _decorated(function: F, decorators: Sequence[Callable[[F], F]]) -> F:
    for decorate in reversed(decorators):
        function = decorate(function)
    return function


def mode(options: dict[str, Any], output: str) -> str | None:
    """Return the mode that the flags ask for, None for tests; UsageError where flags clash."""
    from pitool.errors import UsageError

    wanted = asked_for(options)
    if len(wanted) > 1:
        raise UsageError(f"--{' and --'.join(wanted)} cannot be combined", "choose one of them")
    if wanted and (output not in ("table", "json") or options["card"]):
        flag = "--card" if options["card"] else f"-o {output}"
        raise UsageError(f"{flag} works only with tests", "drop it, or use --json")
    return wanted[0] if wanted else None


def procedure(options: dict[str, Any]) -> Procedure:
    """Return how each test is to be measured."""
    from pitool.bench import grid, session

    return session.Procedure(
        repetitions=grid.number("-r", options["repetitions"]),
        warm_up=not options["no_warmup"],
        delay=options["delay"],
        cooldown=options["cooldown"],
    )


def grid(options: dict[str, Any]) -> Grid:
    """Return the tests and settings that the flags ask for; UsageError says what is wrong."""
    from pitool.bench import grid
    from pitool.errors import UsageError

    def text(name: str, default: str = "") -> str:
        return ",".join(options[name]) if options[name] else default

    def listed(flag: str, name: str, default: str = "", least: int = 1) -> tuple[int, ...]:
        given = text(name, default)
        return grid.numbers(flag, given, least) if given or options[name] else ()

    wanted = grid.Grid(
        prompts=listed("-p", "prompts", "512", 0),
        generates=listed("-n", "generates", "128", 0),
        both=grid.pairs("-pg", options["both"]),
        depths=listed("-d", "depths", "0", 0),
        batches=listed("-b", "batches"),
        micro_batches=listed("-ub", "micro"),
        threads=listed("-t", "threads"),
        key_types=grid.kv_types("-ctk", text("keys")) if options["keys"] else (),
        value_types=grid.kv_types("-ctv", text("values")) if options["values"] else (),
        flash=grid.flash("-fa", text("flash")) if options["flash"] else (),
        load_modes=grid.load_modes("-lm", text("modes")) if options["modes"] else (),
        repack=grid.switches("--repack", text("repack")) if options["repack"] else (),
    )
    if not wanted.workloads:
        raise UsageError("-p 0 and -n 0 leave nothing to measure", "set one of them above 0")
    return wanted
