"""The rows of a conversation, one widget each."""

from __future__ import annotations

from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static

from pitool.chat.text import AnswerParts, split_thinking
from pitool.report.numbers import format_count, format_rate, format_seconds
from pitool.store.conversation import Answer, ConversationRow, Notice, Question
from pitool.tui.messages import Varied
from pitool.tui.widgets.prose import Prose
from pitool.tui.widgets.settled import Ground

LONG_QUESTION = 16
"""Lines of a question that are shown: a file that goes with it may have thousands."""

GROWING = "…"
"""Stands for the figures while an answer is written."""

_ENDS = {
    "stop": "",
    "length": "stopped at the token limit",
    "context": "context full",
    "cancelled": "stopped",
    "failed": "failed",
}


Variant = tuple[int, int]
"""Which version a row begins, from 1, and of how many."""


class QuestionRow(Static):
    """What the user wrote, as it was written; a click shows another version of it."""

    DEFAULT_CSS = """
    QuestionRow {
        border-left: outer $primary; background: $boost; padding: 0 1; margin: 1 1 0 1;
    }
    """

    def __init__(self, row: Question, variant: Variant | None = None) -> None:
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
        if variant:
            text += Content.styled(f"\n{variant_words(variant)}", "$foreground 60%")
        super().__init__(text)
        self._row, self._varied = row, variant is not None

    def on_click(self) -> None:
        """Show the next version."""
        if self._varied:
            self.post_message(Varied(self._row, 1))


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

    def __init__(self) -> None:
        super().__init__()
        self._rows = 0

    def count(self, rows: int) -> None:
        """Show how many rows there are above."""
        if rows == self._rows:
            return
        self._rows = rows
        self.display = rows > 0
        self.update(f"↑ {rows} earlier")

    def on_click(self) -> None:
        """Ask for them."""
        self.post_message(self.Wanted())


class Thinking(Vertical):
    """What the model thought before it answered: a line, unfolded the whole of it."""

    DEFAULT_CSS = """
    Thinking {
        height: auto; padding: 0 1 0 2; display: none;
        #fold { color: $foreground 60%; text-style: italic; }
        Prose { color: $foreground 60%; display: none; }
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self._fold, self._prose = Static(id="fold"), Prose()
        self._last = ""

    def compose(self) -> ComposeResult:
        """Lay out the line above the text."""
        yield self._fold
        yield self._prose

    def show(self, parts: AnswerParts, *, unfolded: bool) -> None:
        """Show thinking that grows; folded it costs nothing."""
        self.display = bool(parts.thinking)
        if not parts.thinking:
            return
        words = format_count(len(parts.thinking.split()), "word")
        what = f"thought for {words}" if parts.thought else f"thinking, {words} so far"
        line = f"{'▾' if unfolded else '▸'} {what}"
        if line != self._last:
            self._last = line
            self._fold.update(Content(line), layout=False)
        self._prose.display = unfolded
        if unfolded:
            self._prose.become(parts.thinking)
            if parts.thought:
                self._prose.settle()


class AnswerRow(Vertical, Ground):
    """What the model wrote, in Markdown; what is shown already is not touched when it grows."""

    DEFAULT_CSS = """
    AnswerRow {
        height: auto; margin: 1 1 0 1;
        .caption { padding: 0 2; color: $foreground 60%; }
    }
    """

    def __init__(self, row: Answer, variant: Variant | None = None) -> None:
        super().__init__()
        self.row, self._variant = row, variant
        self.unfolded = False
        self._thinking, self._prose = Thinking(), Prose()
        self._caption = Static(Content(GROWING), classes="caption")
        self._shown: tuple[int, str | None, bool] = (0, None, False)
        self._words = GROWING

    def compose(self) -> ComposeResult:
        """Lay out the text and the line of figures below it."""
        yield self._thinking
        yield self._prose
        yield self._caption

    def catch_up(self) -> None:
        """Show what came since the last time."""
        finish, text = self.row.finish, self.row.text  # in this order: the text is then whole
        if (now := (len(text), finish, self.unfolded)) == self._shown:
            return
        self._shown = now
        parts = split_thinking(text)
        self._thinking.show(parts, unfolded=self.unfolded)
        self._prose.become(parts.answer)  # what looked like the answer may have been thinking
        if finish:
            self._prose.settle()
        words = caption(self.row, self._variant) if finish else GROWING
        if words != self._words:
            self._words = words
            self._caption.update(Content(words))

    def unfold(self, unfolded: bool) -> None:
        """Unfold the thinking, or fold it."""
        self.unfolded = unfolded
        self.catch_up()

    def on_click(self, event: events.Click) -> None:
        """Fold or unfold by a click on the thinking; on the figures, show the next version."""
        if event.widget is not None and event.widget.id == "fold":
            self.unfold(not self.unfolded)
        elif event.widget is self._caption and self._variant:
            self.post_message(Varied(self.row, 1))


def variant_words(variant: Variant) -> str:
    """Return ``version 2 of 3``."""
    return f"version {variant[0]} of {variant[1]}"


def caption(row: Answer, variant: Variant | None = None) -> str:
    """Return how an answer went: ``name Q4_0 · 87 tokens · 45.6 t/s · 1.9 s``."""
    parts = [_ENDS[row.finish]] if row.finish and _ENDS[row.finish] else []
    if (timings := row.timings) is not None and timings.decoded_tokens:
        count, took = timings.decoded_tokens, timings.ttft_seconds + timings.decode_seconds
        parts = [
            row.model,
            format_count(count, "token"),
            format_rate(timings.decode_rate),
            format_seconds(took),
            *parts,
        ]
    if variant:
        parts.append(variant_words(variant))
    return " · ".join(parts)


def widget_for(row: ConversationRow, variant: Variant | None = None) -> Widget:
    """Return the widget of a row; ``variant``: which version begins with it."""
    match row:
        case Question():
            return QuestionRow(row, variant)
        case Answer():
            return AnswerRow(row, variant)
        case Notice():
            return NoticeRow(row)
