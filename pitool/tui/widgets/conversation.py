"""The view of a conversation: follows its rows, mounts the new ones, lets the running one grow."""

from __future__ import annotations

from collections.abc import Callable

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from pitool.catalog.bundles import Runnable
from pitool.chat.status import Phase, Status, size_text
from pitool.report.numbers import format_seconds
from pitool.store.conversation import Conversation, ConversationRow
from pitool.tui.widgets.rows import AnswerRow, Earlier, widget_for
from pitool.tui.widgets.settled import Ground

WINDOW = 24
"""Rows that are mounted at once: a long conversation opens as fast as a short one."""

GROWING = 4
"""Only so many of the newest rows may still change."""


class Rows(Vertical, Ground):
    """The rows that are mounted."""


class ConversationView(VerticalScroll, Ground, can_focus=True):
    """Scrolls with the answer until the user scrolls up; an empty one describes the model."""

    # The rows fill the view at least: the anchor would push fewer of them down to the bottom.
    DEFAULT_CSS = """
    ConversationView {
        height: 1fr; scrollbar-size-vertical: 1;
        scrollbar-color: $foreground 30%; scrollbar-background: $background;
        scrollbar-color-hover: $primary; scrollbar-color-active: $primary;
        #rows { height: auto; min-height: 100%; padding: 0 0 1 0; }
        #welcome { width: 1fr; height: 100%; content-align: center middle; text-align: center; }
    }
    """

    def __init__(self, tuned: Callable[[Runnable], str]) -> None:
        super().__init__()
        self._tuned = tuned
        self._conversation: Conversation | None = None
        self._rows: list[ConversationRow] = []
        self._widgets: list[Widget] = []
        self._first = 0
        self._thinking = False
        self._greeting = Content()

    def compose(self) -> ComposeResult:
        """Lay out the rows, and the words of the empty conversation."""
        with Rows(id="rows"):
            yield Earlier()
        yield Static(id="welcome")

    async def show(self, conversation: Conversation, status: Status) -> None:
        """Make the view equal to the conversation."""
        if not self.query(Earlier):
            return  # what it holds is not there yet, or not any more
        if conversation is not self._conversation:
            await self._keep(0)
            self._conversation = conversation
            self._first = max(len(conversation.rows) - WINDOW, 0)
        rows = list(conversation.rows)  # the session's thread may append meanwhile
        if len(rows) < self._first:
            await self._keep(0)
            self._first = max(len(rows) - WINDOW, 0)
        rows = rows[self._first :]
        await self._keep(_shared(self._rows, rows))
        if added := rows[len(self._rows) :]:
            widgets = [self._make(row) for row in added]
            self._rows += added
            self._widgets += widgets
            await self.query_one("#rows").mount_all(widgets)
            self.anchor()  # again, wherever the user had scrolled to
        for widget in self._widgets[-max(GROWING, len(added)) :]:
            if isinstance(widget, AnswerRow):
                widget.catch_up()
        self.query_one(Earlier).count(self._first)
        self._greet(status)

    async def _keep(self, count: int) -> None:
        """Remove all widgets after the first ``count``."""
        gone = self._widgets[count:]
        del self._rows[count:], self._widgets[count:]
        if gone:
            await self.query_one("#rows").remove_children(gone)

    def _make(self, row: ConversationRow) -> Widget:
        assert self._conversation is not None
        widget = widget_for(row, self._conversation.variant(row))
        if isinstance(widget, AnswerRow):
            widget.unfolded = self._thinking
        return widget

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Ask for earlier rows when the user has scrolled up to the first one."""
        super().watch_scroll_y(old_value, new_value)
        if new_value == 0 < old_value and self._first:
            self.call_later(self.show_earlier)

    @on(Earlier.Wanted)
    async def show_earlier(self) -> None:
        """Mount the rows before the first one, what is on screen staying where it is."""
        conversation = self._conversation
        if conversation is None or self._first == 0:
            return
        first = max(self._first - WINDOW, 0)
        rows = conversation.rows[first : self._first]
        widgets = [self._make(row) for row in rows]
        below = self.max_scroll_y - self.scroll_y
        self._first = first
        self._rows, self._widgets = rows + self._rows, widgets + self._widgets
        await self.query_one("#rows").mount_all(widgets, after=self.query_one(Earlier))
        for widget in widgets:
            if isinstance(widget, AnswerRow):
                widget.catch_up()
        self.query_one(Earlier).count(first)
        self.call_after_refresh(
            lambda: self.scroll_to(y=self.max_scroll_y - below, animate=False, immediate=True)
        )

    def toggle_thinking(self) -> None:
        """Unfold the thinking of all answers, or fold it."""
        self._thinking = not self._thinking
        for widget in self._widgets:
            if isinstance(widget, AnswerRow):
                widget.unfold(self._thinking)

    def _greet(self, status: Status) -> None:
        welcome = self.query_one("#welcome", Static)
        welcome.display = not self._rows
        self.query_one("#rows").display = bool(self._rows)
        if not self._rows and (words := greeting(status, self._tuned)) != self._greeting:
            self._greeting = words
            welcome.update(words)


def _shared(left: list[ConversationRow], right: list[ConversationRow]) -> int:
    """Return how many leading rows are the same ones."""
    pairs = zip(left, right, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a is not b), min(len(left), len(right)))


def greeting(status: Status, tuned: Callable[[Runnable], str]) -> Content:
    """Return the words of an empty conversation: what is loaded, or how to load it."""
    runnable, info = status.runnable, status.info
    if runnable is None:
        return Content.styled("No model is chosen. Press F2 to choose one.", _DIM)
    lines = [Content.assemble((runnable.name, "bold"), f"  {runnable.quantisation}")]
    facts = [runnable.format, size_text(runnable.bytes), f"context {runnable.context}"]
    if info is not None:
        facts[0] = info.engine
        facts[2] = f"context {info.settings.context}"
        facts.append(f"loaded in {format_seconds(info.load_seconds)}")
    lines.append(Content.styled(" · ".join(facts), _DIM))
    if info is not None and not info.chat_template:
        lines.append(Content.styled("It has no chat template: it continues what you write.", _DIM))
    if words := tuned(runnable):
        lines.append(Content.styled(words, _DIM))
    lines.append(Content.styled(_HINTS.get(status.phase, ""), _DIM))
    return Content("\n\n").join(lines)


_DIM = "$foreground 60%"
_HINTS = {
    Phase.UNLOADED: "Not loaded yet: your next question loads the model.",
    Phase.LOADING: "Loading: you can already write a question.",
    Phase.READY: "Ready.",
    Phase.MEASURING: "Measuring.",
}
