"""``pitool cluster``: several boards that hold one model together."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from pitool.cli import cluster_serve
from pitool.cli.ranges import WholeRange

if TYPE_CHECKING:
    from pitool.cluster.check import Checked
    from pitool.report.tables import Section

_NAME = click.option(
    "--name", default="boards", show_default=True, metavar="NAME", help="Name of the cluster."
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


@click.group("cluster")
def command() -> None:
    """Run one model over several boards, by llama.cpp's RPC backend.

    A cluster has the memory of its boards, and the speed of one of them: it is for models that no
    board holds by itself.

    \b
    Example:
      pitool cluster serve --host 192.168.1.11      # on each board
      pitool cluster add 192.168.1.11 192.168.1.12
      pitool cluster check
      pitool run --cluster boards qwen3-14b "Which board should I buy?"
    """


command.add_command(cluster_serve.command)


@command.command("add")
@click.argument("hosts", nargs=-1, required=True, metavar="HOST...")
@_NAME
@click.option("--port", type=WholeRange(1, 65534), help="Port of the servers (default: 50052).")
@click.option("--via", type=click.Choice(["ssh"]), help="Reach them through OpenSSH.")
@click.option(
    "--here/--not-here",
    default=None,
    help="Whether this machine holds layers too (default: if it is a Raspberry Pi).",
)
def add(
    hosts: tuple[str, ...], name: str, port: int | None, via: str | None, here: bool | None
) -> None:
    """Add boards to a cluster, which is made by its first one.

    HOST is [USER@]NAME or an address, with :PORT for another port. Boards that are added with
    --via ssh are reached through a tunnel: their servers need not listen on the network.

    \b
    Example:
      pitool cluster add 192.168.1.11 192.168.1.12
      pitool cluster add pi@raspberrypi.local --via ssh
    """
    from dataclasses import replace

    from pitool.cluster import members
    from pitool.device.detect import detect
    from pitool.report.numbers import format_count
    from pitool.report.progress import talk

    known = members.clusters().get(members.check_name(name))
    before = known or members.Cluster(name, here=detect().board_id is not None)
    added = [members.member(host, port, via or "") for host in hosts]
    cluster = members.with_members(before, added)
    if here is not None:
        cluster = replace(cluster, here=here)
    members.keep(cluster)
    total = format_count(len(cluster.members), "board")
    also = " and this machine" if cluster.here else ""
    talk(f"{name}: {total}{also}; look at them: pitool cluster check --name {name}")


@command.command("remove")
@click.argument("hosts", nargs=-1, metavar="[HOST]...")
@_NAME
def remove(hosts: tuple[str, ...], name: str) -> None:
    """Remove boards from a cluster; without HOST, the whole cluster.

    \b
    Example:
      pitool cluster remove 192.168.1.12
      pitool cluster remove --name attic
    """
    from dataclasses import replace

    from pitool.cluster import members
    from pitool.report.numbers import format_count
    from pitool.report.progress import talk

    known = members.find_cluster(name)
    left = members.without_members(known, hosts) if hosts else replace(known, members=())
    members.keep(left)
    boards = format_count(len(left.members), "board")
    talk(f"{name}: {boards}" if left.members else f"the cluster {name} is removed")


@command.command("list")
@_JSON
def list_(as_json: bool) -> None:
    """List the clusters and their boards.

    \b
    Example:
      pitool cluster list
    """
    from dataclasses import asdict

    from pitool.cluster import members
    from pitool.report.progress import talk
    from pitool.report.tables import Section, show

    known = members.clusters()
    if as_json:
        click.echo(json.dumps([asdict(cluster) for cluster in known.values()], indent=2))
        return
    if not known:
        talk("there is no cluster; make one: pitool cluster add HOST")
        return
    rows = []
    for cluster in known.values():
        rows += [[cluster.name, "this machine", "", ""]] if cluster.here else []
        rows += [[cluster.name, m.host, str(m.port), m.via or "network"] for m in cluster.members]
    show([Section("", ("cluster", "board", "port", "by"), rows, left=4)])


@command.command("check")
@_NAME
@_JSON
def check(name: str, as_json: bool) -> None:
    """Look at every board: reachable, same llama.cpp, memory, bandwidth, link, temperature.

    The exit code is 1 where one of them cannot be used.

    \b
    Example:
      pitool cluster check
      pitool cluster check --json | jq '.[] | select(.error)'
    """
    from pitool.cluster.check import check as look_at
    from pitool.cluster.members import find_cluster
    from pitool.report.tables import show

    found = look_at(find_cluster(name).members)
    if as_json:
        click.echo(json.dumps([each.to_json() for each in found], indent=2))
    else:
        show([_section(found)])
    for each in found:
        if each.error is not None:
            click.echo(f"pitool: {each.error.statement}", err=True)
    if any(each.error for each in found):
        click.get_current_context().exit(1)


def _section(found: list[Checked]) -> Section:
    from pitool.report.tables import Column, Section

    columns = (
        Column("board", "left", "middle"),
        Column("", "left"),
        Column("model", "left", "middle", 6),
        Column("llama.cpp", priority=5),
        Column("free GB"),
        Column("GB/s", priority=2),
        Column("round trip", priority=1),
        Column("MB/s", priority=3),
        Column("°C", priority=4),
        Column("notes", "left", "wrap", 7),
    )
    return Section("", columns, [_row(each) for each in found])


def _row(each: Checked) -> list[str]:
    from pitool.report.numbers import NONE, format_fixed, format_gigabytes

    board, link = each.board, each.link
    told = board.status if board else None
    state = "no" if board is None else "ready" if board.hello else "in use"
    if told is not None and not told.ready:
        state = "starting"
    bandwidth = told.bandwidth_gbs if told else None
    degrees = told.temperature_c if told else None
    return [
        each.member.title,
        state,
        told.board if told else NONE,
        told.llama_cpp if told else NONE,
        format_gigabytes(board.room) if board and board.room else NONE,
        format_fixed(bandwidth, 1) if bandwidth else NONE,
        f"{format_fixed(link.latency * 1e3, 2)} ms" if link else NONE,
        format_fixed(link.rate / 1e6, 0) if link else NONE,
        format_fixed(degrees, 0) if degrees is not None else NONE,
        told.words if told else "",
    ]
