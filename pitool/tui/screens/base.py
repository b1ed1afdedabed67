"""What all screens have in common: the context, and errors that become notices.

Every handler, worker and answer of a dialog of a ``BaseScreen`` runs through ``told``; the actions
that keys and the palette start run through the same in the app. So no screen catches errors
to show them, and no error ends the program.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, TypeVar

from textual.app import App
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.screen import ModalScreen, Screen, ScreenResultType
from textual.worker import Worker

from pitool.errors import Interrupted, PitoolError, ended
from pitool.tui.context import Context
from pitool.tui.screens.dialogs import Page
from pitool.tui.widgets.notice import NoticeLine

Answer = TypeVar("Answer")


def fault(error: BaseException) -> str:
    """Return what to say of an error that a user can act on, empty for one of our own."""
    match error:
        case PitoolError():
            return error.statement
        case OSError():
            what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
            return ended(what)
    # By its name: SQLite is imported with the first conversation.
    known = any((c.__module__, c.__name__) == ("sqlite3", "Error") for c in type(error).__mro__)
    return ended(f"the database reports an error: {error}") if known else ""


@contextmanager
def told(app: App[Any]) -> Iterator[None]:
    """Show an error that a user can act on as a notice."""
    try:
        yield
    except Interrupted:
        return  # whoever stopped it knows
    except Exception as error:
        if not (statement := fault(error)):
            raise
        app.notify(statement, severity="warning", markup=False)


TEXTUALS = {
    "Focus Next": "Next field or list",
    "Focus Previous": "The one before",
    "palette": "All commands",
}
"""What Textual calls some of its keys, and what they are called here."""


class BaseScreen(Screen[ScreenResultType]):
    """A screen that is opened from everywhere, or the chat; F1 explains it by its keys."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("f1", "help", "Help", priority=True)]
    TITLE = "Keys"

    def __init__(self, context: Context) -> None:
        super().__init__()
        self.context = context
        self.session = context.session

    async def _dispatch_message(self, message: Message) -> None:
        with told(self.app):
            await super()._dispatch_message(message)

    def action_help(self) -> None:
        """Show what the keys do here, and those of all screens."""
        keys: dict[str, tuple[list[str], str]] = {}
        for active in self.active_bindings.values():
            binding = active.binding
            if binding.description and (binding.show or active.node in (self, self.app)):
                words = TEXTUALS.get(binding.description, binding.description)
                names, _ = keys.setdefault(binding.action, ([], words))
                names.append(self.app.get_key_display(binding))
        rows = [(", ".join(dict.fromkeys(names)), words) for names, words in keys.values()]
        self.ask(Page(self.TITLE, rows))

    def close_list(self) -> bool:
        """Close a list of choices that is open; False where none is."""
        from textual.widgets import Select  # not at the start: the chat has none

        for select in self.query(Select):
            if select.expanded:
                select.expanded = False
                select.focus()
                return True
        return False

    def run_worker(self, work: Any, *arguments: Any, **options: Any) -> Worker[Any]:
        """Run work in the background, its errors shown."""

        async def guarded() -> Any:
            with told(self.app):
                made = work() if callable(work) else work
                return await made if inspect.isawaitable(made) else made

        return super().run_worker(guarded, *arguments, **options)

    def ask(
        self, dialog: ModalScreen[Answer], then: Callable[[Answer | None], object] | None = None
    ) -> None:
        """Show a dialog above this screen, and do something with its answer."""

        def answered(answer: Answer | None) -> None:
            with told(self.app):
                if then is not None:
                    then(answer)

        self.app.push_screen(dialog, answered)

    def in_thread(
        self, work: Callable[[], object], then: Callable[[], object] = lambda: None
    ) -> None:
        """Do something that may wait for a disk or another program, then something here."""

        async def both() -> None:
            await asyncio.to_thread(work)
            if self.is_attached:  # left meanwhile
                then()

        self.run_worker(both)

    def say(self, text: str, severity: str, seconds: float | None) -> None:
        """Show a notice in the line above the keys, which a screen from outside may not have."""
        found = self.query(NoticeLine)
        line = found.first() if found else NoticeLine()
        if not found:
            self.mount(line)
        self.call_after_refresh(line.say, text, severity, seconds)

    def tell(self, text: str) -> None:
        """Show a short notice."""
        self.notify(text, severity="warning", markup=False)
