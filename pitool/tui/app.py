"""The application: joins a session to the screens that show it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen, Screen
from textual.theme import Theme

from pitool.catalog.bundles import Runnable
from pitool.chat.loaded import Load
from pitool.chat.session import Session
from pitool.chat.status import Phase, Status
from pitool.chat.work import Memory
from pitool.tui import themes
from pitool.tui.messages import SessionChanged
from pitool.tui.screens.models import Bundles, ModelsScreen

if TYPE_CHECKING:
    from pitool.bench.progress import BenchRunner, MakeRunner
    from pitool.chat.shelf import Shelf
    from pitool.device.verdict import Verdict
    from pitool.engine.base import Timings
    from pitool.store.database import Database
    from pitool.store.journal import Journal
    from pitool.store.prefills import Prefills
    from pitool.tui.board import Board
    from pitool.tui.details import Judge
    from pitool.tui.screens.chat import ChatScreen


TICK_SECONDS = 2.0
"""The sensors are looked at this often while they are watched or logged and the model is idle."""

SENSE_SECONDS = 5.0
"""The same while it is not idle, and while it is idle and nobody watches."""


class PitoolApp(App[None]):
    """Chooses a model and chats with it.

    ``load``, ``bundles`` and ``memory`` are all that it knows of the machine; ``runnable`` is
    loaded at once, without one the user chooses. Conversations are kept in ``database`` and read
    prompts in ``prefills``, where those are given; the theme is kept in the folder ``settings``.
    ``board`` is what the sensors are read with, ``bench`` makes what measures artifacts.
    ``shown`` is called when the first screen is there, and again when the chat is.
    """

    TITLE = "pitool"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+q", "quit", "Quit", priority=True),
        Binding("f5", "bench", "Bench", priority=True),
        Binding("f8", "device", "Device", priority=True),  # a text area has f6 and f7
        Binding("f2,ctrl+l", "models", "Models", show=False, priority=True),
        Binding("f3,ctrl+o", "chats", "Chats", show=False, priority=True),
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
        board: Board | None = None,
        bench: MakeRunner | None = None,
        judge: Judge | None = None,
        settings: Path | None = None,
        shown: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()
        self._shown = shown
        self._settings = settings
        self._judge, self._load, self._memory = judge, load, memory
        self._board, self._sensed = board, 0.0
        self._sensed_timings: Timings | None = None
        self._make_bench = bench
        self._benching: BenchRunner | None = None
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
        for theme in themes.THEMES:
            self.register_theme(theme)
        kept = themes.remembered(self._settings)
        self.theme = kept if kept in self.available_themes else themes.DARK.name
        self.theme_changed_signal.subscribe(self, self._keep_theme)
        if self._board is not None:
            self.set_interval(TICK_SECONDS, self._tick)
        if self._runnable is None:
            self.action_models()
            self.call_after_refresh(self._shown)
        else:
            self._chosen(self._runnable)

    def _keep_theme(self, theme: Theme) -> None:
        themes.remember(self._settings, theme.name)

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
        if self._answer_ended:
            self.call_later(self._sense_end)
        if self._chat is not None:
            self._chat.post_message(SessionChanged())
        if self.screen is not self._chat:
            self.screen.post_message(SessionChanged())

    async def _tick(self) -> None:
        """Look at the sensors if it is time to; while the model works only if somebody asked."""
        board, busy = self._board, self.session.status.busy
        watched = board is not None and (board.watched or board.log is not None)
        if busy and not watched:
            return
        pause = TICK_SECONDS if watched and not busy else SENSE_SECONDS
        if time.monotonic() - self._sensed > pause - TICK_SECONDS / 2:
            await self._sense()

    async def _sense_end(self) -> None:
        """Look once when an answer has ended: the board is as hot as it gets."""
        if self._answer_ended:
            await self._sense()

    @property
    def _answer_ended(self) -> bool:
        """Whether an answer ended that the sensors have not been looked at for."""
        status = self.session.status
        new = status.timings is not None and status.timings is not self._sensed_timings
        return new and not status.busy and self._board is not None

    async def _sense(self) -> None:
        """Look at the board, but never while something is measured."""
        board, status = self._board, self.session.status
        if board is None or status.phase is Phase.MEASURING:
            return
        self._sensed = time.monotonic()
        sample = await asyncio.to_thread(board.take, self._decode_rate(status))
        if self._chat is not None:
            self._chat.sense(sample)
        if trouble := board.pop_trouble():
            self.notify(trouble.statement, severity="error", markup=False)
        if self.screen is not self._chat:
            self.screen.post_message(SessionChanged())

    def _decode_rate(self, status: Status) -> float:
        """Return the tokens/s of now, that of an answer that ended since the last look, or 0."""
        before, self._sensed_timings = self._sensed_timings, status.timings
        if status.phase is Phase.ANSWERING:
            return status.rate_now
        ended = status.timings is not None and status.timings is not before
        return status.timings.decode_rate if ended and status.timings else 0.0

    def action_models(self) -> None:
        """Show the models."""
        screen = ModelsScreen(self._bundles, self._judge, self.session.status)
        self._show_over(screen, self._chosen)

    def action_compare(self) -> None:
        """Show the same prompt on two artifacts."""
        from pitool.chat.comparing import Comparing
        from pitool.tui.screens.compare import CompareScreen

        question = self.session.conversation.last_question()
        prompt = question.text.partition("\n")[0] if question else ""
        comparing = Comparing(self._load, self._memory, self._judge_runnable, self._session_changed)
        self._show_over(CompareScreen(self.session, comparing, self._bundles, prompt))

    def action_bench(self) -> None:
        """Show the bench; one that runs goes on."""
        from pitool.tui.screens.bench import BenchScreen

        if (benching := self._bench()) is None:
            self.notify("Nothing is measured here.", severity="warning")
        else:
            self._show_over(BenchScreen(self.session, benching, self._bundles))

    def _bench(self) -> BenchRunner | None:
        """Return what measures, made at the first use."""
        if self._benching is None and self._make_bench is not None:
            board = self._board
            self._benching = self._make_bench(
                self._session_changed, board.take if board else _unseen
            )
        return self._benching

    def action_device(self) -> None:
        """Show the sensors over time and the doctor's findings."""
        from pitool.tui.screens.device import DeviceScreen

        if self._board is None:
            self.notify("The sensors are not read here.", severity="warning")
        else:
            self._show_over(DeviceScreen(self._board, self.session))
            self.call_later(self._sense)

    def _show_over(self, screen: Screen[Any], then: Callable[[Any], None] | None = None) -> None:
        """Show a screen that a key opens from everywhere but a question.

        Where one of its kind is open already, the way leads back to that one.
        """
        if isinstance(self.screen, ModalScreen):
            return
        for opened in self.screen_stack:
            if type(opened) is type(screen):
                opened.pop_until_active()
                return
        self.push_screen(screen, then)

    def _judge_runnable(self, runnable: Runnable) -> Verdict | None:
        if self._judge is None or runnable.artifact is None:
            return None
        return self._judge(runnable.artifact)

    def action_chats(self) -> None:
        """Show the conversations that are kept."""
        self.show_chats()

    def show_chats(self, words: str = "") -> None:
        """Show the conversations that contain ``words``."""
        from pitool.tui.screens.chats import ChatsScreen

        if (shelf := self.shelf) is None:
            self.notify("Conversations are not kept here.", severity="warning")
        else:
            self._show_over(ChatsScreen(shelf, self.session.status, words), self._opened)

    def _opened(self, opened: bool | None) -> None:
        """Show the chat after a conversation was opened, from whatever screen that was."""
        if opened:  # where there is no chat yet, the list of models below is left without a choice
            (self._chat or self.screen_stack[0]).pop_until_active()

    @property
    def shelf(self) -> Shelf | None:
        """The conversations that are kept, None where none are."""
        from pitool.chat.shelf import Shelf

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
        else:
            yield SystemCommand("Bench", "Measure prefill and decode", self.action_bench)
            yield SystemCommand("Device", "Sensors and the doctor's findings", self.action_device)
            yield SystemCommand("Models", "Load, verify, delete", self.action_models)
            yield SystemCommand("Conversations", "Open, search, export", self.action_chats)
            yield SystemCommand("Compare", "One prompt on two artifacts", self.action_compare)
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
            self.call_after_refresh(self._shown)
            self.call_later(self._sense)
        if runnable is not None:  # the screen comes first, then the work
            self.call_after_refresh(self.session.load, runnable)

    async def on_unmount(self) -> None:
        """End the worker with the program, and write what is not written yet."""
        self.session.stop()
        if self._benching is not None:  # a repetition may last minutes
            self._benching.cancel()
        if self._board is not None:
            self._board.stop_log()
        await asyncio.to_thread(self.session.close)
        if self.journal is not None:
            await asyncio.to_thread(self.journal.close)
        if self.database is not None:
            self.database.close()


def _unseen(_: float) -> None:
    """Take no sample."""
