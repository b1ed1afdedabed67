"""Two lines of figures: speed above; context and memory below."""

from __future__ import annotations

from textual.content import Content
from textual.widget import Widget

from pitool.chat.status import Phase, Status, guessed_text, memory_text
from pitool.engine.base import Timings
from pitool.report.numbers import (
    NONE,
    format_count,
    format_rate,
    format_seconds,
    format_share,
    format_speed,
)
from pitool.report.pace import format_left
from pitool.report.text import shorten
from pitool.tui.widgets.gauge import gauge

_LABEL = "$foreground 60%"
_GAUGE_WIDTH = 16
_WHEN_FULL = {"drop": "when full: drop", "stop": "when full: stop"}
NEARLY_FULL = 0.85


class StatsLine(Widget):
    """Two lines, as full as the width allows."""

    DEFAULT_CSS = """
    StatsLine { height: 2; padding: 0 1; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._status = Status()

    def show(self, status: Status) -> None:
        """Show another status."""
        if status != self._status:
            self._status = status
            self.refresh()

    def render(self) -> Content:
        """Return the lines for the present width."""
        width = self.size.width
        return speed_line(self._status, width) + "\n" + room_line(self._status, width)


def speed_line(status: Status, width: int) -> Content:
    """Return the load, the prompt being read, or the speeds of the answer."""
    if status.phase is Phase.LOADING:
        return _loading(status, width)
    lines = _reading(status.timings) if status.phase is Phase.READING else _answering(status)
    return _widest(lines, width)


def room_line(status: Status, width: int) -> Content:
    """Return the context used of the planned, what happens when it is full, and the memory."""
    used = status.timings.context_used if status.timings else 0
    size = status.info.settings.context if status.info else 0
    memory = _part("memory", memory_text(status))
    if not size:
        return _widest([_join([_part("context", NONE), memory]), memory], width)
    share = used / size
    bar = gauge(share, _GAUGE_WIDTH, "$warning" if share >= NEARLY_FULL else "$primary")
    context = _part("context", f"{used}/{size} ")
    dropped = f", {format_count(status.dropped, 'turn')} dropped" if status.dropped else ""
    policy = Content.styled(_WHEN_FULL[status.when_full] + dropped, _LABEL)
    return _widest(
        [
            _join([context + bar, policy, memory]),
            _join([context + bar, memory]),
            _join([context, memory]),
            _part("context", f"{used}/{size}"),
        ],
        width,
    )


def _loading(status: Status, width: int) -> Content:
    name = status.runnable.name if status.runnable else ""
    right = f" {format_share(status.progress):>4}"
    name = shorten(name, max(width - _GAUGE_WIDTH - 2 * len(right), 1))
    left = Content.assemble(("loading ", _LABEL), f"{name} ")
    room = width - left.cell_length - len(right)
    return left + gauge(status.progress, max(room, 1)) + right


def _reading(timings: Timings | None) -> list[Content]:
    if timings is None:
        return [Content.styled("processing the prompt", _LABEL)]
    done, total = timings.prefilled_tokens, timings.prompt_tokens
    figure = f"prompt {done}/{total} "
    parts = [Content.assemble((figure, _LABEL), gauge(done / max(total, 1), _GAUGE_WIDTH))]
    if timings.prefill_rate > 0:
        left = format_left(max(total - done, 0) / timings.prefill_rate)
        parts += [_part("prefill", format_rate(timings.prefill_rate)), _part("left", left)]
    return [
        _join(parts + _reused(timings)),
        _join(parts),
        parts[0],
        _part("prompt", f"{done}/{total}"),
    ]


def _answering(status: Status) -> list[Content]:
    """Return the line in several lengths, the longest first."""
    timings = status.timings or Timings(0)
    ttft = format_seconds(timings.ttft_seconds) if timings.decoded_tokens else NONE
    mean = format_rate(timings.decode_rate)
    decode = _part("decode", mean)
    if status.phase is Phase.ANSWERING and status.rate_now > 0:
        decode = _part("decode", format_rate(status.rate_now)) + Content.styled(
            f" (mean {format_speed(timings.decode_rate)})", _LABEL
        )
    speeds = [decode, _part("TTFT", ttft), _part("prefill", format_rate(timings.prefill_rate))]
    more = speeds + _reused(timings)
    return [_join(more + _guessed(timings)), _join(more), _join(speeds), _join(speeds[:2]), decode]


def _reused(timings: Timings) -> list[Content]:
    """Return how much of the prompt did not have to be read again."""
    if not timings.reused_tokens:
        return []
    return [_part("reused", f"{timings.reused_tokens}/{timings.prompt_tokens}")]


def _guessed(timings: Timings) -> list[Content]:
    """Return how many guessed tokens were the answer's."""
    text = guessed_text(timings)
    return [_part("guessed", text)] if text else []


def _widest(lines: list[Content], width: int) -> Content:
    return next((line for line in lines if line.cell_length <= width), lines[-1])


def _part(label: str, value: str) -> Content:
    return Content.assemble((f"{label} ", _LABEL), value)


def _join(parts: list[Content]) -> Content:
    return Content.styled(" · ", _LABEL).join(parts)
