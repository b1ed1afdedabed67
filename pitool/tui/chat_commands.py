"""The slash commands that need a screen: they ask, show, copy, or open another screen.

What a command does without a screen is in ``pitool.chat.commands``. A command that is only a key of
the chat, such as ``/edit``, is that screen's action.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from pitool.chat.commands import COMMANDS, Command, CommandHandlers, Handler
from pitool.chat.text import split_thinking
from pitool.errors import UsageError
from pitool.report.numbers import format_count
from pitool.store.export import code_blocks
from pitool.tui.messages import OpenScreen
from pitool.tui.screens.base import BaseScreen
from pitool.tui.screens.dialogs import AskLines, AskText, Confirm, Page, asking_to_replace

_IN_TRASH = "Moved to the trash: press F3, then u to bring it back."


class ChatCommands(CommandHandlers):
    """Does the commands above a screen."""

    def __init__(self, screen: BaseScreen[Any]) -> None:
        self._screen, self._context = screen, screen.context
        self._screens = {entry.name: entry for entry in self._context.screens}
        opening = [entry.command for entry in self._context.screens]
        *table, last = COMMANDS
        super().__init__(self._context.session, self._context.bundles, (*table, *opening, last))

    def handler(self, command: Command) -> Handler | None:
        """Return what does a command: here, an action of the screen, or another screen."""
        if (found := super().handler(command)) is not None:
            return found
        if command.name in self._screens:
            return partial(self._open, command.name)
        action = getattr(self._screen, f"action_{command.name}", None)
        return None if action is None else lambda _: action()

    def _open(self, name: str, words: str) -> None:
        self._screen.app.post_message(OpenScreen(name, words))

    def say(self, text: str) -> None:
        """Show a short message that goes by itself."""
        self._screen.notify(text, markup=False, timeout=4)

    def show_table(self, title: str, rows: Sequence[tuple[str, str]]) -> None:
        """Show a page above the chat."""
        self._screen.ask(Page(title, rows))

    def do_model(self, words: str) -> None:
        """Load a model, or show what there is."""
        if words:
            super().do_model(words)
        else:
            self._open("models", "")

    def do_unload(self, argument: str) -> None:
        """Unload the model; ask first where that would cut an answer off."""
        question = "The model is still working. Stop it and unload the model?"
        unload = super().do_unload
        if not self.session.status.busy:
            unload(argument)
            return
        self._screen.ask(Confirm(question, "Unload"), lambda yes: unload(argument) if yes else None)

    def do_system(self, text: str) -> None:
        """Change the system prompt, or ask for it."""
        if text:
            super().do_system(text)
            return
        question = "System prompt, sent with every question:"
        self._screen.ask(
            AskLines(question, self.session.conversation.system),
            lambda new: None if new is None else self.set_system(new),
        )

    def do_clear(self, argument: str) -> None:
        """Put what was said into the trash and go on empty; without a database, ask first."""
        if self.session.status.busy or not self.session.conversation.rows:
            self.cannot("The conversation is empty already.")
            return
        if self._context.stored:
            library = self._context.library()
            self._screen.in_thread(library.clear, lambda: self.say(_IN_TRASH))
            return
        question = "Delete all questions and answers of this conversation? They are not stored."
        self._screen.ask(
            Confirm(question, "Clear"),
            lambda yes: super(ChatCommands, self).do_clear(argument) if yes else None,
        )

    def do_save(self, name: str) -> None:
        """Export the conversation; ask where the file exists."""
        path = self.export_path(name)
        asking_to_replace(self._screen.ask, partial(self.export, path))

    def do_rename(self, title: str) -> None:
        """Give the conversation a title, or ask for one."""
        library, conversation = self._context.library(), self.session.conversation

        def rename(new: str | None) -> None:
            if new is not None:
                self._screen.in_thread(partial(library.rename, conversation.key, new))

        if title:
            rename(title)
        else:
            self._screen.ask(AskText("New name:", conversation.name), rename)

    def do_delete(self, _: str) -> None:
        """Put the conversation into the trash."""
        library, conversation = self._context.library(), self.session.conversation
        delete = partial(library.delete, conversation.key)
        self._screen.in_thread(delete, lambda: self.say(_IN_TRASH))

    def do_copy(self, words: str) -> None:
        """Copy the last answer, or a code block of it."""
        answer = self.session.conversation.last_answer()
        if answer is None or not answer.text:
            raise UsageError("there is no answer to copy yet", "ask something first")
        kind, _, number = words.partition(" ")
        text, what = split_thinking(answer.text).answer, "The answer"
        if kind == "code":
            blocks = code_blocks(text)
            place = int(number) if number.strip().isdecimal() else len(blocks)
            if not 1 <= place <= len(blocks):
                has = format_count(len(blocks), "code block")
                raise UsageError(f"the answer has {has}", "use /copy to copy all of it")
            text, what = blocks[place - 1], f"Code block {place}"
        elif kind:
            raise UsageError(f"unknown argument {kind!r}", "use /copy, /copy code or /copy code 2")
        self._screen.app.copy_to_clipboard(text)
        self.say(f"{what} was copied, if your terminal supports OSC 52.")

    def choose_copies(self) -> Sequence[str]:
        """Return what ``/copy`` takes."""
        return ("code",)

    def do_quit(self, _: str) -> None:
        """End the program."""
        self._screen.app.exit()
