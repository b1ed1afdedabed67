"""The same prompt on two artifacts, side by side, with figures and certificates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Input, Select, Static

from pitool.catalog.bundles import Bundle, choose
from pitool.catalog.manifest import Artifact
from pitool.chat.compare import Side, SideState
from pitool.chat.status import size_text
from pitool.chat.tasks import Task
from pitool.report.numbers import (
    NONE,
    format_count,
    format_fixed,
    format_rate,
    format_seconds,
    format_share,
)
from pitool.tui.context import Context
from pitool.tui.details import artifact_label
from pitool.tui.messages import SessionChanged
from pitool.tui.screens.base import BaseScreen
from pitool.tui.widgets.gauge import gauge
from pitool.tui.widgets.header import HeaderLine
from pitool.tui.widgets.keys import Keys
from pitool.tui.widgets.notice import NoticeLine
from pitool.tui.widgets.prompt import Line
from pitool.tui.widgets.prose import Prose

_DIM = "$foreground 60%"
_CELL = 18
_GAUGE_WIDTH = 12

Figure = tuple[str, str, float | None]
"""Label, text, and a number of which less is better."""


class Panel(Vertical):
    """One side: which artifact, its answer, its figures."""

    DEFAULT_CSS = """
    Panel {
        width: 1fr; padding: 0 1;
        Select { margin: 0; }
        VerticalScroll { height: 1fr; scrollbar-size-vertical: 1; }
        Prose { padding: 0; }
        .state { height: auto; color: $foreground 60%; }
        .figures { height: 4; }
    }
    """

    def __init__(self, choices: Sequence[tuple[str, int]], chosen: int) -> None:
        super().__init__()
        self._select = Select(choices, value=chosen, allow_blank=False, compact=True)
        self._prose, self._state = Prose(), Static(classes="state")
        self._figures = Static(classes="figures")

    def compose(self) -> ComposeResult:
        """Lay out the choice above the answer above the figures."""
        yield self._select
        with VerticalScroll():
            yield self._prose
        yield self._state
        yield self._figures

    @property
    def chosen(self) -> int:
        """Which artifact is chosen."""
        value = self._select.value
        return value if isinstance(value, int) else 0

    def show(self, side: Side | None, artifact: Artifact, other: Sequence[Figure]) -> None:
        """Show a side, with the figures that are better than the other's marked."""
        self._prose.become(side.text if side else "")
        self._state.update(_state_line(side))
        self._figures.update(_table(figures_of(side, artifact), other))


class PromptLine(Line):
    """A line that Enter runs, which the footer says."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "submit", "Run")]


class CompareScreen(BaseScreen[None]):
    """Runs a comparison in the session's place and shows how far it is."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "app.focus_next", "Next"),
        Binding("ctrl+s", "swap", "Swap"),
        Binding("escape", "back", "Stop, back", priority=True),
    ]
    TITLE = "Compare: the same prompt on two artifacts"
    DEFAULT_CSS = """
    CompareScreen {
        #sides { height: 1fr; }
        #why { height: auto; margin: 0 1; color: $foreground 60%; }
        Input { border: round $foreground 30%; background: $background; }
        Input:focus { border: round $primary; }
    }
    """

    def __init__(self, context: Context, prompt: str = "") -> None:
        super().__init__(context)
        question = self.session.conversation.last_question()
        asked = question.text.partition("\n")[0] if question else ""
        self._comparison, self._prompt = context.comparison(), prompt or asked
        self._run_task: Task | None = None
        self._choices: list[tuple[Bundle, Artifact]] = [
            (bundle, artifact)
            for bundle in context.bundles()[0]
            for artifact in bundle.manifest.artifacts
        ]

    def compose(self) -> ComposeResult:
        """Lay out two panels above the prompt."""
        yield HeaderLine()
        names = [
            (artifact_label(bundle, artifact), number)
            for number, (bundle, artifact) in enumerate(self._choices)
        ]
        if len(names) < 2:
            yield Static("A comparison needs two artifacts: press F2 to list them.", id="why")
        else:
            first = self._current()
            with Horizontal(id="sides"):
                yield Panel(names, first)
                yield Panel(names, 1 if first == 0 else 0)
            yield Static(id="why")
            yield PromptLine(self._prompt, placeholder="Prompt for both; press Enter to run it")
        yield NoticeLine()
        yield Keys()

    def on_mount(self) -> None:
        """Show what there is, the prompt ready to be written."""
        if self.query(Input):
            self.query_one(Input).focus()
            self.show()
        self.query_one(HeaderLine).show(self.session.status)

    def on_unmount(self) -> None:
        """End the workers of the comparison."""
        if self._run_task is not None:
            self._run_task.cancel()
        self.session.afterwards(self._comparison.close)

    def _current(self) -> int:
        """Return the artifact that the chat has, or the first one."""
        runnable = self.session.status.runnable
        artifact = runnable.artifact if runnable else None
        return next((i for i, (_, a) in enumerate(self._choices) if a == artifact), 0)

    @on(Select.Changed)
    def show(self) -> None:
        """Show both sides as they are now."""
        panels = list(self.query(Panel))
        sides = [self._side(panel) for panel in panels]
        artifacts = [self._choices[panel.chosen][1] for panel in panels]
        tables = [figures_of(side, a) for side, a in zip(sides, artifacts, strict=True)]
        for panel, side, artifact, other in zip(
            panels, sides, artifacts, tables[::-1], strict=True
        ):
            panel.show(side, artifact, other)
        why = self._comparison.room.why
        self.query_one("#why", Static).update(Content(f"Greedy sampling; {why}." if why else ""))

    def _side(self, panel: Panel) -> Side | None:
        """Return what ran for the artifact that a panel has chosen."""
        artifact = self._choices[panel.chosen][1]
        return next((s for s in self._comparison.sides if s.runnable.artifact is artifact), None)

    def on_session_changed(self, _: SessionChanged) -> None:
        """Show how far it is."""
        self.query_one(HeaderLine).show(self.session.status)
        if self.query(Panel):
            self.show()

    @on(Input.Submitted)
    def _run(self) -> None:
        """Run the prompt on both."""
        prompt = self.query_one(Input).value.strip()
        chosen = [panel.chosen for panel in self.query(Panel)]
        if not prompt:
            self.tell("Enter a prompt first.")
        elif chosen[0] == chosen[1]:
            self.tell("Choose two different artifacts: Tab moves to the lists, Enter opens one.")
        else:
            self._begin(chosen, prompt)

    def _begin(self, chosen: list[int], prompt: str) -> None:
        pairs = [self._choices[number] for number in chosen]
        runnables = [choose(bundle, artifact.quantisation) for bundle, artifact in pairs]
        messages, sampling = self.session.for_comparison(prompt)
        self._run_task = self.session.step_aside(
            lambda cancel: self._comparison.run(runnables, messages, sampling, cancel),
            interrupt=self._comparison.cancel,
        )
        if self._run_task is None:
            self.tell("Still running: press Esc to stop it, then Enter to run.")

    def action_swap(self) -> None:
        """Have left and right change places."""
        left, right = self.query(Select)
        left.value, right.value = right.value, left.value

    def action_back(self) -> None:
        """Close a list that is open, stop what runs, or go back."""
        if self.close_list():
            return
        if self.session.status.busy:
            self.session.stop()
        else:
            self.dismiss()


