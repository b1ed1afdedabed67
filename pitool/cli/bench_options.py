"""llama-bench's flags, and what they ask for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from pitool.bench.grid import Grid

F = TypeVar("F", bound=Callable[..., Any])

# Each takes lists, ranges and repetition of the flag, as llama-bench's do.
_LISTS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("-p", "--n-prompt", "prompts"), "Prompt tokens, 512 if not given; 0 is none."),
    (("-n", "--n-gen", "generates"), "Generated tokens, 128 if not given; 0 is none."),
    (("-d", "--n-depth", "depths"), "Tokens in the KV cache before; they are not timed."),
    (("-b", "--batch-size", "batches"), "Most tokens of one prefill call."),
    (("-ub", "--ubatch-size", "micro"), "Tokens of one pass over the weights."),
    (("-t", "--threads", "threads"), "Threads; the board's best if not given."),
    (("-ctk", "--cache-type-k", "keys"), "KV cache type of the keys: f16,q8_0,..."),
    (("-ctv", "--cache-type-v", "values"), "KV cache type of the values."),
    (("-fa", "--flash-attn", "flash"), "Flash attention: auto, on, off."),
    (("-lm", "--load-mode", "modes"), "How weights are loaded: mmap, none, mmap+mlock."),
    (("--repack", "repack"), "1 or 0: interleave weights for this CPU, or not."),
)


def grid_options(function: F) -> F:
    """Give a command llama-bench's flags."""
    decorators = [
        click.option("-m", "--model", "models", multiple=True, type=click.Path(path_type=Path),
                     help="A GGUF file; the same as BUNDLES."),
        *(
            click.option(*names, multiple=True, metavar="LIST", help=text)
            for names, text in _LISTS
        ),
        click.option("-pg", "both", multiple=True, metavar="P,G",
                     help="Prompt and generation in one time."),
        click.option("-r", "--repetitions", default="5", metavar="N",
                     help="Repetitions of each test; 5 if not given."),
        click.option("--no-warmup", is_flag=True, help="Measure without a warm-up run."),
        click.option("--delay", type=click.IntRange(0, 86400), default=0, metavar="SECONDS",
                     help="Wait so long before each test."),
    ]  # fmt: skip
    for decorate in reversed(decorators):
        function = decorate(function)
    return function


def grid(options: dict[str, Any]) -> Grid:
    """Return the tests and settings that the flags ask for; UsageError says what is wrong."""
    from pitool.bench import grid

    def text(name: str, default: str = "") -> str:
        return ",".join(options[name]) if options[name] else default

    def listed(flag: str, name: str, default: str = "", least: int = 1) -> tuple[int, ...]:
        given = text(name, default)
        return grid.numbers(flag, given, least) if given or options[name] else ()

    return grid.Grid(
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
