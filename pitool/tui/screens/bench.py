"""The benchmark screen: one artifact measured, next to its prediction and earlier results."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Select, Static

from pitool.bench.printers import marks
from pitool.bench.progress import LISTS, QUICK, BenchProgress, Stage, TestList
from pitool.bench.rows import BenchRow, rate, test_name
from pitool.catalog.bundles import Bundle, Runnable, choose
from pitool.catalog.manifest import Artifact
from pitool.report.numbers import NONE, format_day, format_fixed, format_share, format_speed
from pitool.report.pace import format_left
from pitool.report.tables import Column
from pitool.tui.context import Context
from pitool.tui.details import artifact_label
from pitool.tui.messages import SessionChanged
from pitool.tui.screens.base import BaseScreen
from pitool.tui.widgets.gauge import gauge
from pitool.tui.widgets.header import HeaderLine
from pitool.tui.widgets.keys import Keys
from pitool.tui.widgets.notice import NoticeLine
from pitool.tui.widgets.table import FitTable

_COLUMNS = (
    Column("measured", "left", priority=3),
    Column("test", "left"),
    Column("t/s"),
    Column("predicted", priority=2),
    Column("before", priority=1),
    Column("marks", "left", "wrap"),
)
_GAUGE_WIDTH = 20
_DIM = "$foreground 60%"
LOW = 0.8
"""Below this share of its prediction a rate is marked."""


class BenchScreen(BaseScreen[None]):
    """Runs a bench in the session's place and shows how far it is; leaving does not end it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "run", "Run"),
        Binding("tab", "app.focus_next", "Next"),
        Binding("escape", "back", "Stop, back", priority=True),
    ]
    TITLE = "Bench: one artifact measured, beside its prediction and earlier results"
    DEFAULT_CSS = """
    BenchScreen {
        #choices { height: 1; margin: 0 1; }
        #choices Select { width: 1fr; }
        #tests { width: 1fr; margin-left: 2; }
        #state { height: auto; padding: 0 1; margin-top: 1; }
        FitTable { height: 1fr; margin-top: 1; background: $background; }
        #said { height: auto; max-height: 7; padding: 0 1; color: $foreground 60%; }
    }
    """

    def __init__(self, context: Context, _: str = "") -> None:
        super().__init__(context)
        self._benching = context.bench()
        self._choices: list[tuple[Bundle, Artifact]] = [
            (bundle, artifact)
            for bundle in context.bundles()[0]
            for artifact in bundle.manifest.artifacts
        ]
        self._earlier: list[BenchRow] = []
        self._was = BenchProgress()

    def compose(self) -> ComposeResult:
        """Lay out what to measure above how far it is above the history."""
        yield HeaderLine()
        if self._choices:
            names = [
                (artifact_label(bundle, artifact), number)
                for number, (bundle, artifact) in enumerate(self._choices)
            ]
            lists = [(tests.words, number) for number, tests in enumerate(LISTS)]
            with Horizontal(id="choices"):
                yield Select(names, value=self._current(), allow_blank=False, compact=True, id="a")
                yield Select(lists, value=0, allow_blank=False, compact=True, id="tests")
        yield Static(id="state")
        yield FitTable(_COLUMNS, id="rows")
        yield Static(id="said")
        yield NoticeLine()
        yield Keys()

    def on_mount(self) -> None:
        """Show what was measured before."""
        self.query_one(HeaderLine).show(self.session.status)
        self.query_one(FitTable).focus()
        self._was = self._benching.progress
        self._show()
        self._read_history()

    def _current(self) -> int:
        """Return what is measured, else what the chat has, else the first artifact."""
        runnable = self._benching.progress.runnable or self.session.status.runnable
        artifact = runnable.artifact if runnable else None
        return next((i for i, (_, a) in enumerate(self._choices) if a == artifact), 0)

    @property
    def _chosen(self) -> tuple[Bundle, Artifact] | None:
        if not self._choices:
            return None
        value = self.query_one("#a", Select).value
        return self._choices[value if isinstance(value, int) else 0]

    @property
    def _tests(self) -> TestList:
        value = self.query_one("#tests", Select).value
        return LISTS[value] if isinstance(value, int) else QUICK

    @on(Select.Changed, "#a")
    def _read_history(self) -> None:
        """Read what was measured of the artifact that is chosen."""
        if (chosen := self._runnable()) is not None:
            self._read(chosen)

    def _runnable(self) -> Runnable | None:
        """Return the artifact that is chosen, None where there is none."""
        chosen = self._chosen
        return None if chosen is None else choose(chosen[0], chosen[1].quantisation)

    @work(exclusive=True)
    async def _read(self, runnable: Runnable) -> None:
        self._earlier = await asyncio.to_thread(self._benching.earlier, runnable)
        self._show_rows()

    def on_session_changed(self, _: SessionChanged) -> None:
        """Show how far it is."""
        self.query_one(HeaderLine).show(self.session.status)
        before, self._was = self._was, self._benching.progress
        if before is self._was:
            return
        if self._was.number != before.number:
            self._read_history()  # what the last run measured belongs to it from here on
        self._show()

    def _show(self) -> None:
        progress = self._benching.progress
        if self._choices:
            state = state_line(progress)
        else:
            state = Content("No artifact to measure: press F2 to see how to make one.")
        self.query_one("#state", Static).update(state)
        said = Content("\n".join(progress.said))
        style = "$text-error" if progress.stage is Stage.FAILED else ""
        self.query_one("#said", Static).update(said.stylize(style) if style else said)
        self._show_rows()

    def _show_rows(self) -> None:
        """Show the rows of the present run above those of earlier ones."""
        progress, chosen = self._benching.progress, self._chosen
        measured = progress.runnable.artifact if progress.runnable else None
        mine = list(reversed(progress.rows)) if chosen and measured == chosen[1] else []
        rows = mine + self._earlier
        self.query_one(FitTable).show(
            [_cells(row, rows[i + 1 :], new=i < len(mine)) for i, row in enumerate(rows)]
        )

    def action_run(self) -> None:
        """Measure, the chat's model unloaded first."""
        if (runnable := self._runnable()) is None:
            return
        tests, benching = self._tests, self._benching
        if not self.session.step_aside(
            lambda cancel: benching.run(runnable, tests, cancel), interrupt=benching.cancel
        ):
            self.tell("Still running: press Esc to stop it, then r to measure.")

    def action_back(self) -> None:
        """Close a list that is open, stop the bench, or go back."""
        if self.close_list():
            return
        if self._benching.progress.running:
            self.session.stop()
        else:
            self.dismiss()


