"""The application: joins a session to the screens that show it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar

from textual.app import App
from textual.binding import Binding, BindingType

from pitool.spec.bundles import Runnable
from pitool.tui.messages import SessionChanged
from pitool.tui.screens.models import Bundles, ModelsScreen
from pitool.tui.session import Load, Memory, Session
from pitool.tui.themes import DARK, LIGHT

if TYPE_CHECKING:
    from pitool.store.database import Database
    from pitool.store.journal import Journal
    from pitool.store.prefills import Prefills
    from pitool.tui.screens.chat import ChatScreen


class PitoolApp(App[None]):
    """Chooses a model and chats with it.

    ``load``, ``bundles`` and ``memory`` are all that it knows of the machine; ``runnable`` is
    loaded at once, without one the user chooses. Conversations are kept in ``database`` and read
    prompts in ``prefills``, where those are given.
    """

    TITLE = "pitool"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+q", "quit", "Quit", priority=True),
    ]

    def __init__(
        self,
        *,
        load: Load,
        bundles: Bundles,
        memory: Memory,
        runnable: Runnable | None = None,
        system: str = "",
        database: Database | None = None,
        prefills: Prefills | None = None,
    ) -> None:
        super().__init__()
        self.database, self.prefills = database, prefills
        self.journal = self._open_journal(database)
        self.session = Session(
            load,
            memory,
            self._session_changed,
            system=system,
            keep=self.journal,
            prefills=prefills,
        )
        self._bundles = bundles
        self._runnable = runnable
        self._chat: ChatScreen | None = None

    def on_mount(self) -> None:
        """Open the first screen."""
        self.register_theme(DARK)
        self.register_theme(LIGHT)
        self.theme = DARK.name
        if self._runnable is None:
            self.action_models()
        else:
            self._chosen(self._runnable)

    def _open_journal(self, database: Database | None) -> Journal | None:
        if database is None:
            return None
        from pitool.store.journal import Journal

        return Journal(
            database,
            lambda error: self.session.say(
                f"the conversation is not saved: {error.what}",
                f"{error.do}; it stays here and is tried again",
            ),
        )

    def _session_changed(self) -> None:
        """Pass on, from whatever thread, that there is something to look at."""
        with suppress(RuntimeError):  # the loop may be gone already
            self.post_message(SessionChanged())

    def on_session_changed(self) -> None:
        """Have the chat look, also while another screen covers it."""
        if self._chat is not None:
            self._chat.post_message(SessionChanged())

    def action_models(self) -> None:
        """Show the models, unless they are shown."""
        if not isinstance(self.screen, ModelsScreen):
            self.push_screen(ModelsScreen(self._bundles), self._chosen)

    def action_chats(self) -> None:
        """Show the conversations that are kept."""
        from pitool.tui.screens.chats import ChatsScreen

        if self.database is None or self.journal is None:
            self.notify("Conversations are not kept here.", severity="warning")
        elif not isinstance(self.screen, ChatsScreen):
            self.push_screen(ChatsScreen(self.database, self.journal, self.session, self.prefills))

    def _chosen(self, runnable: Runnable | None) -> None:
        """Load what was chosen and show the chat."""
        if runnable is not None:
            self.session.load(runnable)
        if self._chat is None:
            # Here, so that the first screen does not wait for the import of Markdown.
            from pitool.tui.screens.chat import ChatScreen

            self._chat = ChatScreen(self.session)
            self.push_screen(self._chat)

    async def on_unmount(self) -> None:
        """End the worker with the program, and write what is not written yet."""
        await asyncio.to_thread(self.session.close)
        if self.journal is not None:
            await asyncio.to_thread(self.journal.close)
        if self.database is not None:
            self.database.close()
