"""A model over three boards: the answers are those of one machine, and a board may die."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.throttle import throttled
from pitool.catalog.gguf import read_header
from pitool.catalog.model_argument import find_runnable
from pitool.cluster import loading, members, status
from pitool.cluster.connection import Board, Way, reach
from pitool.cluster.members import Cluster, Member
from pitool.device.memory import peak_rss
from pitool.engine import worker
from pitool.engine.base import Sampling, Settings
from pitool.errors import DoesNotFit, PitoolError, WorkerDied
from pitool.planning.cluster import ClusterPlan
from pitool.planning.shapes import header_shape
from tests.cli.conftest import Pitool
from tests.cli.conftest import pitool as pitool
from tests.cluster.boards import ServedBoard

pytestmark = [
    pytest.mark.usefixtures("rpc"),
    pytest.mark.engine,
    pytest.mark.network,
    pytest.mark.timeout(300),
]

SETTINGS = Settings(context=1024, decode_threads=1, prefill_threads=1, micro_batch=128)
# More than one micro-batch, so that prompts go through the boards like a pipeline.
PROMPT = [3 + i * 7 % 480 for i in range(400)]
GREEDY = Sampling(temperature=0, max_tokens=24)


def answer(path: Path, settings: Settings) -> list[int]:
    with worker.start("gguf", path, settings) as engine:
        return [t.id for t in engine.stream(PROMPT, GREEDY) if t.id is not None]


def members_of(boards: Sequence[ServedBoard]) -> tuple[Member, ...]:
    return tuple(members.member(board.host) for board in boards)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("layers", "head_here"), [((2, 2, 3), False), ((2, 2, 3), True), ((1, 2, 1), True)]
)
def test_the_answer_is_that_of_one_machine(
    shared_boards: list[ServedBoard], layered_gguf: Path, layers: Sequence[int], head_here: bool
) -> None:
    """Float32 products do not depend on the machine; some layers stay here in the last case."""
    servers = tuple(board.host for board in shared_boards)
    split = replace(SETTINGS, servers=servers, server_layers=layers, head_here=head_here)
    assert answer(layered_gguf, split) == answer(layered_gguf, SETTINGS)


def test_the_layers_are_where_the_plan_has_them_and_no_more_crosses_the_network(
    shared_boards: list[ServedBoard], layered_gguf: Path
) -> None:
    cluster = Cluster("boards", members_of(shared_boards))
    found = reach(cluster.members)
    runnable = find_runnable(layered_gguf)
    prepared = loading.prepare(cluster, runnable, SETTINGS, found)
    plan = prepared.plan
    assert sorted(prepared.settings.server_layers) == [2, 2, 3]
    board = shared_boards[0]
    with throttled(("127.0.0.1", board.port)) as proxy:
        servers = (f"127.0.0.1:{proxy.port}", *prepared.settings.servers[1:])
        settings = replace(prepared.settings, servers=servers)
        with worker.start("gguf", layered_gguf, settings) as engine:
            sent = proxy.counted.there
            share = plan.servers[0]
            assert share.load_bytes <= sent <= share.load_bytes * 1.05 + 1e6
            list(engine.stream(PROMPT[:8], replace(GREEDY, max_tokens=8)))
            before = proxy.counted.there + proxy.counted.back
            engine.clear()
            list(engine.stream(PROMPT[:8], replace(GREEDY, max_tokens=8)))
            first = proxy.counted.there + proxy.counted.back - before
            engine.clear()
            before += first
            list(engine.stream(PROMPT[:8], replace(GREEDY, max_tokens=40)))
            more = proxy.counted.there + proxy.counted.back - before - first
    assert more / 32 == pytest.approx(share.token_bytes, rel=0.25)


@pytest.mark.thorough
def test_by_the_commands(
    shared_boards: list[ServedBoard], layered_gguf: Path, pitool: Pitool
) -> None:
    hosts = [board.host for board in shared_boards]
    assert "3 boards" in pitool("cluster", "add", "--not-here", *hosts).err
    listed = json.loads(pitool("cluster", "list", "--json").out)
    assert [member["port"] for member in listed[0]["members"]] == [b.port for b in shared_boards]
    checked = json.loads(pitool("cluster", "check", "--json").out)
    for found in checked:
        assert found["error"] is None
        assert found["status"]["llama_cpp"] == status.llama_cpp_version()
        assert found["protocol"] == "7.0.0"
        assert found["status"]["room"] > 0
        assert found["round_trip_seconds"] > 0
        assert found["bytes_per_second"] > 0
    assert "ready" in pitool("cluster", "check").out
    words = ("run", layered_gguf, "--raw", "A fox", "--temp", "0", "--max-tokens", "12", "--json")
    alone = json.loads(pitool(*words).out)
    done = pitool(*words, "--cluster", "boards")
    assert json.loads(done.out)["ids"] == alone["ids"]
    assert "layers 0–" in done.err
    bench = pitool("bench", layered_gguf, "-p", "32", "-n", "8", "-r", "1", "--cluster", "boards",
                   "-o", "json")  # fmt: skip
    rows = json.loads(bench.out)
    assert {row["n_gen"] for row in rows} == {0, 8}
    assert "2 boards" in pitool("cluster", "remove", hosts[0]).err


@pytest.mark.thorough
def test_a_board_that_dies_in_the_middle_of_an_answer_ends_in_one_sentence(
    three_boards: list[ServedBoard], layered_gguf: Path
) -> None:
    members.keep(Cluster("boards", members_of(three_boards)))
    runnable = find_runnable(layered_gguf)
    whole = answer(layered_gguf, SETTINGS)
    with loading.start("boards", runnable, SETTINGS) as engine:
        stream = engine.stream(PROMPT, replace(GREEDY, max_tokens=500))
        next(stream)
        three_boards[1].die()
        with pytest.raises(WorkerDied) as caught:
            list(stream)
    said = caught.value.sentence
    assert three_boards[1].host in said
    assert "no longer answers" in said
    assert "pitool cluster remove" in said
    assert "\n" not in said
    # It is not tried again as it is; the others go on.
    with pytest.raises(PitoolError, match="does not answer"):
        loading.start("boards", runnable, SETTINGS)
    left = members.without_members(members.find_cluster("boards"), [three_boards[1].host])
    members.keep(left)
    with loading.start("boards", runnable, SETTINGS) as engine:
        assert [t.id for t in engine.stream(PROMPT, GREEDY) if t.id is not None] == whole


@pytest.mark.thorough
def test_a_server_that_ends_is_started_again_and_that_is_said(
    three_boards: list[ServedBoard], layered_gguf: Path
) -> None:
    import os
    import signal

    members.keep(Cluster("boards", members_of(three_boards)))
    runnable = find_runnable(layered_gguf)
    with loading.start("boards", runnable, SETTINGS) as engine:
        stream = engine.stream(PROMPT, replace(GREEDY, max_tokens=500))
        next(stream)
        os.kill(three_boards[2].server, signal.SIGKILL)
        with pytest.raises(WorkerDied, match=f"the server on {three_boards[2].host} ended"):
            list(stream)
    with loading.start("boards", runnable, SETTINGS) as engine:
        assert list(engine.stream(PROMPT[:4], GREEDY))


@pytest.mark.thorough
def test_a_board_has_one_client(
    shared_boards: list[ServedBoard], layered_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pitool.cluster.connection.FREE_SECONDS", 0.5)
    members.keep(Cluster("boards", members_of(shared_boards)))
    runnable = find_runnable(layered_gguf)
    with (
        loading.start("boards", runnable, SETTINGS),
        pytest.raises(PitoolError, match="already computes for another program"),
    ):
        loading.start("boards", runnable, SETTINGS)
    # It is free as soon as the first has ended.
    monkeypatch.setattr("pitool.cluster.connection.FREE_SECONDS", 30)
    loading.start("boards", runnable, SETTINGS).close()


@pytest.mark.thorough
def test_tensors_are_sent_once(shared_boards: list[ServedBoard], tmp_path: Path) -> None:
    """Those of more than 10 MiB; the plan says how many bytes that are."""
    from tests.cluster.shapes import write_zeros

    path = write_zeros(tmp_path / "wide.gguf", layers=2, hidden=1024, feed_forward=4096)
    board = shared_boards[0]
    sent = []
    plans: list[ClusterPlan] = []
    for _ in range(2):
        with throttled(("127.0.0.1", board.port)) as proxy:
            way = Way(Member(board.host), "127.0.0.1", proxy.port, board.port + 1)
            (real,) = reach(members_of([board]))
            found = Board(way, real.status, real.hello)
            cluster = Cluster("boards", (way.member,))
            prepared = loading.prepare(cluster, find_runnable(path), SETTINGS, [found])
            worker.start("gguf", path, prepared.settings).close()
            sent.append(proxy.counted.there)
            plans.append(prepared.plan)
    (share,) = plans[0].servers
    assert share.kept_bytes > 0
    assert sent[0] == pytest.approx(share.load_bytes, rel=0.02)
    assert sent[0] - sent[1] == pytest.approx(share.kept_bytes, rel=0.02)


@pytest.mark.thorough
def test_each_board_stays_within_its_planned_memory(
    shared_boards: list[ServedBoard], tmp_path: Path
) -> None:
    """A Llama of a billion weights: sixteen layers of 2048, in Q4_0."""
    from tests.cluster.shapes import write_zeros

    path = write_zeros(
        tmp_path / "1b.gguf", layers=16, hidden=2048, feed_forward=8192, vocabulary=32000,
        quantisation="Q4_0",
    )  # fmt: skip
    assert header_shape(read_header(path)).layers == 16
    cluster = Cluster("boards", members_of(shared_boards))
    settings = replace(SETTINGS, context=4096, micro_batch=512)
    runnable = find_runnable(path)
    prepared = loading.prepare(cluster, runnable, settings, reach(cluster.members))
    with worker.start("gguf", path, prepared.settings) as engine:
        list(engine.stream(PROMPT, replace(GREEDY, max_tokens=2)))
        here = peak_rss(engine.pid)
        peaks = [peak_rss(board.server) for board in shared_boards]
    asked, *servers = prepared.plan.shares
    assert here is not None
    assert here <= asked.total
    for share, peak in zip(servers, peaks, strict=True):
        assert peak is not None
        assert share.total * 0.7 <= peak <= share.total


def test_what_does_not_fit_is_said_with_what_is_missing(
    shared_boards: list[ServedBoard], layered_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Cluster("boards", members_of(shared_boards))
    found = [
        replace(b, status=replace(b.status, room=80 << 20)) if b.status else b
        for b in reach(cluster.members)
    ]
    settings = replace(SETTINGS, context=200_000)
    with pytest.raises(DoesNotFit, match="does not fit the cluster boards: it lacks"):
        loading.prepare(cluster, find_runnable(layered_gguf), settings, found)
    forced = loading.prepare(cluster, find_runnable(layered_gguf), settings, found, force=True)
    assert sum(forced.settings.server_layers) == 7
