"""``pitool push``: copies an archive to one or more boards over SSH and installs it."""

from __future__ import annotations

import json
from pathlib import Path

import click

from pitool.cli.ranges import WholeRange


@click.command("push")
@click.argument("archive", metavar="X.pi | --rollback", type=click.Path(path_type=Path))
@click.argument("hosts", nargs=-1, metavar="HOST...")
@click.option("--rollback", is_flag=True, help="Return to the previous release on each HOST.")
@click.option(
    "--keep",
    type=WholeRange(min=1),
    default=2,
    show_default=True,
    help="Number of releases to keep on the board.",
)
@click.option("-F", "config", type=click.Path(path_type=Path), help="SSH configuration file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    archive: Path,
    hosts: tuple[str, ...],
    rollback: bool,
    keep: int,
    config: Path | None,
    as_json: bool,
) -> None:
    """Copy an archive made by 'pitool pack' to boards and install it.

    HOST is [USER@]NAME[:PORT] as for ssh, or the name of a cluster for all of its boards.

    Uses your SSH keys, agent, jump hosts and ~/.ssh/config. It never asks for a password; set up a
    key with ssh-copy-id first. An interrupted copy is resumed.

    \b
    Example:
      pitool push sample.pi pi@raspberrypi.local
      pitool push --rollback pi@raspberrypi.local
    """  # fmt: skip
    from concurrent.futures import ThreadPoolExecutor

    from pitool.cluster.members import hosts_of
    from pitool.deploy import push as job
    from pitool.errors import UsageError
    from pitool.remote.ssh import Host
    from pitool.report.progress import Hosts

    names = tuple(hosts_of((str(archive), *hosts) if rollback else hosts))
    if not names:
        raise UsageError("no host given", "run: pitool push X.pi pi@raspberrypi.local")
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
            click.echo(f"{outcome.host}: now using release {outcome.release}")
    for error in failed[1:]:
        click.echo(f"pitool: {error.sentence}.", err=True)
    if failed:
        raise failed[0]
