"""The board: charts of its sensors, the doctor's findings with their fixes, and a CSV log."""

from __future__ import annotations

import asyncio
import textwrap
import time
from typing import TYPE_CHECKING, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.events import Resize
from textual.widgets import OptionList, Static

from pitool.catalog.files import expand
from pitool.errors import MissingPart
from pitool.report.numbers import format_celsius, format_count, format_part, format_share
from pitool.tui.context import Context
from pitool.tui.messages import SensorsWanted, SessionChanged
from pitool.tui.screens.base import BaseScreen
from pitool.tui.screens.dialogs import AskText
from pitool.tui.widgets.charts import SERIES, Charts
from pitool.tui.widgets.header import HeaderLine
from pitool.tui.widgets.keys import Keys
from pitool.tui.widgets.notice import NoticeLine

if TYPE_CHECKING:
    from pitool.cluster.health import BoardHealth
    from pitool.device.doctor.finding import Finding
    from pitool.device.sensor_history import TimedSample

_SIGNS = {
    "ok": ("ok", "$text-success"),
    "note": ("note", "$text-primary"),
    "warning": ("WARNING", "$text-warning bold"),
    "fault": ("FAULT", "$text-error bold"),
}
_SIGN_WIDTH = 8
_MOST_ROWS = 3
_OTHER_LINES = 10
# How often the boards of a cluster are looked at; each look is a request over the network.
_BOARD_SECONDS = 5.0


class Findings(OptionList):
    """The findings, the worst first; Enter copies the fix of one."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "select", "Copy fix")]


class DeviceScreen(BaseScreen[None]):
    """Shows the samples that the app takes, and asks the doctor once."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "Back"),
        Binding("l", "log", "Log on/off"),
        Binding("e", "examine", "Run doctor"),
    ]
    TITLE = "Device: sensors, memory and what the doctor found"
    DEFAULT_CSS = """
    DeviceScreen {
        Charts { margin-top: 0; }
        #span { height: auto; padding: 0 1; color: $foreground 60%; }
        #boards { height: auto; max-height: 8; padding: 0 1; display: none; }
        #title { height: auto; padding: 0 1; text-style: bold; }
        Findings {
            height: 1fr; border: none; padding: 0; background: $background;
            scrollbar-size-vertical: 1;
        }
        /* Faint, because how bad a finding is has a colour of its own, which must be read on it. */
        Findings:focus {
            border: none;
            & > .option-list--option-highlighted {
                background: $primary 25%; color: $foreground; text-style: bold;
            }
        }
    }
    """

    def __init__(self, context: Context, _: str = "") -> None:
        super().__init__(context)
        if context.sensors is None:
            raise MissingPart("sensors are not available here", "run pitool monitor")
        self._sensors = context.sensors
        self._examining = self._owed = False

    def compose(self) -> ComposeResult:
        """Lay out the charts above the findings."""
        yield HeaderLine()
        yield Charts()
        yield Static(id="span")
        yield Static(id="boards")
        yield Static(id="title")
        yield Findings()
        yield NoticeLine()
        yield Keys()

    def on_mount(self) -> None:
        """Show what there is, and have the doctor look where nobody asked before."""
        self._sensors.watched = True
        self.app.post_message(SensorsWanted())
        self.query_one(Findings).focus()
        if self._sensors.findings is None:
            self.action_examine()
        self._show_findings()
        self._show_samples()
        if self.context.boards is not None:
            self._look_at_boards()
            self.set_interval(_BOARD_SECONDS, self._look_at_boards)

    def on_unmount(self) -> None:
        """Let the sensors be looked at less often."""
        self._sensors.watched = False

    def on_session_changed(self, _: SessionChanged) -> None:
        """Show new samples; have the doctor look when the model is idle, if that was wanted."""
        self._show_samples()
        if self._owed and not self.session.status.busy:
            self.action_examine()

    def on_resize(self, event: Resize) -> None:
        """Give the charts what the findings can spare."""
        rows = (event.size.height - _OTHER_LINES) // len(SERIES)
        self.query_one(Charts).styles.height = min(max(rows, 1), _MOST_ROWS) * len(SERIES)
        self._show_findings()

    @work(exclusive=True, group="boards")
    async def _look_at_boards(self) -> None:
        """Show how the boards of the cluster are, which is asked in a thread."""
        assert self.context.boards is not None
        found = await asyncio.to_thread(self.context.boards)
        if self.is_attached:
            shown = self.query_one("#boards", Static)
            shown.display = bool(found)
            shown.update(Content("\n").join(board_line(board) for board in found))

    def _show_samples(self) -> None:
        points = list(self._sensors.points)
        header = self.query_one(HeaderLine)
        header.show(self.session.status)
        header.sense(points[-1].sample if points else None)
        self.query_one(Charts).show(points)
        log = self._sensors.log
        words = f" · logging to {log.path}, {format_count(log.lines, 'line')}" if log else ""
        self.query_one("#span", Static).update(Content(_span(points) + words))

    def _show_findings(self) -> None:
        found = self._sensors.findings
        title = "Doctor"
        if self._owed:
            title += ": runs when the model is idle, because it reads from the disk"
        elif self._examining:
            title += ": checking …"
        elif found is not None:
            title += f": {_count(found)}"
        self.query_one("#title", Static).update(Content(title))
        shown = self.query_one(Findings)
        place, room = shown.highlighted, self.size.width - 1  # beside the scroll bar
        shown.clear_options()
        shown.add_options([finding_text(finding, room) for finding in found or ()])
        shown.highlighted = (place or 0) if found else None

    def action_examine(self) -> None:
        """Have the doctor look, when the model is idle."""
        if self._examining:
            return
        self._owed = self.session.status.busy
        if not self._owed:
            self._examining = True
            self._have_examined()
        self._show_findings()

    @work
    async def _have_examined(self) -> None:
        try:
            await asyncio.to_thread(self._sensors.examine)
        finally:
            self._examining = False
            if self.is_attached:  # not left meanwhile
                self._show_findings()

    @on(OptionList.OptionSelected)
    def _copy_fix(self, event: OptionList.OptionSelected) -> None:
        fix = (self._sensors.findings or [])[event.option_index].fix
        if fix:
            self.app.copy_to_clipboard(fix)
            self.notify("The fix was copied, if your terminal supports OSC 52.")
        else:
            self.notify("There is nothing to fix here.")

    def action_log(self) -> None:
        """End the log that runs, or ask where to write one."""
        if (log := self._sensors.stop_log()) is not None:
            self.notify(f"{log.path} has {format_count(log.lines, 'line')}", markup=False)
            self._show_samples()
            return

        def start(name: str | None) -> None:
            if name:
                self._sensors.start_log(expand(name))
                self._show_samples()

        name = time.strftime("pitool-%Y%m%d-%H%M%S.csv")
        question = "Log memory and sensors to a CSV file, like pitool monitor --csv:"
        self.ask(AskText(question, name), start)


