"""The view of a conversation: follows its rows, mounts the new ones, lets the running one grow."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from pitool.store.conversation import Conversation
from pitool.tui import figures
from pitool.tui.status import Phase, Status
from pitool.tui.widgets.rows import AnswerRow, widget_for


class ConversationView(VerticalScroll, can_focus=True):
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

    def __init__(self) -> None:
        super().__init__()
        self._shown: Conversation | None = None
        self._count = 0
        self._growing: list[AnswerRow] = []
        self._greeting = Content()

    def compose(self) -> ComposeResult:
        """Lay out the rows, and the words of the empty conversation."""
        yield Vertical(id="rows")
        yield Static(id="welcome")

    async def show(self, conversation: Conversation, status: Status) -> None:
        """Make the view equal to the conversation."""
        box = self.query_one("#rows", Vertical)
        if conversation is not self._shown:
            await box.remove_children()
            self._shown, self._count, self._growing = conversation, 0, []
        if rows := conversation.rows[self._count :]:
            widgets = [widget_for(row) for row in rows]
            await box.mount_all(widgets)
            self._count += len(rows)
            self._growing += [w for w in widgets if isinstance(w, AnswerRow)]
            self.anchor()  # again, wherever the user had scrolled to
        self._growing = [row for row in self._growing if await row.catch_up()]
        self._greet(status)

    def _greet(self, status: Status) -> None:
        welcome = self.query_one("#welcome", Static)
        welcome.display = self._count == 0
        self.query_one("#rows").display = self._count > 0
        if self._count == 0 and (words := greeting(status)) != self._greeting:
            self._greeting = words
            welcome.update(words)


def greeting(status: Status) -> Content:
    """Return the words of an empty conversation: what is loaded, or how to load it."""
    runnable, info = status.runnable, status.info
    if runnable is None:
        return Content.styled("No model is chosen. Ctrl+L shows what there is.", _DIM)
    lines = [Content.assemble((runnable.name, "bold"), f"  {runnable.quantisation}")]
    facts = [runnable.format, figures.size(runnable.bytes), f"context {runnable.context}"]
    if info is not None:
        facts[0] = info.engine
        facts[2] = f"context {info.settings.context}"
        facts.append(f"loaded in {figures.seconds(info.load_seconds)}")
    lines.append(Content.styled(" · ".join(facts), _DIM))
    lines.append(Content.styled(_HINTS[status.phase], _DIM))
    return Content("\n\n").join(lines)


_DIM = "$foreground 60%"
_HINTS = {
    Phase.UNLOADED: "Not loaded: the next question loads it.",
    Phase.LOADING: "Loading: a question can be written meanwhile.",
    Phase.READY: "Ready.",
    Phase.READING: "",
    Phase.ANSWERING: "",
}
