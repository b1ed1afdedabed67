"""The dialogs of all screens: yes or no, a line, a text, a page to read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Literal, Protocol

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Static, TextArea

from pitool.catalog.outputs import AlreadyThere
from pitool.report.text import pairs
from pitool.tui.widgets.keys import Keys
from pitool.tui.widgets.prompt import Line

_BOX = """
    align: center middle;
    #box {
        width: 64; max-width: 90%; height: auto; padding: 1 2;
        border: round $primary; background: $surface;
    }
    #buttons { height: auto; margin-top: 1; align-horizontal: right; }
    Button { margin-left: 2; min-width: 10; }
    Input { margin-top: 1; border: round $foreground 30%; background: $surface; }
"""


Ask = Callable[[ModalScreen[bool], Callable[[bool | None], object]], None]
"""Shows a dialog and does something with its answer."""


class Write(Protocol):
    """Writes a file; AlreadyThere where one is there that it must not replace."""

    def __call__(self, *, replace: bool) -> object:
        """Write it."""


def asking_to_replace(ask: Ask, write: Write) -> None:
    """Write a file; where one is there, ask first."""
    try:
        write(replace=False)
    except AlreadyThere as error:
        ask(
            Confirm(f"{error.what}. Replace it?", "Replace"),
            lambda yes: write(replace=True) if yes else None,
        )


class Confirm(ModalScreen[bool]):
    """Returns whether the user wants it; Escape does not.

    Letters answer nothing, so that what is typed too fast confirms nothing: the arrows choose a
    button, and Enter presses it. At first that is Cancel, unless what is asked is ``harmless``.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "cancel", "Cancel"),
        Binding("left,up", "app.focus_previous", "Choose", show=False),
        Binding("right,down", "app.focus_next", "Choose", show=False),
    ]
    DEFAULT_CSS = "Confirm {" + _BOX + "#keys { color: $foreground 60%; margin-top: 1; } }"

    def __init__(self, question: str, yes: str, *, harmless: bool = False) -> None:
        super().__init__()
        self._question, self._yes, self._harmless = question, yes, harmless

    def compose(self) -> ComposeResult:
        """Lay out the question above its answers."""
        with Vertical(id="box"):
            yield Static(self._question, markup=False)
            with Horizontal(id="buttons"):
                yield Button("Cancel", id="no")
                yield Button(self._yes, id="yes", variant=self._variant)
            yield Static("Left and Right choose, Enter confirms, Esc cancels", id="keys")

    @property
    def _variant(self) -> Literal["primary", "error"]:
        return "primary" if self._harmless else "error"

    def on_mount(self) -> None:
        """Choose what Enter does at first."""
        self.query_one("#yes" if self._harmless else "#no", Button).focus()

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "yes")

    def action_cancel(self) -> None:
        """Return that the user does not want it."""
        self.dismiss(False)


class AskText(ModalScreen[str | None]):
    """Returns a line of text, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "cancel", "Cancel")]
    DEFAULT_CSS = "AskText {" + _BOX + "}"

    def __init__(self, question: str, value: str = "") -> None:
        super().__init__()
        self._question, self._value = question, value

    def compose(self) -> ComposeResult:
        """Lay out the question above the line."""
        with Vertical(id="box"):
            yield Static(self._question, markup=False)
            yield Line(self._value, select_on_focus=False)

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        self.dismiss(event.value.strip())

    def action_cancel(self) -> None:
        """Return nothing."""
        self.dismiss(None)


class AskLines(ModalScreen[str | None]):
    """Returns a text of several lines, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "save", "Save", priority=True),
        Binding("escape", "cancel", "Cancel", priority=True),
    ]
    DEFAULT_CSS = (
        "AskLines {"
        + _BOX
        + "TextArea { height: 10; margin-top: 1; border: round $foreground 30%; }"
        + "#keys { color: $foreground 60%; } }"
    )

    def __init__(self, question: str, value: str = "") -> None:
        super().__init__()
        self._question, self._value = question, value

    def compose(self) -> ComposeResult:
        """Lay out the question above the text."""
        with Vertical(id="box"):
            yield Static(self._question, markup=False)
            area = TextArea(self._value, highlight_cursor_line=False)
            area.cursor_blink = False
            yield area
            yield Static("Ctrl+S saves, Esc cancels", id="keys")

    def action_save(self) -> None:
        """Return the text."""
        self.dismiss(self.query_one(TextArea).text.strip())

    def action_cancel(self) -> None:
        """Return nothing."""
        self.dismiss(None)


class Pairs(Static):
    """Keys or commands on the left, what they do on the right, or below where that is narrow."""

    DEFAULT_CSS = "Pairs { height: auto; }"

    def __init__(self, rows: Sequence[tuple[str, str]]) -> None:
        super().__init__()
        self._rows = rows

    def on_resize(self, event: events.Resize) -> None:
        """Lay them out for the new width."""
        lines = pairs(self._rows, event.size.width)
        self.update(
            Content("\n").join(
                Content.assemble((left, "$text-primary"), right) for left, right in lines
            )
        )


class Page(ModalScreen[None]):
    """Something to read: a title and aligned pairs of words."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,enter,q", "dismiss", "Close")]
    DEFAULT_CSS = (
        "Page {"
        + _BOX
        + "#box { width: 76; max-height: 90%; padding: 1 2; }"
        + "#text { height: auto; max-height: 1fr; scrollbar-size-vertical: 1; }"
        + "#title { text-style: bold; margin-bottom: 1; } }"
    )

    def __init__(self, title: str, rows: Sequence[tuple[str, str]]) -> None:
        super().__init__()
        self._title, self._rows = title, rows

    def compose(self) -> ComposeResult:
        """Lay out the title above the rows."""
        with Vertical(id="box"):
            yield Static(self._title, id="title", markup=False)
            with VerticalScroll(id="text"):
                yield Pairs(self._rows)
        yield Keys()

    def on_mount(self) -> None:
        """Let the arrows scroll."""
        self.query_one("#text").focus()
