"""``pitool tune``: the fastest settings of an artifact on this machine, measured and kept."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from pitool.bench.tune import Axis, Open, Trial
    from pitool.device.tuned import Tuned
    from pitool.engine.base import Engine, Settings
    from pitool.engine.worker import WorkerEngine

CONTEXT = 512

DISTURBED_SHARE = 0.1
"""Of all tests, from which on it is said under what circumstances they ran."""


@click.command("tune")
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@click.option("--quant", metavar="NAME", help="Which artifact of the bundle: Q4_K_M, INT4, ...")
@click.option("--probe", is_flag=True, help="Only measure the memory's bandwidth, for pitool plan.")
@click.option("--exact", is_flag=True, help="Leave the KV cache's type alone: answers stay equal.")
@click.option("--dry-run", is_flag=True, help="Measure, but keep nothing.")
@click.option("--force", is_flag=True, help="Load even if the memory does not seem to suffice.")
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
    the other and keeps what wins by more than the noise. run, chat and bench use it from then on
    and say so. Ctrl-C keeps what has won so far.

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
    from pitool.catalog.bundles import find_runnable
    from pitool.device import tuned
    from pitool.device.detect import detect
    from pitool.device.settings import check_memory, untuned
    from pitool.engine import worker
    from pitool.errors import Interrupted

    machine = detect()
    runnable = find_runnable(bundle, quant)
    base = untuned(runnable, CONTEXT, machine)
    if not force:
        check_memory(runnable, base, machine)

    watch = _Watch()

    def open_engine(settings: Settings) -> AbstractContextManager[Engine]:
        return watch.over(worker.start(runnable.format, runnable.entry, settings))

    plan = tune.axes(base, machine.physical_cores, runnable.format, exact=exact)
    click.echo(
        f"tuning {runnable.name} ({runnable.quantisation}) on {machine.board_name}", err=True
    )
    found = _try_all(base, plan, open_engine)
    changes = tuned.changes(base, found.best)
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    result = tuned.Tuned(changes, today, found.gains["prefill"], found.gains["decode"])
    # Where nothing has won yet, what an earlier tuning found is better than nothing.
    kept = not dry_run and bool(changes or not found.stopped)
    if kept:
        tuned.keep(result, runnable, machine)
    if as_json:
        trials = [asdict(trial) for trial in found.trials]
        document = {**asdict(result), "kept": kept, "disturbed": watch.shares, "trials": trials}
        click.echo(json.dumps(document, indent=2))
    else:
        _report(result, kept=kept)
    for problem, share in watch.shares.items():
        click.echo(
            f"{problem} during {share:.0%} of the tests: other settings may be faster without"
            " that; tune again when the machine is cool and does nothing else",
            err=True,
        )
    if found.stopped:
        raise Interrupted("stopped early", "what has won so far is above")


@dataclass(slots=True)
class _Watch:
    """Notes what else went on while engines worked."""

    problems: Counter[str] = field(default_factory=Counter)
    tests: int = 0

    @contextmanager
    def over(self, engine: WorkerEngine) -> Iterator[Engine]:
        """Give an engine, which is closed afterwards."""
        from pitool.bench.conditions import conditions
        from pitool.device.activity import looker

        with engine:
            look = looker(engine.pid)
            before = look()
            yield engine
            (condition,) = conditions([before, look()])
            self.problems.update(condition.problems)
            self.tests += 1

    @property
    def shares(self) -> dict[str, float]:
        """Return the share of the tests with each problem, where it is not a passing one."""
        shares = {name: count / self.tests for name, count in self.problems.items()}
        return {name: share for name, share in shares.items() if share >= DISTURBED_SHARE}


@dataclass(slots=True)
class _Found:
    """What the trials gave, whole or as far as they came."""

    best: Settings
    trials: list[Trial] = field(default_factory=list)
    gains: dict[str, float] = field(default_factory=lambda: {"prefill": 1.0, "decode": 1.0})
    stopped: bool = False


def _try_all(base: Settings, plan: Sequence[Axis], open_engine: Open) -> _Found:
    """Run every trial, then the winner against the defaults; Ctrl-C ends it early."""
    from pitool.bench import tune

    found = _Found(base)
    try:
        for trial, found.best in tune.tune(base, plan, open_engine):
            found.trials.append(trial)
            click.echo(_line(trial), err=True)
        if found.best != base:
            click.echo("measuring the winner against the defaults once more", err=True)
            ratios = tune.in_turn(base, found.best, ("prefill", "decode"), open_engine)
            found.gains = {phase: round(ratio.value, 3) for phase, ratio in ratios.items()}
    except KeyboardInterrupt:
        found.stopped = True
    return found


def _report(result: Tuned, *, kept: bool) -> None:
    click.echo(f"{result.words}{'' if kept else ' (not kept)'}")
    click.echo(
        f"prefill {result.prefill_gain:.2f} times, decode {result.decode_gain:.2f} times as fast"
    )
    if "kv_type" in result.changes:
        click.echo("the KV cache's type changes answers a little; pitool tune --exact leaves it")


def _line(trial: Trial) -> str:
    """Return a trial for people."""
    name = f"{trial.axis.replace('_', ' ')} {trial.value}"
    if trial.failed:
        return f"  {name:<22}  not possible: {trial.failed}"
    parts = [f"{phase} {ratio.value:.2f}" for phase, ratio in trial.ratios.items()]
    found = ("kept" if trial.won else "no gain") if trial.in_turn else ""
    return f"  {name:<22}  {', '.join(parts)}{f'  measured in turn: {found}' * bool(found)}"


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
