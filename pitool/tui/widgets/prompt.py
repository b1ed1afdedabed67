"""Where the user types: the prompt of the chat, and a line elsewhere; neither cursor blinks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Input, TextArea

from pitool.chat.commands import is_command
from pitool.tui.messages import MoveCompletion, Submitted, TakeCompletion

_NEW_LINE = {"ctrl+j", "shift+enter", "alt+enter"}


class Line(Input):
    """A line to type into; a blinking cursor would wake the CPU when nothing happens."""

    def on_mount(self) -> None:
        """Keep the cursor still."""
        self.cursor_blink = False


class Prompt(TextArea):
    """A text area that grows to a few lines; Enter posts ``Submitted``, Up and Down recall."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "send", "Send", show=False)]
    DEFAULT_CSS = """
    Prompt {
        height: auto; min-height: 3; max-height: 8; padding: 0 1;
        border: round $foreground 30%; background: $background;
        border-title-color: $warning; border-subtitle-color: $foreground 60%;
        &:focus { border: round $primary; background-tint: $foreground 0%; }
    }
    """

    def __init__(self) -> None:
        super().__init__(
            placeholder="Ask something, or / for commands. Ctrl+J begins a new line.",
            highlight_cursor_line=False,
        )
        self.cursor_blink = False  # a timer would wake the CPU when nothing happens
        self._sent: list[str] = []
        self._place = 0
        self.completing = False
        self._labels = ("", "")

    def label(self, above: str, below: str) -> None:
        """Show words in the border; the same ones again cost nothing."""
        if (above, below) != self._labels:
            self._labels = above, below
            self.border_title, self.border_subtitle = Content(above), Content(below)

    def recall_these(self, texts: Sequence[str]) -> None:
        """Have Up recall what was sent in another conversation."""
        self._sent = list(texts)
        self._place = len(self._sent)

    def write(self, text: str) -> None:
        """Replace what is written, the cursor at its end."""
        self.load_text(text)
        self.move_cursor(self.document.end)

    def remember(self) -> None:
        """Take the text as sent: keep it for recall and begin an empty one."""
        self._sent.append(self.text)
        self._place = len(self._sent)
        self.clear()

    def action_send(self) -> None:
        """Post the text, if there is one."""
        if text := self.text.strip():
            self.post_message(Submitted(text))

    async def _on_key(self, event: events.Key) -> None:
        # Here and not by priority bindings: those would overtake letters still in the queue.
        complete = event.key == "tab" and self.completing
        if event.key == "escape" and is_command(self.text):
            self.remember()  # Up brings it back
            event.stop()
            return
        if event.key != "enter" and event.key not in _NEW_LINE and not complete:
            await super()._on_key(event)
            return
        event.stop()
        event.prevent_default()
        if complete:
            self.post_message(TakeCompletion())
        elif event.key == "enter":
            self.action_send()
        else:
            self.insert("\n")

    def action_cursor_up(self, select: bool = False) -> None:
        """Move up, and from the first line to what was sent before."""
        if self.completing:
            self.post_message(MoveCompletion(-1))
        elif select or not self.cursor_at_first_line:
            super().action_cursor_up(select)
        else:
            self._recall(self._place - 1)

    def action_cursor_down(self, select: bool = False) -> None:
        """Move down, and from the last line to what was sent after."""
        if self.completing:
            self.post_message(MoveCompletion(1))
        elif select or not self.cursor_at_last_line:
            super().action_cursor_down(select)
        else:
            self._recall(self._place + 1)

    def _recall(self, place: int) -> None:
        if 0 <= place <= len(self._sent):
            self._place = place
            self.write(self._sent[place] if place < len(self._sent) else "")
