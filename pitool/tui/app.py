"""The application: joins a session to the screens that show it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen

from pitool.device.sensors import Reading
from pitool.spec.bundles import Runnable
from pitool.tui.messages import SessionChanged
from pitool.tui.screens.models import Bundles, ModelsScreen
from pitool.tui.session import Load, Memory, Session
from pitool.tui.status import Phase
from pitool.tui.themes import DARK, LIGHT

if TYPE_CHECKING:
    from pitool.store.database import Database
    from pitool.store.journal import Journal
    from pitool.store.prefills import Prefills
    from pitool.tui.screens.chat import ChatScreen
    from pitool.tui.shelf import Shelf


Sensors = Callable[[], Reading]
"""Reads temperature, clock and throttling; blocks for as long as a short process runs."""

SENSE_SECONDS = 5.0
"""The cores belong to the model: the figures of a screen may be as old as this."""


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
        sensors: Sensors | None = None,
    ) -> None:
        super().__init__()
        self._sensors = sensors
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
        self._spent = 0.0

    def on_mount(self) -> None:
        """Open the first screen."""
        self.register_theme(DARK)
        self.register_theme(LIGHT)
        self.theme = DARK.name
        if self._sensors is not None:
            self.set_interval(SENSE_SECONDS, self._sense)
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
        before, self._spent = self._spent, time.thread_time()
        self.session.pace(self._spent - before)  # all that was done for the last look
        if self._chat is not None:
            self._chat.post_message(SessionChanged())

    async def _sense(self) -> None:
        """Read the sensors for the chat, but never while something is measured."""
        chat, sensors = self._chat, self._sensors
        if sensors is None or chat is None or chat is not self.screen:
            return
        if self.session.status.phase is not Phase.MEASURING:
            chat.sense(await asyncio.to_thread(sensors))

    def action_models(self) -> None:
        """Show the models, unless they are shown."""
        if not isinstance(self.screen, ModelsScreen):
            self.push_screen(ModelsScreen(self._bundles), self._chosen)

    def action_chats(self) -> None:
        """Show the conversations that are kept."""
        self.show_chats()

    def show_chats(self, words: str = "") -> None:
        """Show the conversations that contain ``words``."""
        from pitool.tui.screens.chats import ChatsScreen

        if (shelf := self.shelf) is None:
            self.notify("Conversations are not kept here.", severity="warning")
        elif not isinstance(self.screen, ChatsScreen):
            self.push_screen(ChatsScreen(shelf, self.session.status, words))

    @property
    def shelf(self) -> Shelf | None:
        """The conversations that are kept, None where none are."""
        from pitool.tui.shelf import Shelf

        if self.database is None or self.journal is None:
            return None
        return Shelf(self.database, self.journal, self.session, self.prefills)

    @property
    def bundles(self) -> Bundles:
        """Lists the bundles of this machine."""
        return self._bundles

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """Fill the command palette: the commands of the chat, then what Textual offers."""
        if self._chat is not None and screen is self._chat:
            yield from self._chat.palette()
        yield from super().get_system_commands(screen)

    def _chosen(self, runnable: Runnable | None) -> None:
        """Show the chat and load what was chosen."""
        if self._chat is None:
            # Here, so that the list of models does not wait for it.
            from pitool.tui.screens.chat import ChatScreen

            if runnable is not None:
                self.session.choose(runnable)
            self._chat = ChatScreen(self.session)
            self.push_screen(self._chat)
            self.call_later(self._sense)
        if runnable is not None:  # the screen comes first, then the work
            self.call_after_refresh(self.session.load, runnable)

    async def on_unmount(self) -> None:
        """End the worker with the program, and write what is not written yet."""
        await asyncio.to_thread(self.session.close)
        if self.journal is not None:
            await asyncio.to_thread(self.journal.close)
        if self.database is not None:
            self.database.close()
