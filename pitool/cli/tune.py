"""``pitool tune``: the fastest settings of an artifact on this machine, measured and kept."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from pitool.bench.tune import Trial
    from pitool.engine.base import Engine, Settings

CONTEXT = 512


@click.command("tune")
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@click.option("--quant", metavar="NAME", help="Which artifact of the bundle: Q4_K_M, INT4, ...")
@click.option("--probe", is_flag=True, help="Only measure the memory's bandwidth, for pitool plan.")
@click.option("--dry-run", is_flag=True, help="Measure, but keep nothing.")
@click.option("--force", is_flag=True, help="Load even if the memory does not seem to suffice.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    bundle: Path | None,
    quant: str | None,
    probe: bool,
    dry_run: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Find the fastest settings of an artifact on this machine.

    Tries threads, batch sizes, flash attention, repacking and load modes one after the other and
    keeps what wins by more than the noise. run, chat and bench use it from then on and say so.

    \b
    Example:
      pitool tune
      pitool tune sample-1gb --quant Q4_0 --dry-run
      pitool tune --probe
    """
    if probe:
        _probe(dry_run, as_json)
        return
    import datetime

    from pitool.bench import tune
    from pitool.device import tuned
    from pitool.device.detect import detect
    from pitool.device.settings import check_memory, untuned
    from pitool.engine import worker
    from pitool.spec.bundles import find_runnable

    machine = detect()
    runnable = find_runnable(bundle, quant)
    base = untuned(runnable, CONTEXT, machine)
    if not force:
        check_memory(runnable, base, machine)

    def open_engine(settings: Settings) -> AbstractContextManager[Engine]:
        return worker.start(runnable.format, runnable.entry, settings)

    plan = tune.axes(base, machine.physical_cores, runnable.format)
    click.echo(
        f"tuning {runnable.name} ({runnable.quantisation}) on {machine.board_name}", err=True
    )
    best = base
    trials = []
    for trial, after in tune.tune(base, plan, open_engine):
        trials.append(trial)
        best = after
        click.echo(_line(trial), err=True)
    changes = tuned.changes(base, best)
    gains = {"prefill": 1.0, "decode": 1.0}
    if changes:
        click.echo("measuring the winner against the defaults once more", err=True)
        ratios = tune.in_turn(base, best, ("prefill", "decode"), open_engine)
        gains = {phase: round(ratio.value, 3) for phase, ratio in ratios.items()}
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    result = tuned.Tuned(changes, today, gains["prefill"], gains["decode"])
    if not dry_run:
        tuned.keep(result, runnable, machine)
    if as_json:
        document = {**asdict(result), "kept": not dry_run, "trials": [asdict(t) for t in trials]}
        click.echo(json.dumps(document, indent=2))
        return
    click.echo(result.words)
    click.echo(f"prefill {gains['prefill']:.2f} times, decode {gains['decode']:.2f} times as fast")


def _line(trial: Trial) -> str:
    """Return a trial for people."""
    name = f"{trial.axis.replace('_', ' ')} {trial.value}"
    if trial.failed:
        return f"  {name:<22}  not possible: {trial.failed}"
    parts = [f"{phase} {ratio.value:.2f}" for phase, ratio in trial.ratios.items()]
    return f"  {name:<22}  {', '.join(parts)}{'  kept' if trial.won else ''}"


def _probe(dry_run: bool, as_json: bool) -> None:
    """Measure the memory's bandwidth for five seconds and keep it."""
    from pitool.device import probe
    from pitool.device.detect import detect

    machine = detect()
    click.echo(f"reading memory on {machine.board_name} for {probe.SECONDS:.0f} s", err=True)
    found = probe.measure(machine)
    if not dry_run:
        click.echo(f"kept in {probe.keep(found)}", err=True)
    if as_json:
        click.echo(json.dumps({**asdict(found), "kept": not dry_run}, indent=2))
    else:
        click.echo(f"memory reads {found.read_gbs:.1f} GB/s with all cores")
