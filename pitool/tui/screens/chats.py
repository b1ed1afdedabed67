"""The stored conversations: open, search, rename, delete, export."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import DataTable, Input, Static

from pitool.catalog.files import expand
from pitool.chat.library import write_export
from pitool.report.numbers import format_count, format_minute
from pitool.store.export import file_name
from pitool.tui.context import Context
from pitool.tui.messages import SessionChanged
from pitool.tui.screens.base import BaseScreen
from pitool.tui.screens.dialogs import AskText, Confirm, asking_to_replace
from pitool.tui.widgets.header import HeaderLine
from pitool.tui.widgets.keys import Keys
from pitool.tui.widgets.prompt import Line

if TYPE_CHECKING:
    from pitool.store.database import ConversationSummary

_WIDE = 36


class ChatTable(DataTable[Text]):
    """A table whose rows are opened by Enter."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "select_cursor", "Open")]

    def __init__(self) -> None:
        super().__init__(cursor_type="row")


class ChatsScreen(BaseScreen[bool]):
    """Lists the conversations, the newest first; returns whether one was opened.

    The database is asked at every change.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "Back"),
        Binding("slash", "search", "Search"),
        Binding("r", "rename", "Rename"),
        Binding("d,delete", "delete", "Delete"),
        Binding("e", "export", "Export"),
    ]
    DEFAULT_CSS = """
    ChatsScreen {
        Input { margin: 1 1 0 1; border: round $foreground 30%; background: $background; }
        Input:focus { border: round $primary; }
        DataTable { height: 1fr; margin: 0 2; background: $background; }
        #none { height: auto; margin: 0 2; color: $foreground 60%; }
    }
    """

    def __init__(self, context: Context, words: str = "") -> None:
        super().__init__(context)
        self._library, self._words = context.library(), words
        self._found: list[ConversationSummary] = []

    def compose(self) -> ComposeResult:
        """Lay out the search above the list."""
        yield HeaderLine()
        yield Line(self._words, placeholder="Search in all conversations")
        yield Static(id="none")
        yield ChatTable()
        yield Keys()

    def on_mount(self) -> None:
        """List everything."""
        self.query_one(HeaderLine).show(self.session.status)
        table = self.query_one(ChatTable)
        table.add_column("conversation", width=_WIDE)
        table.add_columns("questions", "last used", "found")
        self._list()
        if self._found:
            table.focus()
        self.in_thread(self._library.flush, self._list_again)

    def on_session_changed(self, _: SessionChanged) -> None:
        """Show what the worker does now."""
        self.query_one(HeaderLine).show(self.session.status)

    def _list_again(self) -> None:
        """List what was written meanwhile; the focus stays with who searches already."""
        first = not self._found and not self.query_one(Input).value
        self._list()
        if first and self._found:
            self.query_one(ChatTable).focus()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002
        """Leave out of the footer what would do nothing now."""
        return bool(self._found) if action in ("rename", "delete", "export") else True

    @on(Input.Changed)
    def _list(self) -> None:
        words = self.query_one(Input).value.strip()
        table = self.query_one(ChatTable)
        before = bool(self._found)
        self._found = self._library.list(words)
        place = table.cursor_row
        table.clear()
        for summary in self._found:
            table.add_row(*_cells(summary))
        table.move_cursor(row=min(place, max(len(self._found) - 1, 0)))
        table.display = bool(self._found)
        none = "No conversations match." if words else "No conversations yet."
        self.query_one("#none", Static).update(Content("" if self._found else none))
        self.query_one("#none").display = not self._found
        if bool(self._found) != before:  # not with every letter of a search
            self.refresh_bindings()

    @property
    def _chosen(self) -> ConversationSummary | None:
        row = self.query_one(ChatTable).cursor_row
        return self._found[row] if row < len(self._found) else None

    @on(Input.Submitted)
    def _to_table(self) -> None:
        self.query_one(ChatTable).focus()

    @on(DataTable.RowSelected)
    def _open(self) -> None:
        chosen = self._chosen
        if chosen is not None:
            self._library.open(chosen.key)
        self.dismiss(chosen is not None)

    def action_back(self) -> None:
        """Go back, or out of the search."""
        if self.query_one(Input).has_focus and self._found:
            self.query_one(ChatTable).focus()
        else:
            self.dismiss(False)

    def action_search(self) -> None:
        """Write in the search."""
        self.query_one(Input).focus()

    def action_rename(self) -> None:
        """Ask for a title."""
        if (chosen := self._chosen) is None:
            return

        self.ask(
            AskText("New name for the conversation:", chosen.name),
            lambda title: None if title is None else self._rename(chosen.key, title),
        )

    def _rename(self, key: str, title: str) -> None:
        self.in_thread(partial(self._library.rename, key, title), self._list)

    def action_delete(self) -> None:
        """Ask, then delete."""
        if (chosen := self._chosen) is None:
            return
        answers = "its answer" if chosen.questions == 1 else "their answers"
        questions = format_count(chosen.questions, "question")
        question = f"Delete “{chosen.name}” with {questions} and {answers}?"
        self.ask(Confirm(question, "Delete"), lambda yes: self._delete(chosen.key) if yes else None)

    def _delete(self, key: str) -> None:
        self.in_thread(partial(self._library.delete, key), self._list)

    def action_export(self) -> None:
        """Ask for a file, then write it."""
        if (chosen := self._chosen) is None:
            return
        conversation = self._library.read(chosen.key)

        def export(path: Path, *, replace: bool) -> None:
            write_export(conversation, path, replace=replace)
            self.notify(f"Written to {path}", markup=False)

        def write(name: str | None) -> None:
            if name:
                asking_to_replace(self, partial(export, expand(name)))

        self.ask(AskText("Export to (.md or .json):", file_name(conversation)), write)


def _cells(summary: ConversationSummary) -> list[Text]:
    when = format_minute(summary.updated)
    name = Text(summary.name, no_wrap=True, overflow="ellipsis")
    return [name, Text(str(summary.questions), justify="right"), Text(when), Text(summary.excerpt)]
