"""A model over the boards of a cluster: planned with what they are now, loaded in a worker.

The worker holds the connections, and ends with them: what is said then is which board is gone, and
how to go on without it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pitool.catalog import gguf
from pitool.catalog.boards import boards
from pitool.catalog.bundles import Runnable
from pitool.catalog.tensor_types import repacked_types
from pitool.cluster import status
from pitool.cluster.connection import Board, at_once, find_way, reach
from pitool.cluster.members import Cluster, find_cluster
from pitool.cluster.status import Status
from pitool.device import probe
from pitool.device.detect import Machine, detect
from pitool.device.here import margin
from pitool.device.settings import load_of
from pitool.engine import worker
from pitool.engine.base import Settings
from pitool.engine.prefills.files import Place
from pitool.engine.worker import FLUSH_SECONDS, WorkerEngine
from pitool.errors import DoesNotFit, PitoolError, UsageError, WorkerDied
from pitool.planning.cluster import ClusterPlan, Link, Node, Splitter
from pitool.planning.cluster_boards import ethernet
from pitool.planning.formats import GGUF
from pitool.planning.places import HERE
from pitool.planning.shapes import header_shape, header_tensors
from pitool.report.numbers import format_bytes, format_rate

# What is sent to know a link before each load: a hundredth of a second of Gigabit Ethernet.
GLANCE_BYTES = 1 << 20
# Where a machine does not know its memory's bandwidth: about that of a Pi 5.
USUAL_GBS = 10.0
PROBE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Prepared:
    """A plan with the settings that load it, and the boards in the order of their layers."""

    plan: ClusterPlan
    settings: Settings
    boards: tuple[Board, ...]

    @property
    def words(self) -> str:
        """Which layers are where, and how fast it should be."""
        shares = ", ".join(
            f"{share.layer_names} on {_said(share.node)}"
            for share in self.plan.shares
            if share.layers
        )
        speed = f"{format_rate(self.plan.decode)} expected"
        unused = [node.name for node in self.plan.unused if node.name != HERE]
        left = f"; not needed: {', '.join(unused)}" if unused else ""
        return f"layers {shares}; {speed}{left}"


def _said(node: Node) -> str:
    return "this machine" if node.name == HERE else node.name


def start(
    name: str,
    runnable: Runnable,
    settings: Settings,
    on_progress: Callable[[float], None] | None = None,
    flush_seconds: float = FLUSH_SECONDS,
    prefixes: Sequence[Place] = (),
    *,
    force: bool = False,
    say: Callable[[str], object] = lambda _: None,
) -> WorkerEngine:
    """Load a model over a cluster in a worker; ``force`` loads it even where it does not fit.

    ``say`` hears what goes where. Raises what is wrong with a board, DoesNotFit.
    """
    cluster = find_cluster(name)
    prepared = prepare(cluster, runnable, settings, reach(cluster.members), force=force)
    say(prepared.words)
    return worker.start(
        runnable.format,
        runnable.entry,
        prepared.settings,
        on_progress,
        flush_seconds,
        prefixes,
        lambda: explain(cluster.name, prepared.boards),
    )


def prepare(
    cluster: Cluster,
    runnable: Runnable,
    settings: Settings,
    found: Sequence[Board],
    machine: Machine | None = None,
    *,
    force: bool = False,
) -> Prepared:
    """Return how a model is loaded over boards; UsageError for one that is no GGUF."""
    if runnable.format != GGUF.name:
        raise UsageError(
            f"a cluster runs GGUF models, and {runnable.name} {runnable.quantisation} is"
            f" {runnable.format.upper()}",
            "choose a GGUF artifact with --quant",
        )
    machine = machine or detect()
    header = gguf.read_header(runnable.entry)
    shape, tensors = header_shape(header), header_tensors(header)
    links = {board.title: _link(board) for board in found}
    nodes = [_here(machine, holds=cluster.here), *_nodes(found, links)]
    plan = Splitter(shape, tensors, load_of(settings)).plan(nodes)
    if not plan.fits and not force:
        raise _does_not_fit(cluster, runnable, plan)
    by_title = {board.title: board for board in found}
    used = tuple(by_title[share.node.name] for share in plan.servers)
    counts = [share.layers for share in plan.servers]
    if counts:
        counts[-1] += shape.predictors  # which llama.cpp counts, and does not load
    made = replace(
        settings,
        micro_batch=plan.load.micro_batch,
        servers=tuple(board.way.address for board in used),
        server_layers=tuple(counts),
        head_here=plan.head_here,
        # Of a mapped file all that was sent away would stay in memory for a while.
        load_mode="read" if used else settings.load_mode,
    )
    return Prepared(plan, made, used)


def explain(name: str, used: Sequence[Board]) -> WorkerDied | None:
    """Return which board is gone, or has lost what it held; None where all are as they were."""
    if not used:
        return None
    statuses = at_once(_status_now, used)
    for board, now in zip(used, statuses, strict=True):
        if now is None:
            return WorkerDied(
                f"{board.title} no longer answers, and it held layers of the model",
                "check its power and its network, or go on without it: pitool cluster remove"
                f" {board.title} --name {name} (a smaller quantisation needs less of the others)",
            )
        if board.status is not None and now.restarts > board.status.restarts:
            return WorkerDied(
                f"the server on {board.title} ended, most likely because memory ran out",
                "load the model again, with a smaller --context or quantisation",
            )
    return None


def _status_now(board: Board) -> Status | None:
    """Return how a board is; None where it is gone."""
    if board.status is None:  # nothing tells, and a server that is in use does not answer
        return Status("", "", "", None, 0)
    try:
        way = find_way(board.way.member)
        return status.fetch(way.host, way.status_port)
    except (PitoolError, OSError, ValueError):
        return None


def _here(machine: Machine, *, holds: bool) -> Node:
    board = boards().get(machine.board_id or "")
    free = machine.mem_available or 0
    if board is not None:
        speed: float = board.bandwidth_gbs
    else:
        speed = (status.bandwidth(machine) if holds else None) or USUAL_GBS
        if holds and probe.find(machine) is None:
            speed = probe.measure(machine, PROBE_SECONDS).read_gbs * status.DECODE_SHARE
    return Node(
        HERE,
        max(free - margin(machine), 0),
        speed * 1e9,
        board,
        holds=holds,
        repacked=repacked_types(machine.features),
    )


def _nodes(found: Sequence[Board], links: dict[str, Link]) -> list[Node]:
    known = [b.status.bandwidth_gbs for b in found if b.status and b.status.bandwidth_gbs]
    usual = min(known, default=USUAL_GBS)
    return [
        Node(
            board.title,
            board.room,
            ((board.status.bandwidth_gbs if board.status else None) or usual) * 1e9,
            boards().get((board.status.board_id if board.status else None) or ""),
            links[board.title],
        )
        for board in found
    ]


def _link(board: Board) -> Link:
    """Return the link to a board as it is now; Gigabit Ethernet where nothing there tells."""
    if board.status is None:
        return ethernet(1000)
    try:
        return status.measure(board.way.host, board.way.status_port, GLANCE_BYTES)
    except (OSError, ValueError):
        return ethernet(1000)


def _does_not_fit(cluster: Cluster, runnable: Runnable, plan: ClusterPlan) -> DoesNotFit:
    boards_ = ", ".join(
        f"{share.node.name} {format_bytes(share.node.room)}"
        for share in plan.shares
        if share.layers
    )
    return DoesNotFit(
        f"{runnable.name} {runnable.quantisation} does not fit the cluster {cluster.name}: it lacks"
        f" {format_bytes(plan.missing)} ({boards_} free)",
        "add a board, close other programs on them, choose a smaller quantisation or --context, or"
        " use --force",
    )
