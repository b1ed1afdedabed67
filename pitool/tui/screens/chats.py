"""The stored conversations: open, search, rename, pin, delete, bring back, export."""

from __future__ import annotations

import re
from collections.abc import Callable
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
from pitool.report.numbers import format_count, format_day
from pitool.report.tables import Column
from pitool.store.export import file_name
from pitool.tui.context import Context
from pitool.tui.messages import SessionChanged
from pitool.tui.screens.base import BaseScreen
from pitool.tui.screens.dialogs import AskText, Confirm, asking_to_replace
from pitool.tui.widgets.header import HeaderLine
from pitool.tui.widgets.keys import Keys
from pitool.tui.widgets.notice import NoticeLine
from pitool.tui.widgets.prompt import Line
from pitool.tui.widgets.table import FitTable

if TYPE_CHECKING:
    from pitool.store.database import ConversationSummary

_NAME = Column("conversation", "left", "wrap")
_LISTED = (_NAME, Column("questions", priority=1), Column("last used", "left"))
_FOUND = (_NAME, Column("last used", "left", priority=1), Column("found", "left", "wrap"))
_NAME_CELLS = 24
"""Cells of a name beside what was found in the conversation."""

_BEFORE = 12
"""Characters before what was found."""

PIN = "★ "
_PLACEHOLDER = "Search in all conversations"


