"""The chat: the conversation, the prompt below it, and the figures of the engine."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import Footer, Markdown

from pitool.tui.messages import SessionChanged, Submitted
from pitool.tui.session import Session
from pitool.tui.status import Phase
from pitool.tui.widgets.conversation import ConversationView
from pitool.tui.widgets.header import HeaderLine
from pitool.tui.widgets.prompt import Prompt
from pitool.tui.widgets.stats import StatsLine


class ChatScreen(Screen[None]):
    """Shows the session and hands it what the user does."""

    # Priority, because the text area has its own use for some of these keys.
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "stop", "Stop", priority=True),
        Binding("ctrl+n", "new", "New", priority=True),
        Binding("ctrl+l,f2", "app.models", "Models", priority=True),
        Binding("f3,ctrl+o", "app.chats", "Chats", priority=True),
        Binding("ctrl+u", "unload", "Unload", priority=True),
        Binding("pageup", "scroll(-1)", "Up", show=False, priority=True),
        Binding("pagedown", "scroll(1)", "Down", show=False, priority=True),
    ]

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._phase = session.status.phase

    def compose(self) -> ComposeResult:
        """Lay out the screen from top to bottom."""
        yield HeaderLine()
        yield ConversationView()
        yield Prompt()
        yield StatsLine()
        yield Footer()

    async def on_mount(self) -> None:
        """Show what there is already."""
        self.query_one(Prompt).focus()
        await self.on_session_changed()

    async def on_session_changed(self, _: SessionChanged | None = None) -> None:
        """Show the session as it is now."""
        status = self._session.status
        await self.query_one(ConversationView).show(self._session.conversation, status)
        self.query_one(HeaderLine).show(status)
        self.query_one(StatsLine).show(status)
        if status.phase is not self._phase:
            self._phase = status.phase
            self.refresh_bindings()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002
        """Grey out what would do nothing now."""
        if action == "stop":
            return True if self._session.status.busy else None
        if action == "unload":
            return None if self._session.status.phase is Phase.UNLOADED else True
        return True

    @on(Submitted)
    def _ask(self, event: Submitted) -> None:
        if self._session.ask(event.text):
            self.query_one(Prompt).remember()
        elif self._session.status.busy:
            self.notify("Esc stops what is running, then Enter sends this.", severity="warning")
        else:
            self.notify("No model is chosen: Ctrl+L shows what there is.", severity="warning")

    @on(Markdown.LinkClicked)
    def _show_link(self, event: Markdown.LinkClicked) -> None:
        # A board has no browser, and over SSH one would take the terminal.
        self.notify(event.href, title="Link", markup=False)

    def action_stop(self) -> None:
        """End the running load or answer."""
        self._session.stop()

    def action_new(self) -> None:
        """Begin a new conversation."""
        self._session.new()

    def action_unload(self) -> None:
        """End the worker."""
        self._session.unload()

    def action_scroll(self, pages: int) -> None:
        """Scroll the conversation while the prompt has the focus."""
        view = self.query_one(ConversationView)
        view.scroll_relative(y=pages * max(view.size.height - 1, 1), animate=False)
