"""``pitool bench``: tokens per second of prefill and decode, as llama-bench measures them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pitool.cli import bench_fleet, bench_history, bench_modes, bench_options

if TYPE_CHECKING:
    from pitool.catalog.bundles import Runnable

OUTPUTS = ("table", "md", "csv", "json", "jsonl", "sql")
ARGUMENTS = "pitool.bench.arguments"
ALL, FIRST = "all", ""


class DefaultCommand(click.Group):
    """A group whose first command is meant where none is named: ``pitool bench BUNDLE``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the name of the first command before arguments that begin with none."""
        if not args or args[0] not in self.commands:
            args = [next(iter(self.commands)), *args]
        ctx.meta[ARGUMENTS] = args[1:]
        return super().parse_args(ctx, args)


command = DefaultCommand("bench", help="Measure tokens per second, memory and the board.")


@command.command("run")
@click.argument("bundles", nargs=-1, type=click.Path(path_type=Path))
@click.option("--quant", metavar="NAMES", help="Which artifacts: Q4_K_M,INT4; all if not given.")
@bench_options.grid_options
@click.option("--cooldown", type=click.FloatRange(0), metavar="°C", help="Wait until this cool.")
@click.option("--sustained", metavar="TIME", help="Instead: decode for 10m, first minute to last.")
@click.option("--cold", is_flag=True, help="Instead: load from a cold and a warm page cache, TTFT.")
@click.option("--energy", is_flag=True, help="Instead: watts and joules per token (Pi 5's PMIC).")
@click.option("--power-meter", metavar="CMD", help="The same with a command that prints watts.")
@click.option("--card", type=click.Path(path_type=Path), help="Write a .svg, .png or .md to post.")
@click.option("--hosts", metavar="LIST", help="Run it over ssh on pi@a,pi@b, one table for all.")
@click.option("-o", "--output", type=click.Choice(OUTPUTS), default="table", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="The same as -o json.")
@click.option("--force", is_flag=True, help="Load even if the memory does not seem to suffice.")
def run(**options: Any) -> None:
    """Measure tokens per second, with llama-bench's tests, statistics and flags.

    Each of BUNDLES is a folder, the name of one in the default folder, or a GGUF file; without
    one the newest bundle is taken. Lists are 128,512 or ranges 1-4, 1-8+2, 1-8*2.

    \b
    Example:
      pitool bench sample-1gb --quant Q4_0 -p 128,512 -n 64 -r 3
      pitool bench sample-1gb -t 1-4 -d 0,1024 -o md
      pitool bench history
      pitool bench compare before.json after.json
    """
    from pitool.bench import card, grid
    from pitool.cli.bench_session import Session
    from pitool.errors import UsageError

    wanted = bench_options.grid(options)
    if not wanted.workloads:
        raise UsageError("-p 0 and -n 0 leave nothing to measure", "give one of them a number")
    times = grid.number("-r", options["repetitions"])
    output = "json" if options["as_json"] else options["output"]
    options["bundles"] += options["models"]
    if options["card"]:
        card.check(options["card"])
    mode = bench_modes.chosen(options, output)
    if options["hosts"] is not None:
        if mode:
            raise UsageError("--hosts measures tests alone", f"leave --{mode.__name__} away")
        given = click.get_current_context().meta[ARGUMENTS]
        bench_fleet.run(options["hosts"], given, output, options["card"])
        return
    if mode:
        bench_modes.run(mode, _find(options["bundles"], options["quant"] or FIRST), options)
        return
    Session(wanted, times, output, options).measure(
        _find(options["bundles"], options["quant"] or ALL)
    )


def _find(bundles: tuple[Path, ...], quant: str) -> list[Runnable]:
    """Return what to measure, and say what it is when the user did not.

    ``quant``: names with commas between, ``ALL`` artifacts of each bundle, or its ``FIRST``.
    """
    from pitool.catalog.bundles import artifact_names, find_runnable, newest

    if not bundles:
        bundles = (newest().path,)
        click.echo(f"measuring the newest bundle, {bundles[0].name}", err=True)
    found = []
    for bundle in bundles:
        for name in artifact_names(bundle) if quant == ALL else quant.split(","):
            found.append(find_runnable(bundle, name.strip() or None))
    return found


command.add_command(bench_history.compare)
command.add_command(bench_history.history)