def state_line(progress: BenchProgress) -> Content:
    """Return what the bench is doing, and how far it is."""
    if progress.stage is Stage.IDLE:
        return Content.styled(
            "Press r to measure. This unloads the chat model; the next question reloads it.",
            _DIM,
        )
    runnable = progress.runnable
    name = f"{runnable.name} {runnable.quantisation}" if runnable else ""
    if progress.stage is Stage.LOADING:
        return Content(f"loading {name} ") + gauge(progress.loaded, _GAUGE_WIDTH)
    if progress.stage is not Stage.MEASURING:
        return Content(f"{name}, {progress.tests.name}: {progress.stage.value}")
    bar = gauge(progress.share, _GAUGE_WIDTH) + f" {format_share(progress.share):>4}  "
    return bar + _test(progress)


def _test(progress: BenchProgress) -> Content:
    """Return the test that runs: its name, its repetitions and their mean so far."""
    if (result := progress.result) is None:
        return Content()
    done, of = len(result.samples_ns), progress.tests.repetitions
    if not done:
        return Content(f"{result.workload.name}: warm-up")
    deviation = f" ± {format_fixed(result.stddev_ts, 2)}" if done > 1 else ""
    left = format_left((of - done) * result.avg_ns / 1e9)
    words = f"{result.workload.name} {done}/{of}: {format_fixed(result.avg_ts, 2)}{deviation} t/s"
    return Content.assemble(words, (f"  left {left}" if done < of else "", _DIM))


def _cells(row: BenchRow, older: list[BenchRow], *, new: bool) -> list[Text]:
    """Return the cells of a row; ``before``: the change since the test was last measured."""
    when = datetime.fromisoformat(row["test_time"]).astimezone()
    predicted, held = row["predicted_ts"], marks(row)
    share = row["avg_ts"] / predicted if predicted else None
    against = NONE if share is None else f"{format_speed(predicted)} ({format_share(share)})"
    low = "bold yellow" if share is not None and share < LOW else ""
    return [
        Text(format_day(when.timestamp()), "bold" if new else ""),
        Text(test_name(row)),
        Text(rate(row), "bold" if new else "", justify="right"),
        Text(against, low, justify="right"),
        Text(_change(row, older), justify="right"),
        Text(held, "yellow"),
    ]


def _change(row: BenchRow, older: list[BenchRow]) -> str:
    """Return by how much a rate differs from the one before it, measured with as many threads."""
    same = (test_name(row), row["n_threads"])
    for other in older:
        if (test_name(other), other["n_threads"]) == same:
            return f"{row['avg_ts'] / other['avg_ts'] - 1:+.0%}"
    return NONE