class ChatTable(FitTable):
    """A table whose rows are opened by Enter."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "select_cursor", "Open")]

    def __init__(self) -> None:
        super().__init__(_LISTED)


class ChatsScreen(BaseScreen[bool]):
    """Lists the conversations, the newest first, or those in the trash.

    Returns whether one was opened. The database is asked at every change.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "Back"),
        Binding("slash", "search", "Search"),
        Binding("r", "rename", "Rename"),
        Binding("p", "pin", "Pin"),
        Binding("d,delete", "delete", "Delete"),
        Binding("u", "undo", "Undo delete"),
        Binding("t", "trash", "Trash"),
        Binding("e", "export", "Export"),
    ]
    TITLE = "Conversations: the pinned ones first, then the newest"
    DEFAULT_CSS = """
    ChatsScreen {
        Input { margin: 1 1 0 1; border: round $foreground 30%; background: $background; }
        Input:focus { border: round $primary; }
        ChatTable { height: 1fr; margin: 0 2; background: $background; }
        #none { height: auto; margin: 0 2; color: $foreground 60%; }
        #sentence { height: auto; max-height: 4; margin: 0 2; display: none; }
    }
    """

    def __init__(self, context: Context, words: str = "") -> None:
        super().__init__(context)
        self._library, self._words = context.library(), words
        self._found: list[ConversationSummary] = []
        self._in_trash = False

    def compose(self) -> ComposeResult:
        """Lay out the search above the list."""
        yield HeaderLine()
        yield Line(self._words, placeholder=_PLACEHOLDER)
        yield Static(id="none")
        yield ChatTable()
        yield Static(id="sentence")
        yield NoticeLine()
        yield Keys("trash", "undo", "export")

    def on_mount(self) -> None:
        """List everything."""
        self.query_one(HeaderLine).show(self.session.status)
        self._list()
        self.query_one(ChatTable).focus()
        self.in_thread(self._library.flush, self._list)

    def on_session_changed(self, _: SessionChanged) -> None:
        """Show what the worker does now."""
        self.query_one(HeaderLine).show(self.session.status)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002
        """Leave out of the footer what would do nothing now."""
        if action in ("rename", "pin"):
            return bool(self._found) and not self._in_trash
        return bool(self._found) if action in ("delete", "export") else True

    @on(Input.Changed)
    def _list(self) -> None:
        words = self.query_one(Input).value.strip()
        table = self.query_one(ChatTable)
        before = bool(self._found)
        self._found = self._library.list(words, trash=self._in_trash)
        table.show([_cells(each, words) for each in self._found], _FOUND if words else _LISTED)
        none = "No conversations match." if words else "No conversations yet."
        if self._in_trash and not words:
            none = "The trash is empty."
        self.query_one("#none", Static).update(Content("" if self._found else none))
        self._show_sentence()
        self.query_one("#none").display = not self._found
        if bool(self._found) != before:  # not with every letter of a search
            self.refresh_bindings()

    @on(DataTable.RowHighlighted)
    def _show_sentence(self) -> None:
        """Show where the words of the search stand in the conversation under the cursor."""
        words, chosen = self.query_one(Input).value.strip(), self._chosen
        shown = self.query_one("#sentence", Static)
        shown.display = bool(words and chosen and chosen.excerpt)
        if shown.display and chosen is not None:
            text = Text(chosen.excerpt)
            text.highlight_regex(f"(?i){re.escape(words)}", "bold reverse")
            shown.update(text)

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
        if chosen is not None and self._in_trash:
            self._restore(chosen)
            return
        if chosen is not None:
            self._library.open(chosen.key)
        self.dismiss(chosen is not None)

    def action_back(self) -> None:
        """Go back, or out of the search, or out of the trash."""
        if self.query_one(Input).has_focus:
            self.query_one(ChatTable).focus()
        elif self._in_trash:
            self.action_trash()
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

    def action_pin(self) -> None:
        """Have the conversation stand above the others, or not any more."""
        if (chosen := self._chosen) is not None:
            pin = partial(self._library.pin, chosen.key, not chosen.pinned)
            self.in_thread(pin, self._list)

    def action_delete(self) -> None:
        """Ask, then put it into the trash; from there, delete it for good."""
        if (chosen := self._chosen) is None:
            return
        answers = "its answer" if chosen.questions == 1 else "their answers"
        what = f"“{chosen.name}” with {format_count(chosen.questions, 'question')} and {answers}"
        if self._in_trash:
            question = f"Delete {what} for good? This cannot be undone."
            work, said = self._library.erase, f"“{chosen.name}” was deleted for good."
        else:
            question = f"Move {what} to the trash?"
            work, said = self._library.delete, f"“{chosen.name}” is in the trash: u brings it back."
        self.ask(
            Confirm(question, "Delete"),
            lambda yes: self._do(partial(work, chosen.key), said) if yes else None,
        )

    def _do(self, work: Callable[[], object], said: str) -> None:
        """Change the database, list again, and say what was done."""

        def done() -> None:
            self._list()
            self.notify(said, markup=False)

        self.in_thread(work, done)

    def action_undo(self) -> None:
        """Bring back what is chosen in the trash, else what was deleted last."""
        deleted = [self._chosen] if self._in_trash else self._library.list(trash=True)
        if deleted and deleted[0] is not None:
            self._restore(deleted[0])
        else:
            self.notify("The trash is empty.", markup=False)

    def _restore(self, summary: ConversationSummary) -> None:
        restore = partial(self._library.restore, summary.key)
        self._do(restore, f"“{summary.name}” is back.")

    def action_trash(self) -> None:
        """Show what was deleted within the last month, or the others again."""
        self._in_trash = not self._in_trash
        search = self.query_one(Input)
        search.placeholder = "Search in the trash" if self._in_trash else _PLACEHOLDER
        search.border_title = "Trash: Enter brings back, d deletes for good" * self._in_trash
        search.value = ""
        self._list()
        self.refresh_bindings()
        self.query_one(ChatTable).focus()

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
                asking_to_replace(self.ask, partial(export, expand(name)))

        self.ask(AskText("Export to (.md or .json):", file_name(conversation)), write)


def _cells(summary: ConversationSummary, words: str) -> list[Text]:
    name = Text((PIN if summary.pinned else "") + summary.name)
    when = Text(format_day(summary.updated))
    if not words:
        return [name, Text(str(summary.questions)), when]
    name.truncate(_NAME_CELLS, overflow="ellipsis")
    return [name, when, _around(summary.excerpt, words)]


def _around(sentence: str, words: str) -> Text:
    """Return a sentence from a little before the words on, which are marked."""
    place = max(sentence.casefold().find(words.casefold()), 0)
    start = max(place - _BEFORE, 0)
    text = Text(f"…{sentence[start:]}" if start else sentence)
    text.highlight_regex(f"(?i){re.escape(words)}", "bold")
    return text
