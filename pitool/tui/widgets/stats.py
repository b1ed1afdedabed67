"""The line of figures: of the load, of the prompt being read, or of the answer."""

from __future__ import annotations

from textual.content import Content
from textual.widget import Widget

from pitool.engine.base import Timings
from pitool.tui import figures
from pitool.tui.status import Phase, Status
from pitool.tui.widgets.gauge import gauge

_LABEL = "$foreground 60%"
_GAUGE_WIDTH = 16


class StatsLine(Widget):
    """One line, as full as the width allows."""

    DEFAULT_CSS = """
    StatsLine { height: 1; padding: 0 1; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._status = Status()

    def show(self, status: Status) -> None:
        """Show another status."""
        self._status = status
        self.refresh()

    def render(self) -> Content:
        """Return the line for the present width."""
        return stats_line(self._status, self.size.width)


def stats_line(status: Status, width: int) -> Content:
    """Return the figures of a status in at most ``width`` cells."""
    if status.phase is Phase.LOADING:
        return _loading(status, width)
    if status.phase is Phase.READING:
        lines = _reading(status, status.timings)
    else:
        lines = _answering(status)
    return next((line for line in lines if line.cell_length <= width), lines[-1])


def _loading(status: Status, width: int) -> Content:
    name = status.runnable.name if status.runnable else ""
    left = Content.assemble(("loading ", _LABEL), f"{name} ")
    right = f" {status.progress:4.0%}"
    room = width - left.cell_length - len(right)
    return left + gauge(status.progress, max(room, 1)) + right


def _reading(status: Status, timings: Timings | None) -> list[Content]:
    if timings is None:
        return [Content.styled("reading prompt", _LABEL)]
    done, total = timings.prefilled_tokens, timings.prompt_tokens
    figure = f"reading prompt {done}/{total} "
    parts = [Content.assemble((figure, _LABEL), gauge(done / max(total, 1), _GAUGE_WIDTH))]
    if timings.prefill_rate > 0:
        left = figures.seconds((total - done) / timings.prefill_rate)
        parts += [_part("prefill", figures.rate(timings.prefill_rate)), _part("left", left)]
    return [
        _join([*parts, *_standing(status)]),
        _join(parts),
        parts[0],
        _part("reading", f"{done}/{total}"),
    ]


def _answering(status: Status) -> list[Content]:
    """Return the line in several lengths, the longest first."""
    timings = status.timings or Timings(0)
    ttft = figures.seconds(timings.ttft_seconds) if timings.decoded_tokens else figures.NONE
    speeds = [
        _part("prefill", figures.rate(timings.prefill_rate)),
        _part("decode", figures.rate(timings.decode_rate)),
        _part("TTFT", ttft),
    ]
    used, memory = _standing(status)
    bar = gauge(_fullness(status), _GAUGE_WIDTH) + " "
    full, short = [*speeds, used, memory], [*speeds, _short(used), _short(memory)]
    return [
        _join([*speeds, bar + used, memory]),
        _join(full),
        _join(short),
        _join(short, "  "),
        _join(short[1:], " "),
        _join([speeds[1]]),
    ]


def _standing(status: Status) -> list[Content]:
    """Return the context used and the memory of the worker."""
    used = status.timings.context_used if status.timings else 0
    size = status.info.settings.context if status.info else 0
    context = f"{used}/{size}" if size else figures.NONE
    return [_part("context", context), _part("memory", figures.size(status.memory))]


def _fullness(status: Status) -> float:
    if status.info is None or status.timings is None:
        return 0.0
    return status.timings.context_used / status.info.settings.context


def _part(label: str, value: str) -> Content:
    return Content.assemble((f"{label} ", _LABEL), value)


def _short(part: Content) -> Content:
    label, value = part.plain.split(" ", 1)
    return _part({"context": "ctx", "memory": "mem"}[label], value)


def _join(parts: list[Content], separator: str = " · ") -> Content:
    return Content.styled(separator, _LABEL).join(parts)
