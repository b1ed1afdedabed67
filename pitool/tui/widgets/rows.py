"""The rows of a conversation, one widget each."""

from __future__ import annotations

from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Markdown, Static

from pitool.store.conversation import Answer, Notice, Question, Row
from pitool.tui import figures
from pitool.tui.segments import Piece, Segmenter
from pitool.tui.thinking import Parts, split

LONG_QUESTION = 16
"""Lines of a question that are shown: a file that goes with it may have thousands."""

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
        lines = row.text.splitlines()
        hidden = len(lines) - LONG_QUESTION
        text = Content(row.text)
        if hidden > 1:
            half = LONG_QUESTION // 2
            text = Content("\n").join(
                [
                    *map(Content, lines[:half]),
                    Content.styled(f"… {hidden} more lines …", "$foreground 60%"),
                    *map(Content, lines[-half:]),
                ]
            )
        super().__init__(text)


class NoticeRow(Static):
    """What pitool says: what happened, what to do."""

    DEFAULT_CSS = """
    NoticeRow { border-left: outer $warning; padding: 0 1; margin: 1 1 0 1; }
    """

    def __init__(self, row: Notice) -> None:
        super().__init__(Content.assemble((row.what, "$text-warning bold"), row.advice))


class Earlier(Static):
    """Stands for the rows above that are not mounted; asks for them when it comes into sight."""

    DEFAULT_CSS = """
    Earlier { padding: 0 2; color: $foreground 60%; display: none; }
    """

    class Wanted(Message):
        """The user came to the top, or clicked."""

    def count(self, rows: int) -> None:
        """Show how many rows there are above."""
        self.display = rows > 0
        self.update(f"↑ {rows} earlier")

    def on_click(self) -> None:
        """Ask for them."""
        self.post_message(self.Wanted())


class Thinking(Vertical):
    """What the model thought before it answered: a line, unfolded the whole of it."""

    DEFAULT_CSS = """
    Thinking {
        height: auto; padding: 0 1 0 2;
        #fold { color: $foreground 60%; text-style: italic; }
        Markdown { color: $foreground 60%; margin: 0 0 0 2; padding: 0; background: transparent; }
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self._last = ("", True, False)
        self._shown = 0

    def compose(self) -> ComposeResult:
        """Lay out the line above the text."""
        yield Static(id="fold")
        yield Markdown(open_links=False)

    async def show(self, parts: Parts, *, unfolded: bool) -> None:
        """Show thinking that grows; folded it costs nothing."""
        if (parts.thinking, parts.thought, unfolded) == self._last:
            return
        self._last = (parts.thinking, parts.thought, unfolded)
        words = len(parts.thinking.split())
        what = f"thought for {words} words" if parts.thought else f"thinking, {words} words so far"
        sign = "▾" if unfolded else "▸"
        self.query_one("#fold", Static).update(Content(f"{sign} {what}"))
        markdown = self.query_one(Markdown)
        markdown.display = unfolded
        if unfolded and (new := parts.thinking[self._shown :]):
            self._shown = len(parts.thinking)
            await markdown.append(new)


class AnswerRow(Vertical):
    """What the model wrote, in Markdown; grows by appending, the finished blocks stay."""

    DEFAULT_CSS = """
    AnswerRow {
        height: auto; margin: 1 1 0 1;
        #pieces { height: auto; }
        #pieces Markdown { padding: 0 1 0 2; background: transparent; }
        MarkdownFence { margin: 1 0; background: $surface; }
        .caption { padding: 0 2; color: $foreground 60%; }
    }
    """

    def __init__(self, row: Answer) -> None:
        super().__init__()
        self.row = row
        self.unfolded = False
        self._shown = ""
        self._segmenter = Segmenter()
        self._last: Markdown | None = None
        self._thinking: Thinking | None = None

    def compose(self) -> ComposeResult:
        """Lay out the text and the line of figures below it."""
        yield Vertical(id="pieces")
        yield Static(Content("…"), classes="caption")

    async def catch_up(self) -> None:
        """Show what came since the last time."""
        finish, text = self.row.finish, self.row.text  # in this order: the text is then whole
        parts = split(text)
        if parts.thinking:
            if self._thinking is None:
                self._thinking = Thinking()
                await self.mount(self._thinking, before=0)
            await self._thinking.show(parts, unfolded=self.unfolded)
        if not parts.answer.startswith(self._shown):
            await self._begin_again()  # what looked like the answer was thinking
        if new := parts.answer[len(self._shown) :]:
            self._shown = parts.answer
            for piece in self._segmenter.feed(new):
                await self._add(piece)
        words = caption(self.row) if finish else "…"
        self.query_one(".caption", Static).update(Content(words))

    async def _begin_again(self) -> None:
        await self.query_one("#pieces").remove_children()
        self._shown, self._segmenter, self._last = "", Segmenter(), None

    async def _add(self, piece: Piece) -> None:
        if piece.begins or self._last is None:
            self._last = Markdown(open_links=False)
            await self.query_one("#pieces").mount(self._last)
        await self._last.append(piece.text)

    def unfold(self, unfolded: bool) -> None:
        """Unfold the thinking, or fold it."""
        self.unfolded = unfolded
        self.call_later(self.catch_up)

    def on_click(self, event: events.Click) -> None:
        """Fold or unfold by a click on the thinking."""
        if event.widget is not None and event.widget.id == "fold":
            self.unfold(not self.unfolded)


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
