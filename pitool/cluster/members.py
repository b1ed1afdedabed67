"""The clusters that a user named, and their boards: one file in pitool's home."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pitool.catalog import reading, tables
from pitool.catalog.bundles import home
from pitool.catalog.files import write_atomically
from pitool.errors import BadInput, UsageError
from pitool.remote.ssh import Host

FILE_NAME = "clusters.json"
SCHEMA = 1
DEFAULT = "boards"
PORT = 50052
STATUS_ABOVE = 1
"""The status of a board is served at the port above that of llama.cpp's server."""
SSH = "ssh"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Member:
    """A board: ``host`` as for ssh (``[USER@]HOST``), and the port of its server.

    ``via``: ``ssh`` where its server listens on its loopback interface only, and is reached
    through OpenSSH; empty where it listens on the network.
    """

    host: str
    port: int = PORT
    via: str = ""

    @property
    def address(self) -> str:
        """The host without its user."""
        return self.host.rpartition("@")[2]

    @property
    def title(self) -> str:
        """What sentences call it."""
        return self.host if self.port == PORT else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Cluster:
    """Boards under one name; ``here``: whether the machine that asks holds layers as well."""

    name: str
    members: tuple[Member, ...] = ()
    here: bool = False


def clusters(path: Path | None = None) -> dict[str, Cluster]:
    """Return every cluster by its name; BadInput for a file that holds something else."""
    path = path or home() / FILE_NAME
    if not path.exists():
        return {}
    do = "correct it, or delete it and add the boards again"
    value = reading.read_object(path, do)
    try:
        if value["schema"] != SCHEMA:
            raise BadInput(f"{path} is of a newer pitool", "update pitool")
        return {name: _read(name, table) for name, table in value["clusters"].items()}
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError, UsageError):
        raise BadInput(f"{path} does not list clusters", do) from None


def _read(name: str, table: Mapping[str, Any]) -> Cluster:
    members = tuple(member(m["host"], int(m["port"]), m["via"]) for m in table["members"])
    return Cluster(check_name(name), members, table["here"] is True)


def find_cluster(name: str, path: Path | None = None) -> Cluster:
    """Return the cluster of a name; UsageError says how to make one, or names the nearest."""
    known = clusters(path)
    if not known:
        raise UsageError(
            f"there is no cluster {name!r}",
            "add its boards: pitool cluster add pi@raspberrypi.local",
        )
    return tables.lookup(known, name, "cluster", UsageError)


def keep(cluster: Cluster, path: Path | None = None) -> None:
    """Write a cluster beside the others, in place of one of its name; without boards it goes."""
    path = path or home() / FILE_NAME
    known = clusters(path) | {cluster.name: cluster}
    tables_ = {
        name: {"here": each.here, "members": [asdict(member) for member in each.members]}
        for name, each in known.items()
        if each.members
    }
    text = reading_text({"schema": SCHEMA, "clusters": tables_})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text.encode(), 0o600)


def reading_text(value: Any) -> str:
    """Return a JSON document for a file that people may look at."""
    import json

    return f"{json.dumps(value, indent=2)}\n"


def member(text: str, port: int | None = None, via: str = "") -> Member:
    """Return the board that a user names as ``[USER@]HOST[:PORT]``; UsageError for no such name.

    With ``via`` ssh the port after the host is that of ssh, which is what it means there.
    """
    if via not in ("", SSH):
        raise UsageError(f"{via!r} is no way to a board", "use --via ssh, or leave it out")
    Host(text)  # says what is wrong with it
    if port is not None and not 0 < port < 65535:
        raise UsageError(f"{port} is not a port", "choose one from 1 to 65534")
    host, colon, number = text.rpartition(":")
    if via or not colon or not number.isdecimal() or (":" in host and not host.endswith("]")):
        return Member(text, port or PORT, via)
    return Member(host, int(number) if port is None else port, via)


def check_name(name: str) -> str:
    """Return a name of a cluster; UsageError where it is none."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name for a cluster", f"use a word such as {DEFAULT}")
    return name


def with_members(cluster: Cluster, added: Iterable[Member]) -> Cluster:
    """Return a cluster with more boards; one that is there already gets its new settings."""
    by_host = {(m.host, m.port): m for m in (*cluster.members, *added)}
    return replace(cluster, members=tuple(by_host.values()))


def without_members(cluster: Cluster, names: Iterable[str]) -> Cluster:
    """Return a cluster with fewer boards; UsageError for one that is not in it."""
    known = {m.title: m for m in cluster.members} | {m.address: m for m in cluster.members}
    gone = [tables.lookup(known, name, "board", UsageError) for name in names]
    return replace(cluster, members=tuple(m for m in cluster.members if m not in gone))


def hosts_of(names: Iterable[str]) -> list[str]:
    """Return hosts for ssh, each name of a cluster replaced by its boards."""
    known = clusters()
    found: list[str] = []
    for name in names:
        found += [m.host for m in known[name].members] if name in known else [name]
    return list(dict.fromkeys(found))
