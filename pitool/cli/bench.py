"""``pitool bench``: tokens per second of prefill and decode, as llama-bench measures them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pitool.cli import bench_fleet, bench_history, bench_modes

if TYPE_CHECKING:
    from pitool.bench.grid import Grid
    from pitool.bench.history import Recorded
    from pitool.bench.run import Result
    from pitool.spec.bundles import Runnable

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
@click.option("-p", "prompts", default="512", metavar="LIST", help="Prompt tokens; 0 is none.")
@click.option("-n", "generates", default="128", metavar="LIST", help="Generated tokens; 0 is none.")
@click.option("-pg", "both", multiple=True, metavar="P,G", help="Prompt and generation together.")
@click.option("-d", "depths", default="0", metavar="LIST", help="Tokens in the KV cache before.")
@click.option("-b", "batches", metavar="LIST", help="Most tokens of one prefill call.")
@click.option("-ub", "micro", metavar="LIST", help="Tokens of one pass over the weights.")
@click.option("-t", "threads", metavar="LIST", help="Threads; default: the board's best.")
@click.option("-ctk", "keys", metavar="LIST", help="KV cache type of the keys: f16,q8_0,...")
@click.option("-ctv", "values", metavar="LIST", help="KV cache type of the values.")
@click.option("-fa", "flash", metavar="LIST", help="Flash attention: auto, on, off.")
@click.option("-r", "repetitions", default="5", metavar="N", help="Repetitions of each test.")
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
    from pitool.bench import card, conditions, grid, history
    from pitool.bench.printers import PRINTERS
    from pitool.errors import UsageError

    wanted = _grid(options)
    if not wanted.workloads:
        raise UsageError("-p 0 and -n 0 leave nothing to measure", "give one of them a number")
    times = grid.number("-r", options["repetitions"])
    output = "json" if options["as_json"] else options["output"]
    if options["hosts"] is not None:
        bench_fleet.run(options["hosts"], click.get_current_context().meta[ARGUMENTS], output)
        return
    if options["card"]:
        card.check(options["card"])
    if mode := bench_modes.chosen(options):
        bench_modes.run(mode, _find(options["bundles"], options["quant"] or FIRST), options)
        return
    subjects = _find(options["bundles"], options["quant"] or ALL)
    name = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    printer = history.Recorded(PRINTERS[output](click.echo), history.open_history(), name)
    try:
        for runnable in subjects:
            _measure(runnable, wanted, times, printer, options)
    finally:
        printer.end()
        for line in conditions.summary(printer.results):
            click.echo(line, err=True)
        if options["card"] and printer.rows:
            card.write(options["card"], printer.rows)
            click.echo(f"card: {options['card']}", err=True)


def _grid(options: dict[str, Any]) -> Grid:
    from pitool.bench import grid

    def listed(flag: str, name: str, least: int = 1) -> tuple[int, ...]:
        text = options[name]
        return () if text is None else grid.numbers(flag, text, least)

    return grid.Grid(
        prompts=listed("-p", "prompts", 0),
        generates=listed("-n", "generates", 0),
        both=grid.pairs("-pg", options["both"]),
        depths=listed("-d", "depths", 0),
        batches=listed("-b", "batches"),
        micro_batches=listed("-ub", "micro"),
        threads=listed("-t", "threads"),
        key_types=grid.kv_types("-ctk", options["keys"]) if options["keys"] else (),
        value_types=grid.kv_types("-ctv", options["values"]) if options["values"] else (),
        flash=grid.flash("-fa", options["flash"]) if options["flash"] else (),
    )


def _find(bundles: tuple[Path, ...], quant: str) -> list[Runnable]:
    """Return what to measure, and say what it is when the user did not.

    ``quant``: names with commas between, ``ALL`` artifacts of each bundle, or its ``FIRST``.
    """
    from pitool.spec.bundles import artifact_names, find_runnable, newest

    if not bundles:
        bundles = (newest().path,)
        click.echo(f"measuring the newest bundle, {bundles[0].name}", err=True)
    found = []
    for bundle in bundles:
        for name in artifact_names(bundle) if quant == ALL else quant.split(","):
            found.append(find_runnable(bundle, name.strip() or None))
    return found


def _measure(
    runnable: Runnable, wanted: Grid, repetitions: int, printer: Recorded, options: dict[str, Any]
) -> None:
    """Measure every setting of the grid on one artifact."""
    from pitool.device.settings import check_memory, settings_for

    base = settings_for(runnable, wanted.context)
    for settings in wanted.settings(base):
        if not options["force"]:
            check_memory(runnable, settings)
        _one_load(runnable, settings, wanted, repetitions, printer, options["cooldown"])


def _one_load(
    runnable: Runnable,
    settings: Any,
    wanted: Grid,
    repetitions: int,
    printer: Recorded,
    cooldown: float | None,
) -> None:
    """Measure one load of an artifact; what is half done at Ctrl-C or an error is kept too."""
    from pitool.bench import formats, learn, plausibility, run
    from pitool.bench.subject import describe
    from pitool.device import activity
    from pitool.device.settings import settings_for
    from pitool.engine import worker
    from pitool.errors import Interrupted

    with worker.start(runnable.format, runnable.entry, settings) as engine:
        look = activity.looker(engine.pid)
        begun: list[run.Result] = []  # the test that is running
        measured: list[run.Result] = []
        try:
            for test in wanted.workloads:
                _cool(cooldown)
                for result in run.measure(engine, [test], repetitions, look):
                    begun = [result]
                    _say_progress(result, repetitions)
                measured.append(begun.pop())
                printer.add(measured[-1], describe(runnable, settings, engine.pid))
        except KeyboardInterrupt:
            raise Interrupted(
                f"stopped after {len(measured)} of {len(wanted.workloads)} tests", "run it again"
            ) from None
        finally:
            subject = describe(runnable, settings, engine.pid)
            for result in begun:
                if result.samples_ns:
                    printer.add(result, subject)
        if settings == settings_for(runnable, wanted.context):
            learn.keep(measured, subject)
        click.echo(formats.footer(subject, engine.info.load_seconds), err=True)
        for verdict in (plausibility.assess(result, subject) for result in measured):
            for line in verdict.lines if verdict else ():
                click.echo(line, err=True)


def _cool(limit: float | None) -> None:
    """Wait until the board is as cool as asked for; say so."""
    from pitool.bench import cooldown

    if limit is not None:
        cooldown.wait(limit, lambda line: click.echo(line, err=True))


def _say_progress(result: Result, repetitions: int) -> None:
    done = len(result.samples_ns)
    state = f"{done}/{repetitions}" if done else "warm-up"
    click.echo(f"{result.workload.name} {state}", err=True)


command.add_command(bench_history.compare)
command.add_command(bench_history.history)
