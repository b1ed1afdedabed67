"""``pitool tune``: the fastest settings of an artifact on this machine, measured and saved."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pitool.cli.names import BundlePath
from pitool.report.numbers import format_bandwidth, format_fixed, format_share, format_significant

if TYPE_CHECKING:
    from pitool.bench.events import Doing
    from pitool.bench.tune import Trial, Tuning
    from pitool.device.tuned import Tuned


@click.command("tune")
@click.argument("bundle", required=False, type=BundlePath())
@click.option("--quant", metavar="NAME", help="Artifact of the bundle, such as Q4_K_M.")
@click.option("--probe", is_flag=True, help="Only measure the memory's bandwidth, for pitool plan.")
@click.option("--exact", is_flag=True, help="Keep the KV cache type, so answers stay the same.")
@click.option("--dry-run", is_flag=True, help="Measure without saving the result.")
@click.option("--force", is_flag=True, help="Load even if the memory seems too small.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    bundle: Path | None,
    quant: str | None,
    probe: bool,
    exact: bool,
    dry_run: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Find the fastest settings of an artifact on this machine.

    Tries threads, batch sizes, flash attention, KV cache types, repacking and load modes one after
    the other and keeps each gain that exceeds the noise. run, chat and bench use the result and
    say so. Ctrl-C keeps the best settings found so far.

    \b
    Example:
      pitool tune
      pitool tune sample-1gb --quant Q4_0 --dry-run
      pitool tune --probe
    """
    if probe:
        _probe(dry_run, as_json)
        return
    from pitool.bench import tune
    from pitool.bench.events import handle
    from pitool.catalog.model_argument import find_runnable
    from pitool.device.detect import detect
    from pitool.device.settings import check_memory

    machine = detect()
    runnable = find_runnable(bundle, quant)
    click.echo(
        f"tuning {runnable.name} ({runnable.quantisation}) on {machine.board_name}", err=True
    )
    check = (lambda *_: None) if force else check_memory
    events = tune.tune_here(runnable, machine, exact=exact, keep=not dry_run, check=check)
    handle(events, partial(_show, as_json=as_json))


def _show(event: Trial | Doing | Tuning, *, as_json: bool) -> None:
    """Print what tuning tells; Interrupted after the end of one that was stopped."""
    from pitool.bench.events import Doing
    from pitool.bench.tune import Trial
    from pitool.errors import Interrupted

    if isinstance(event, Doing):
        click.echo(event.text, err=True)
        return
    if isinstance(event, Trial):
        click.echo(_line(event), err=True)
        return
    if as_json:
        trials = [asdict(trial) for trial in event.trials]
        document = {"kept": event.kept, "disturbed": event.disturbed, "trials": trials}
        click.echo(json.dumps({**asdict(event.result), **document}, indent=2))
    else:
        _report(event.result, kept=event.kept)
    for problem, share in event.disturbed.items():
        click.echo(
            f"{problem} during {format_share(share)} of the tests: other settings may be faster"
            " without that; tune again when the machine is cool and idle",
            err=True,
        )
    if event.stopped:
        raise Interrupted("stopped early", "see above for the best settings so far")


def _report(result: Tuned, *, kept: bool) -> None:
    click.echo(f"{result.words}{'' if kept else ' (not saved)'}")
    click.echo(
        f"prefill {format_fixed(result.prefill_gain, 2)} times,"
        f" decode {format_fixed(result.decode_gain, 2)} times as fast"
    )
    if "kv_type" in result.changes:
        click.echo("the KV cache type changes answers slightly; pitool tune --exact keeps it")


def _line(trial: Trial) -> str:
    """Return a trial for people."""
    name = f"{trial.axis.replace('_', ' ')} {trial.value}"
    if trial.failed:
        return f"  {name:<22}  not possible: {trial.failed}"
    parts = [f"{phase} {format_fixed(ratio.value, 2)}" for phase, ratio in trial.ratios.items()]
    cost = "" if trial.loss is None else f", KL {format_significant(trial.loss)}"
    lost = "it changes answers too much" if cost else "no gain"
    found = f"{'kept' if trial.won else lost}{cost}" if trial.in_turn else ""
    return f"  {name:<22}  {', '.join(parts)}{f'  measured in turn: {found}' * bool(found)}"


def _probe(dry_run: bool, as_json: bool) -> None:
    """Measure the memory's bandwidth for five seconds and keep it."""
    from pitool.device import probe
    from pitool.device.detect import detect

    machine = detect()
    click.echo(
        f"measuring memory bandwidth on {machine.board_name} for {probe.SECONDS:g} s", err=True
    )
    found = probe.measure(machine)
    if not dry_run:
        click.echo(f"saved to {probe.keep(found)}", err=True)
    if as_json:
        click.echo(json.dumps({**asdict(found), "kept": not dry_run}, indent=2))
    else:
        click.echo(f"memory reads {format_bandwidth(found.read_gbs)} with all cores")