def figures_of(side: Side | None, artifact: Artifact) -> list[Figure]:
    """Return what was measured of a side and what its certificate says."""
    timings = side.timings if side else None
    decoded = timings is not None and timings.decoded_tokens > 0
    decode = timings.decode_rate if timings else 0.0
    prefill = timings.prefill_rate if timings else 0.0
    ttft = timings.ttft_seconds if timings and decoded else None
    memory, measured = side.memory if side else None, artifact.certificate
    return [
        ("decode", format_rate(decode), -decode or None),
        ("TTFT", NONE if ttft is None else format_seconds(ttft), ttft),
        ("prefill", format_rate(prefill), -prefill or None),
        ("memory", size_text(memory), memory),
        ("size", size_text(artifact.bytes), artifact.bytes),
        *(
            [
                ("perplexity", format_fixed(measured.perplexity, 2), measured.perplexity),
                ("KL", format_fixed(measured.mean_kl, 4), measured.mean_kl),
                ("top-1", format_share(measured.top1, 1), -measured.top1),
            ]
            if measured
            else [(name, NONE, None) for name in ("perplexity", "KL", "top-1")]
        ),
    ]


def _table(own: Sequence[Figure], other: Sequence[Figure]) -> Content:
    """Return the figures two a line, those that are better than the other's marked."""
    cells = []
    for (label, text, value), (_, _, against) in zip(own, other, strict=True):
        better = value is not None and against is not None and value < against
        cell = Content.assemble((f"{label} ", _DIM), (text, "bold $text-success" if better else ""))
        if better:
            cell += Content.styled(" ▴", "$text-success")
        cells.append(cell.pad_right(max(_CELL - cell.cell_length, 0)))
    pairs = zip(cells[::2], cells[1::2], strict=True)
    return Content("\n").join(left + " " + right for left, right in pairs)


def _state_line(side: Side | None) -> Content:
    """Return what a side is doing."""
    if side is None:
        return Content()
    match side.state:
        case SideState.FAILED:
            return Content.styled(side.error, "$text-error")
        case SideState.LOADING:
            return Content("loading ") + gauge(side.progress, _GAUGE_WIDTH)
        case SideState.READING if side.timings is not None:
            return Content(f"prompt {side.timings.prefilled_tokens}/{side.timings.prompt_tokens}")
        case SideState.DONE | SideState.STOPPED if side.timings is not None:
            tokens = format_count(side.timings.decoded_tokens, "token")
            return Content(f"{side.state.value} · {tokens}")
        case state:
            return Content(state.value)
