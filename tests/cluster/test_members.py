"""Clusters by name: what is kept, what a name means, what push and bench make of one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pitool.cluster.members import (
    FILE_NAME,
    PORT,
    Cluster,
    Member,
    clusters,
    find_cluster,
    hosts_of,
    keep,
    member,
    with_members,
    without_members,
)
from pitool.errors import BadInput, UsageError


@pytest.mark.parametrize(
    ("text", "via", "expected"),
    [
        ("192.168.1.11", "", Member("192.168.1.11")),
        ("pi@192.168.1.11:6000", "", Member("pi@192.168.1.11", 6000)),
        ("raspberrypi.local", "", Member("raspberrypi.local")),
        # Behind ssh the port is that of ssh.
        ("pi@attic:2222", "ssh", Member("pi@attic:2222", PORT, "ssh")),
    ],
)
def test_what_a_user_types_is_a_board(text: str, via: str, expected: Member) -> None:
    assert member(text, None, via) == expected


@pytest.mark.parametrize("text", ["", "a b", "-oProxyCommand=x", "pi@", "x:99999999"])
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a"):
        member(text)


def test_a_cluster_is_kept_and_found_again(private_home: Path) -> None:
    first = Cluster("boards", (Member("a"), Member("pi@b", 6000, "ssh")), here=True)
    keep(first)
    keep(Cluster("attic", (Member("c"),)))
    assert clusters() == {"boards": first, "attic": Cluster("attic", (Member("c"),))}
    assert find_cluster("attic").members == (Member("c"),)
    with pytest.raises(UsageError, match="did you mean 'boards'"):
        find_cluster("boardz")
    # Without boards it is gone.
    keep(Cluster("attic"))
    assert list(clusters()) == ["boards"]
    assert (private_home / FILE_NAME).stat().st_mode & 0o077 == 0


def test_without_any_cluster_it_is_said_how_to_make_one() -> None:
    with pytest.raises(UsageError, match="pitool cluster add"):
        find_cluster("boards")


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"schema": 1}',
        '{"schema": 1, "clusters": {"a": 3}}',
        '{"schema": 1, "clusters": {"a b": {"members": [], "here": 0}}}',
        '{"schema": 1, "clusters": {"a": {"here": true, "members": [3]}}}',
    ],
)
def test_a_damaged_file_is_one_sentence(private_home: Path, text: str) -> None:
    private_home.mkdir()
    (private_home / FILE_NAME).write_text(text)
    with pytest.raises(BadInput, match="clusters"):
        clusters()


def test_a_file_of_a_newer_pitool(private_home: Path) -> None:
    private_home.mkdir()
    (private_home / FILE_NAME).write_text(json.dumps({"schema": 2, "clusters": {}}))
    with pytest.raises(BadInput, match="newer"):
        clusters()


def test_boards_come_and_go() -> None:
    both = with_members(Cluster("boards", (Member("a"),)), [Member("pi@b"), Member("a", via="ssh")])
    assert both.members == (Member("a", via="ssh"), Member("pi@b"))
    assert without_members(both, ["b"]).members == (Member("a", via="ssh"),)
    with pytest.raises(UsageError, match="unknown board"):
        without_members(both, ["c"])


def test_push_and_bench_take_the_name_of_a_cluster() -> None:
    keep(Cluster("boards", (Member("pi@a"), Member("pi@b"))))
    assert hosts_of(["boards", "pi@c", "pi@a"]) == ["pi@a", "pi@b", "pi@c"]