def board_line(board: BoardHealth) -> Content:
    """Return a board of the cluster in a line: temperature, memory, and what is wrong with it."""
    told = board.status
    if told is None:
        return Content.assemble(board.title, " ", ("does not answer", "$text-error bold"))
    said = []
    if told.temperature_c is not None:
        said.append(format_celsius(told.temperature_c))
    if told.mem_available is not None and told.mem_total:
        said.append(f"{format_part(told.mem_available, told.mem_total)} free")
    if told.cpu is not None:
        said.append(f"CPU {format_share(told.cpu)}")
    said.append("holds layers" if told.client else "ready")
    line = Content(f"{board.title}: {' · '.join(said)}")
    return line + Content.styled(f" · {told.words}", "$text-warning bold") if told.words else line


def finding_text(finding: Finding, width: int) -> Content:
    """Return what was found, what it costs, and the fix, each beside the sign."""
    sign, style = _SIGNS[finding.severity]
    parts = [(f"{finding.check}: {finding.found}", "")]
    parts += [(finding.cost, ""), (f"fix: {finding.fix}" if finding.fix else "", "bold")]
    room = max(width - _SIGN_WIDTH, 1)
    lines = [(line, bold) for text, bold in parts for line in textwrap.wrap(text, room)]
    signs = [Content.styled(sign.ljust(_SIGN_WIDTH), style)]
    signs += [Content(" " * _SIGN_WIDTH)] * (len(lines) - 1)
    return Content("\n").join(
        left + Content.styled(line, bold) for left, (line, bold) in zip(signs, lines, strict=True)
    )


def _count(findings: list[Finding]) -> str:
    bad = sum(finding.severity in ("warning", "fault") for finding in findings)
    if not bad:
        return f"nothing to fix in {len(findings)} checks"
    return f"{bad} to fix in {len(findings)} checks, Enter copies a fix"


def _span(points: list[TimedSample]) -> str:
    """Return what the width of the charts stands for."""
    if len(points) < 2:
        return "waiting for the first samples"
    seconds = round(points[-1].sample.time - points[0].sample.time)
    long = f"{seconds // 60} min" if seconds >= 120 else f"{seconds} s"
    flags = [flag for p in points for flag in p.sample.throttled_now or ()]
    if not flags:
        return f"the last {long}"
    held = sum(bool(p.sample.throttled_now) for p in points)
    which = ", ".join(dict.fromkeys(flags))
    return f"the last {long} · {which} in {held} of {len(points)} samples"
