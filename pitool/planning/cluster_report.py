"""The report of ``pitool plan --boards``: every quantisation over the boards, as data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pitool.catalog.kv_types import CacheTypes
from pitool.catalog.profiles import find_profile
from pitool.catalog.tables import names_in
from pitool.errors import DoesNotFit, UsageError
from pitool.planning.cluster import ClusterPlan, Node, Splitter
from pitool.planning.cluster_boards import find_nodes
from pitool.planning.formats import GGUF
from pitool.planning.formats.base import AnyQuantisation, PlannedModel
from pitool.planning.formats.gguf import GgufPlan
from pitool.planning.memory import Load
from pitool.planning.places import Place
from pitool.planning.planner import AUTO, usable
from pitool.planning.report import Options
from pitool.planning.speed import NONE
from pitool.report.numbers import format_bytes


@dataclass(frozen=True, slots=True)
class ClusterRow:
    """A quantisation over the boards; ``bytes`` of its tensors."""

    kind: AnyQuantisation
    bytes: int
    plan: ClusterPlan

    @property
    def quantisation(self) -> str:
        """Its name."""
        return self.kind.name


@dataclass(frozen=True, slots=True)
class ClusterReport:
    """What was asked and what is planned; ``shown``: the row whose split is shown."""

    model: PlannedModel
    nodes: tuple[Node, ...]
    load: Load
    rows: tuple[ClusterRow, ...]
    shown: ClusterRow
    asked: bool

    @property
    def decode_range(self) -> tuple[float, float]:
        """The slowest and fastest decode to expect, by the boards' own errors."""
        boards = [share.node.board for share in self.shown.plan.shares]
        error = max((board.decode_error for board in boards if board), default=0.0)
        decode = self.shown.plan.decode
        return decode * (1 - error), decode * (1 + error)

    def require(self) -> None:
        """Raise DoesNotFit where a quantisation was named, and none that was fits."""
        if self.asked and not any(row.plan.fits for row in self.rows):
            row = self.rows[-1]
            raise DoesNotFit(
                f"{row.quantisation} lacks {format_bytes(row.plan.missing)} on these boards",
                "add a board, or choose a smaller quantisation or --context",
            )

    def to_json(self) -> dict[str, Any]:
        """Return every number."""
        return {
            "model": self.model.name,
            "context": self.load.context,
            "kv_type": self.load.kv_type,
            "value_type": self.load.cache.values,
            "shown": self.shown.quantisation,
            "rows": [
                {"quantisation": row.quantisation, "tensor_bytes": row.bytes} | row.plan.to_json()
                for row in self.rows
            ],
        }


def make_cluster_report(
    options: Options, model: PlannedModel, names: str, mbit: float | None = None
) -> ClusterReport:
    """Return the report on a model over the boards of a list; see ``find_nodes``.

    UsageError for what only one board can be asked.
    """
    if options.form is not GGUF:
        raise UsageError("only GGUF models run over several boards", "drop --format")
    profile = find_profile(options.profile)
    nodes = find_nodes(names, profile, mbit)
    load = Load(
        GGUF.context(model.shape, options.context, profile.context),
        micro_batch=profile.micro_batch,
        sequences=options.parallel,
    ).with_cache(CacheTypes.parse(options.kv_type or profile.kv_type))
    kinds = _kinds(options, model)
    rows = tuple(_row(model, kind, load, nodes) for kind in kinds)
    fitting = [row for row in rows if row.plan.fits and (options.quant or usable(row.kind))]
    return ClusterReport(
        model, tuple(nodes), load, rows, (fitting or rows[-1:])[0], asked=bool(options.quant)
    )


def _kinds(options: Options, model: PlannedModel) -> Sequence[AnyQuantisation]:
    names = names_in(options.quant or "")
    if not names or names == [AUTO]:
        return GGUF.usual(model)
    return [GGUF.find(name) for name in names]


def _row(
    model: PlannedModel, kind: AnyQuantisation, load: Load, nodes: Sequence[Node]
) -> ClusterRow:
    anywhere = Place("boards", "", 0, 0, {})
    artifact = GGUF.artifact(model, kind, anywhere, load, NONE)
    assert isinstance(artifact, GgufPlan)
    plan = Splitter(model.shape, artifact.tensors, load).plan(nodes)
    return ClusterRow(kind, artifact.tensor_bytes, plan)
