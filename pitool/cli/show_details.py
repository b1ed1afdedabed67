"""What ``pitool show`` adds to the table of artifacts, where a bundle knows it.

That is how the types were chosen and from what, the quality by kind of text, and what types of the
KV cache cost.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pitool.catalog.boards import find_board
from pitool.catalog.bundles import Bundle
from pitool.catalog.manifest import Artifact, Certificate, Fit, FitPoint, KindQuality
from pitool.errors import BadInput
from pitool.planning.caches import advised, front
from pitool.report.canvas import SERIES, Colour
from pitool.report.numbers import (
    format_bytes,
    format_range,
    format_share,
    format_significant,
    format_speed,
)
from pitool.report.scatter import Axis, Front, Mark, Scatter
from pitool.report.tables import Column, Section

F16_BITS = 16
# A divergence below this is that of the runtime; a logarithmic axis has no zero.
LEAST_KL = 1e-5


def details(bundle: Bundle) -> Iterator[Section]:
    """Yield all sections, in the order in which a person asks."""
    yield from fit_tables(bundle)
    yield from kinds_tables(bundle)
    yield from cache_tables(bundle)


def fit_tables(bundle: Bundle) -> Iterator[Section]:
    """Yield how the types of an artifact were chosen, and what there could be in its place."""
    for artifact in bundle.manifest.artifacts:
        if artifact.fit is None:
            continue
        fit = artifact.fit
        yield Section(artifact.quantisation, notes=[fit.made, fit.why])
        if fit.front:
            yield _front_table(artifact, fit)


def _front_table(artifact: Artifact, fit: Fit) -> Section:
    columns = [Column("size"), Column("of this"), Column("tokens/s"), Column("predicted KL")]
    rows = [
        [
            format_bytes(point.bytes),
            format_share(point.bytes / artifact.bytes),
            format_range(speed.decode for speed in point.speed),
            format_significant(point.mean_kl),
        ]
        for point in fit.front
    ]
    return Section(
        "The least loss by size, for convert --size",
        columns,
        rows,
        ["tokens/s: predicted decode; KL: of the calibration text, a sum over the tensors"],
    )


def chart(bundle: Bundle) -> str:
    """Return the front of loss and speed as SVG; BadInput for a bundle without one."""
    made = next((a for a in bundle.manifest.artifacts if a.fit and a.fit.front), None)
    if made is None or made.fit is None:
        raise BadInput(
            f"{bundle.path} has no front of sizes to draw",
            "convert with --fit, --size or --target-tps, and a --calibration that is a text",
        )
    points = made.fit.front
    boards = [speed.board for speed in points[0].speed]
    colours = dict(zip(boards, SERIES * len(boards), strict=False)) or {"": SERIES[0]}
    fronts = [
        Front(colour, [_mark(point, board, colour) for point in points])
        for board, colour in colours.items()
    ]
    speed, size = Axis("predicted decode, tokens/s", "more"), Axis("size in MB", "less")
    return Scatter(
        f"{bundle.manifest.name}: loss by {'speed' if boards else 'size'}",
        speed if boards else size,
        Axis("predicted KL divergence, nats per token", "less"),
        [mark for front_ in fronts for mark in front_.marks],
        fronts,
        [(find_board(board).name, colours[board], False) for board in boards],
        note="marks: file sizes, each with the types that lose least",
        log=True,
    ).to_svg()


def _mark(point: FitPoint, board: str, colour: Colour) -> Mark:
    speed = next((each.decode for each in point.speed if each.board == board), 0.0)
    size, loss = format_bytes(point.bytes), format_significant(point.mean_kl)
    rate = f", {format_speed(speed)} tokens/s on {board}" if board else ""
    return Mark(
        size,
        max(speed, 1e-9) if board else point.bytes / 1e6,
        max(point.mean_kl, LEAST_KL),
        colour,
        f"{size}: KL {loss}{rate}",
    )


def cache_tables(bundle: Bundle) -> Iterator[Section]:
    """Yield what types of the KV cache cost each artifact, where that was measured."""
    for artifact in bundle.manifest.artifacts:
        if not artifact.caches:
            continue
        best = advised(artifact.caches, artifact.certificate)
        shown = front(artifact.caches)
        rows = [
            [
                choice.types.keys,
                choice.types.values,
                format_share(choice.types.bits / F16_BITS),
                format_significant(choice.mean_kl),
                "measured" if choice.measured else "keys + values",
            ]
            for choice in shown
        ]
        columns = [
            Column("keys", "left"),
            Column("values", "left"),
            Column("of f16"),
            Column("KL"),
            Column("how", "left", priority=1),
        ]
        advice = (
            f"advised: --kv-type {best}, which costs little beside the weights"
            if best
            else "advised: f16, because smaller types cost much beside the weights"
        )
        yield Section(
            f"KV cache of {artifact.quantisation}: the least loss for its size",
            columns,
            rows,
            ["KL: what the cache adds beside f16", advice],
            bold={i for i, choice in enumerate(shown) if choice.types == best},
        )


def kinds_tables(bundle: Bundle) -> Iterator[Section]:
    """Yield the quality by kind of text; nothing of a bundle that does not tell them apart."""
    found = {a.quantisation: a.certificate for a in bundle.manifest.artifacts if a.certificate}
    rows = [
        (name, [*_own_text(certificate), *certificate.kinds])
        for name, certificate in found.items()
        if certificate.kinds
    ]
    if rows:
        yield kinds_table(rows)


def _own_text(certificate: Certificate) -> Iterator[KindQuality]:
    """Yield the figures of a certificate's own text, which may be the user's."""
    if certificate.median_kl is not None and certificate.p99_kl is not None:
        yield KindQuality(
            certificate.text,
            certificate.tokens,
            certificate.mean_kl,
            certificate.median_kl,
            certificate.p99_kl,
            certificate.top1,
        )


def kinds_table(rows: Iterable[tuple[str, Sequence[KindQuality]]]) -> Section:
    """Return the table of the quality by kind of text, of each artifact by its name."""
    columns = [
        Column("artifact", "left", "middle"),
        Column("text", "left"),
        Column("mean KL"),
        Column("median"),
        Column("99%"),
        Column("flips"),
        Column("tokens", priority=1),
    ]
    cells = [
        [
            name,
            kind.name,
            format_significant(kind.mean_kl),
            format_significant(kind.median_kl),
            format_significant(kind.p99_kl),
            format_share(1 - kind.top1, 1),
            f"{kind.tokens:,}",
        ]
        for name, kinds in rows
        for kind in kinds
    ]
    note = "flips: places where another token is the likeliest than in the checkpoint"
    return Section("Quality by kind of text", columns, cells, [note])
