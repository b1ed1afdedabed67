"""The chat: the conversation, the prompt below it, and the figures of the engine."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual import on
from textual.app import ComposeResult, SystemCommand
from textual.binding import Binding, BindingType
from textual.widgets import TextArea

from pitool.chat.commands import as_question, completions, is_command
from pitool.chat.status import Phase
from pitool.report.numbers import format_bytes
from pitool.store.conversation import Conversation, Question
from pitool.tui.chat_commands import ChatCommands
from pitool.tui.context import Context
from pitool.tui.messages import (
    MoveCompletion,
    SensorsRead,
    SessionChanged,
    Submitted,
    TakeCompletion,
    Varied,
)
from pitool.tui.screens.base import BaseScreen, told
from pitool.tui.widgets.completion import CompletionList
from pitool.tui.widgets.conversation import ConversationView
from pitool.tui.widgets.header import HeaderLine
from pitool.tui.widgets.keys import Keys
from pitool.tui.widgets.notice import NoticeLine
from pitool.tui.widgets.prompt import Prompt
from pitool.tui.widgets.prose import Prose
from pitool.tui.widgets.stats import StatsLine

LEAST = ("unload", "variant", "edit", "continue")
"""Actions whose keys a narrow terminal does not show, the first to go first."""


class ChatScreen(BaseScreen[None]):
    """Shows the session and hands it what the user does."""

    # Priority, because the text area has its own use for some of these keys.
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "stop", "Stop", priority=True),
        Binding("f2,ctrl+l", "app.open_screen('models')", "Models", priority=True),
        Binding("f3,ctrl+o", "app.open_screen('chats')", "Chats", priority=True),
        Binding("ctrl+n", "new", "New", priority=True),
        Binding("ctrl+r", "again", "Again", priority=True),
        Binding("f4", "edit", "Edit", priority=True),
        Binding("ctrl+g", "continue", "Continue", priority=True),
        Binding("ctrl+y", "copy", "Copy", priority=True),
        Binding("ctrl+t", "think", "Think", priority=True, show=False),
        Binding("ctrl+b", "variant", "Variant", priority=True),
        Binding("f9", "unload", "Unload", priority=True),
        Binding("pageup", "scroll(-1)", "Up", show=False, priority=True),
        Binding("pagedown", "scroll(1)", "Down", show=False, priority=True),
    ]

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._commands = ChatCommands(self)
        self._phase = self.session.status.phase
        self._shown: Conversation | None = None
        self._editing: Question | None = None
        self._failed = ""

    def compose(self) -> ComposeResult:
        """Lay out the screen from top to bottom."""
        yield HeaderLine()
        yield ConversationView(self.context.tuned)
        yield CompletionList()
        yield Prompt()
        yield StatsLine()
        yield NoticeLine()
        yield Keys(*LEAST)

    async def on_mount(self) -> None:
        """Show what there is already."""
        self.query_one(Prompt).focus()
        await self.on_session_changed()

    async def on_session_changed(self, _: SessionChanged | None = None) -> None:
        """Show the session as it is now."""
        status, conversation = self.session.status, self.session.conversation
        await self.query_one(ConversationView).show(conversation, status)
        self.query_one(HeaderLine).show(status)
        self.query_one(StatsLine).show(status)
        if conversation is not self._shown:
            self._shown = conversation
            asked = [row.text for row in conversation.rows if isinstance(row, Question)]
            self.query_one(Prompt).recall_these(asked)
            self._end_edit()
        self.show_title()
        if status.phase is not self._phase:
            self._phase = status.phase
            self.refresh_bindings()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002
        """Leave out of the footer what would do nothing now."""
        status = self.session.status
        if action == "stop":
            return status.busy or self._editing is not None or self._commands.attached is not None
        if action == "variant":
            return not status.busy and self.session.conversation.last_varied() is not None
        if action == "unload":
            return status.phase is not Phase.UNLOADED
        if action in ("again", "edit"):
            return not status.busy and self.session.conversation.last_question() is not None
        if action == "continue":
            return not status.busy and self.session.can_resume
        if action == "copy":
            return self.session.conversation.last_answer() is not None
        return True

    # What is said to the user.

    @on(SensorsRead)
    def _show_sensors(self, event: SensorsRead) -> None:
        self.query_one(HeaderLine).sense(event.sample)

    def show_title(self) -> None:
        """Show the name of the conversation, and what the next question goes with."""
        self.query_one(HeaderLine).name_it(self.session.conversation.title)
        editing = "Edit: Enter replaces the question, F4 edits an earlier one, Esc cancels"
        attached = self._commands.attached
        self.query_one(Prompt).label(
            editing if self._editing else "",
            f"with {attached.name}, {format_bytes(attached.bytes)}" if attached else "",
        )

    # What is written.

    @on(Submitted)
    def _submitted(self, event: Submitted) -> None:
        if is_command(event.text):
            self._failed = event.text  # one that fails stays, so that it can be mended
            self._commands.do(event.text)
            self._failed = ""
            self.query_one(Prompt).remember()
            self.show_title()
            self.refresh_bindings()
            return
        text = self._commands.with_attachment(as_question(event.text))
        if self.session.ask(text, instead=self._editing):
            self.query_one(Prompt).remember()
            self._commands.attached = None
            self._end_edit()
        elif self.session.status.busy:
            self.tell("Still running: press Esc to stop it, then Enter to send.")
        else:
            self.tell("No model is chosen: press F2 to choose one.")

    def _command(self, line: str) -> None:
        self._commands.do(f"/{line}")

    @on(TextArea.Changed)
    def _complete(self) -> None:
        prompt = self.query_one(Prompt)
        found = completions(prompt.text, self._commands.table, self._commands.choices)
        prompt.completing = bool(found)
        self.query_one(CompletionList).show(found)

    @on(TakeCompletion)
    def _take_completion(self) -> None:
        if (marked := self.query_one(CompletionList).marked) is not None:
            self.query_one(Prompt).write(marked.text)

    @on(MoveCompletion)
    def _move_completion(self, event: MoveCompletion) -> None:
        self.query_one(CompletionList).move(event.step)

    @on(Prose.Link)
    def _show_link(self, event: Prose.Link) -> None:
        # A board has no browser, and over SSH one would take the terminal.
        self.notify(event.target, title="Link", markup=False)

    def _end_edit(self) -> None:
        self._editing = None
        self.show_title()
        self.refresh_bindings()

    # What keys do.

    def action_help(self) -> None:
        """Show the commands."""
        self._command("help")

    def action_copy(self) -> None:
        """Copy the last answer."""
        self._command("copy")

    def action_stop(self) -> None:
        """End the edit of a question, clear a command that failed, or end what runs."""
        prompt = self.query_one(Prompt)
        written = prompt.text.strip()
        if self._editing is not None or self._commands.attached is not None:
            if self._editing is not None:
                prompt.clear()
            self._commands.attached = None
            self._end_edit()
        elif written and written == self._failed:
            prompt.remember()
        else:
            self.session.stop()

    def action_new(self) -> None:
        """Begin a new conversation."""
        self._command("new")

    def action_unload(self) -> None:
        """End the worker; ask first while it answers."""
        self._command("unload")

    def action_variant(self) -> None:
        """Show another version of the question that is edited, or of the newest row with several.

        The next one, after the last one the first.
        """
        editing = self._editing
        if editing is None or self.session.conversation.variant(editing) is None:
            self._command("variant")
            return
        self.query_one(Prompt).clear()
        self._end_edit()
        self.session.turn(editing, 1)

    @on(Varied)
    def _turn(self, event: Varied) -> None:
        if not self.session.turn(event.row, event.step):
            self._commands.cannot("")

    def action_again(self) -> None:
        """Answer the last question once more."""
        self._command("again")

    def action_continue(self) -> None:
        """Go on with an answer that was cut."""
        self._command("continue")

    def action_edit(self) -> None:
        """Write the last question anew; while one is edited, the one before it."""
        if self.session.status.busy:
            self._commands.cannot("")
            return
        asked = [row for row in self.session.conversation.rows if isinstance(row, Question)]
        if self._editing in asked:
            asked = asked[: asked.index(self._editing)] or asked
        if not asked:
            self._commands.cannot("There is no question to edit yet.")
            return
        self._editing = asked[-1]
        self.query_one(Prompt).write(asked[-1].text)
        self.show_title()
        self.refresh_bindings()

    def action_think(self) -> None:
        """Unfold all thinking, or fold it."""
        self.query_one(ConversationView).toggle_thinking()

    def action_scroll(self, pages: int) -> None:
        """Scroll the conversation while the prompt has the focus."""
        view = self.query_one(ConversationView)
        view.scroll_relative(y=pages * max(view.size.height - 1, 1), animate=False)

    def palette(self) -> Iterable[SystemCommand]:
        """Return the slash commands for the command palette."""
        for command in self._commands.table:
            yield SystemCommand(
                command.usage,
                command.help,
                lambda name=command.name, needs=command.needs: self._from_palette(name, needs),
            )

    def _from_palette(self, name: str, needs: bool) -> None:
        """Do a command, or begin to write it where it cannot do without an argument."""
        if needs:
            self.query_one(Prompt).write(f"/{name} ")
        else:
            with told(self.app):
                self._command(name)
