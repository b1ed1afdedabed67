"""``pitool push``: an archive to one board or several, over OpenSSH."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command("push")
@click.argument("archive", metavar="X.pi | --rollback", type=click.Path(path_type=Path))
@click.argument("hosts", nargs=-1, metavar="HOST...")
@click.option("--rollback", is_flag=True, help="Go back to the release before on each HOST.")
@click.option(
    "--keep",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="Releases to keep on the board.",
)
@click.option("-F", "config", type=click.Path(path_type=Path), help="Another ssh configuration.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    archive: Path,
    hosts: tuple[str, ...],
    rollback: bool,
    keep: int,
    config: Path | None,
    as_json: bool,
) -> None:
    """Copy an archive of pitool pack to boards and install it there.

    Uses your ssh: keys, agents, jump hosts and ~/.ssh/config. It never asks for a password: where
    ssh would, set up a key first with ssh-copy-id. A copy that was cut is continued.

    \b
    Example:
      pitool push sample.pi pi@raspberrypi.local
      pitool push --rollback pi@raspberrypi.local
    """  # fmt: skip
    from concurrent.futures import ThreadPoolExecutor

    from pitool.deploy import push as job
    from pitool.errors import UsageError
    from pitool.remote.ssh import Host
    from pitool.report.progress import Hosts

    names = tuple(dict.fromkeys((str(archive), *hosts) if rollback else hosts))
    if not names:
        raise UsageError("there is no host", "name one: pitool push X.pi pi@raspberrypi.local")
    targets = [Host(name, config) for name in names]
    if rollback:
        with ThreadPoolExecutor(max_workers=len(targets)) as pool:
            outcomes = list(pool.map(job.rollback, targets))
    else:
        with Hosts(names) as lines:
            outcomes = job.push(archive, targets, lines.say, lines.arrived, keep=keep)
    if as_json:
        documents = [
            {"host": o.host, "release": o.release, "error": o.error.sentence if o.error else None}
            for o in outcomes
        ]
        click.echo(json.dumps(documents))
    failed = [outcome.error for outcome in outcomes if outcome.error]
    for outcome in outcomes:
        if outcome.error is None and not as_json:
            click.echo(f"{outcome.host}: release {outcome.release} is in use")
    for error in failed[1:]:
        click.echo(f"pitool: {error.sentence}.", err=True)
    if failed:
        raise failed[0]
