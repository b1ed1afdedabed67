"""The rows of a conversation, one widget each."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Markdown, Static

from pitool.store.conversation import Answer, Notice, Question, Row
from pitool.tui import figures

_ENDS = {
    "stop": "",
    "length": "cut at the token limit",
    "context": "context full",
    "cancelled": "stopped",
    "failed": "broken off",
}


class QuestionRow(Static):
    """What the user wrote, as it was written."""

    DEFAULT_CSS = """
    QuestionRow {
        border-left: outer $primary; background: $boost; padding: 0 1; margin: 1 1 0 1;
    }
    """

    def __init__(self, row: Question) -> None:
        super().__init__(Content(row.text))


class NoticeRow(Static):
    """What pitool says: what happened, what to do."""

    DEFAULT_CSS = """
    NoticeRow { border-left: outer $warning; padding: 0 1; margin: 1 1 0 1; }
    """

    def __init__(self, row: Notice) -> None:
        super().__init__(Content.assemble((row.what, "$text-warning bold"), row.advice))


class AnswerRow(Vertical):
    """What the model wrote, in Markdown; grows by appending, the finished blocks stay."""

    DEFAULT_CSS = """
    AnswerRow {
        height: auto; margin: 1 1 0 1;
        Markdown { padding: 0 1 0 2; background: transparent; }
        MarkdownFence { margin: 1 0; background: $surface; }
        .caption { padding: 0 2; color: $foreground 50%; }
    }
    """

    def __init__(self, row: Answer) -> None:
        super().__init__()
        self.row = row
        self._shown = 0

    def compose(self) -> ComposeResult:
        """Lay out the text and the line of figures below it."""
        yield Markdown(open_links=False)
        yield Static(Content("…"), classes="caption")

    async def catch_up(self) -> bool:
        """Show what came since the last time; False when nothing more will come."""
        finish, text = self.row.finish, self.row.text  # in this order: the text is then whole
        if new := text[self._shown :]:
            self._shown = len(text)
            await self.query_one(Markdown).append(new)
        if finish is None:
            return True
        self.query_one(".caption", Static).update(Content(caption(self.row)))
        return False


def caption(row: Answer) -> str:
    """Return how an answer went: ``name Q4_0 · 87 tokens · 45.6 t/s · 1.9 s``."""
    parts = [_ENDS[row.finish]] if row.finish and _ENDS[row.finish] else []
    if (timings := row.timings) is not None and timings.decoded_tokens:
        count, took = timings.decoded_tokens, timings.ttft_seconds + timings.decode_seconds
        tokens = f"{count} token" if count == 1 else f"{count} tokens"
        parts = [
            row.model,
            tokens,
            figures.rate(timings.decode_rate),
            figures.seconds(took),
            *parts,
        ]
    return " · ".join(parts)


def widget_for(row: Row) -> Widget:
    """Return the widget of a row."""
    match row:
        case Question():
            return QuestionRow(row)
        case Answer():
            return AnswerRow(row)
        case Notice():
            return NoticeRow(row)
