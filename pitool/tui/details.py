"""An artifact in words: memory here, plan, predicted speeds, certificate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.content import Content

from pitool.catalog.bundles import Bundle, default_folder
from pitool.catalog.manifest import Artifact, Speed
from pitool.chat.status import size_text, speed_span
from pitool.planning import vocabulary
from pitool.planning.places import Verdict
from pitool.report.numbers import (
    NONE,
    compare_bytes,
    compare_fixed,
    format_fixed,
    format_share,
    format_speed,
)
from pitool.report.text import shorten
from pitool.tui.widgets.gauge import gauge

if TYPE_CHECKING:
    from pitool.device.forecast import Forecast

_DIM = "$foreground 60%"
_GAUGE_WIDTH = 16
LONGEST_NAME = 18
_MARKS = {Verdict.FITS: "✓ fits", Verdict.TIGHT: "! tight", Verdict.NO: "✗ no"}
_STYLES = {
    Verdict.FITS: "$text-success",
    Verdict.TIGHT: "$text-warning",
    Verdict.NO: "$text-error",
}


def mark(forecast: Forecast | None) -> str:
    """Return the verdict in a word, with a sign that is read without colours too."""
    return _MARKS[forecast.verdict] if forecast and forecast.verdict else NONE


def artifact_label(bundle: Bundle, artifact: Artifact) -> str:
    """Return an artifact as a list of choices names it, its name short enough for half a screen."""
    name = shorten(bundle.manifest.name, LONGEST_NAME)
    return f"{name} {artifact.quantisation} · {artifact.format}"


def needed(artifact: Artifact, forecast: Forecast | None) -> int | None:
    """Return the bytes that an artifact needs, by its plan where nobody judged it here."""
    if forecast is not None:
        return forecast.needed
    return sum(line.bytes for line in artifact.memory) or None


def decode_rate(artifact: Artifact, forecast: Forecast | None) -> str:
    """Return the predicted decode here, or the span over the boards it was made for."""
    here = forecast.speed if forecast else None
    return format_speed(here.decode) if here else speed_span(artifact.speed)


def details(artifact: Artifact, forecast: Forecast | None) -> Content:
    """Return what there is to know of an artifact, a line each."""
    lines = [("memory", memory_line(artifact, forecast))]
    if artifact.memory:
        plan = " + ".join(f"{line.name} {size_text(line.bytes)}" for line in artifact.memory)
        lines.append(("plan", Content(plan)))
    if speeds := speed_line(artifact, forecast):
        lines.append(("speed", Content(speeds)))
    if artifact.weights:
        lines.append(("weights", Content(artifact.weights)))
    lines.append(("quality", Content(quality_line(artifact))))
    if (found := artifact.certificate) and found.vocabulary:
        said = " · ".join(vocabulary.lines(found.vocabulary))
        lines.append(("tokens", Content(said.removeprefix("vocabulary: "))))
    return Content("\n").join(
        Content.assemble((f"{label:<9}", _DIM), value) for label, value in lines
    )


def memory_line(artifact: Artifact, forecast: Forecast | None) -> Content:
    """Return a gauge of needed in available memory, and the verdict."""
    if forecast is None or forecast.share is None:
        return Content(f"{size_text(needed(artifact, forecast))} needed, free memory unknown")
    style = _STYLES[forecast.verdict] if forecast.verdict else ""
    needs, free = compare_bytes(forecast.needed or 0, forecast.available or 0)
    text = f" {needs} of {free} free {forecast.where}: "
    return gauge(forecast.share, _GAUGE_WIDTH, style) + text + Content.styled(forecast.words, style)


def speed_line(artifact: Artifact, forecast: Forecast | None) -> str:
    """Return the speeds predicted here, or on the boards that it was made for, equal ones once."""
    if forecast and forecast.speed:
        return f"here: {_speeds(forecast.speed)}"
    boards: dict[str, list[str]] = {}
    for speed in artifact.speed:
        boards.setdefault(_speeds(speed), []).append(speed.board)
    return " · ".join(f"{', '.join(names)}: {speeds}" for speeds, names in boards.items())


def _speeds(speed: Speed) -> str:
    return f"prefill {format_speed(speed.prefill)}, decode {format_speed(speed.decode)} t/s"


def quality_line(artifact: Artifact) -> str:
    """Return perplexity, KL divergence and top-1 agreement of a certificate, or a cosine."""
    if artifact.cosine is not None:
        cosine = format_fixed(artifact.cosine, 4)
        return f"vectors of texts have a cosine of {cosine} or more with the checkpoint's"
    measured = artifact.certificate
    if measured is None:
        return "no certificate: never compared with the checkpoint (pitool verify --against)"
    own, base = compare_fixed(measured.perplexity, measured.reference_perplexity, digits=2)
    return (
        f"perplexity {own} (checkpoint {base}) · KL {format_fixed(measured.mean_kl, 4)} nats"
        f" · top-1 {format_share(measured.top1, 1)}"
        + ("" if measured.verified else " · not verified against the checkpoint")
        + (f" · {measured.unseen}" if measured.unseen else "")
    )


def empty() -> Content:
    """Return what to do when there is no bundle."""
    return Content.assemble(
        (f"No bundles in {default_folder()} yet.", "bold"),
        "\n\nPress g to download one that fits this machine, or make one without any"
        " download:\n\n    ",
        ("pitool convert sample --ram 1gb", "$text-primary"),
        "\n\nor copy a bundle folder there and press r.",
    )
