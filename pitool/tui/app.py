"""The application: joins a session to the screens that show it.

Everything it knows of the machine is passed to it, and passed on to the screens as a ``Context``.
"""

from __future__ import annotations

import asyncio
import codecs
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from textual import events
from textual.actions import ActionParseResult
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.dom import DOMNode
from textual.driver import Driver
from textual.filter import LineFilter
from textual.screen import ModalScreen, Screen
from textual.theme import Theme

from pitool.catalog.bundles import Runnable
from pitool.chat.commands import Bundles
from pitool.chat.engine_slot import Load
from pitool.chat.operations import Memory
from pitool.chat.session import Session
from pitool.chat.status import Phase, Status
from pitool.errors import MissingPart, PitoolError
from pitool.tui import themes
from pitool.tui.context import Context, Judge
from pitool.tui.harmless import HARMLESS
from pitool.tui.keyboard import KeysInTurn
from pitool.tui.messages import OpenScreen, SensorsRead, SessionChanged
from pitool.tui.screens import SCREENS, ScreenEntry
from pitool.tui.screens.base import BaseScreen, told

if TYPE_CHECKING:
    from pitool.bench.progress import BenchRunner, MakeRunner
    from pitool.chat.compare import Comparison
    from pitool.chat.library import Library
    from pitool.cluster.health import BoardHealth
    from pitool.device.forecast import Forecast
    from pitool.device.sensor_history import SensorHistory
    from pitool.engine.base import Sampling, Timings
    from pitool.engine.prefills.files import Prefills
    from pitool.pull.market import Market
    from pitool.store.database import Database
    from pitool.store.journal import Journal

SeverityLevel = Literal["information", "warning", "error"]

TICK_SECONDS = 2.0
"""The sensors are looked at this often while they are watched or logged and the model is idle."""

SENSE_SECONDS = 5.0
"""The same while it is not idle, and while it is idle and nobody watches."""


def _forgiving_decoder(encoding: str) -> Callable[[], codecs.IncrementalDecoder]:
    """Return what makes a decoder, as ``codecs.getincrementaldecoder`` does."""
    return partial(codecs.getincrementaldecoder(encoding), errors="replace")


class PitoolApp(App[None]):
    """Chooses a model and chats with it.

    ``load``, ``bundles`` and ``memory`` are what it cannot do without; ``runnable`` is loaded at
    once, without one the user chooses; ``system`` and ``sampling``: of the first conversation.
    Conversations are kept in ``database`` and read prompts in
    ``prefills``, where those are given; the theme is kept in the folder ``settings``. ``sensors``
    is what the board is looked at with, ``bench`` gives what artifacts are measured with,
    ``market`` what ready models come from, ``tuned`` says what a model was tuned to, ``trouble``
    why there is no ``database``, ``boards`` looks at those of a cluster. ``resume``: begin with the
    conversation that was used last. ``screens`` open from everywhere. ``shown`` is called when the
    first screen is there, and again when the chat is. ``interrupted``: whether a signal ended it.
    """

    TITLE = "pitool"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+q", "quit", "Quit", priority=True)]

    def __init__(
        self,
        *,
        load: Load,
        bundles: Bundles,
        memory: Memory,
        runnable: Runnable | None = None,
        system: str = "",
        sampling: Sampling | None = None,
        database: Database | None = None,
        trouble: PitoolError | None = None,
        prefills: Prefills | None = None,
        sensors: SensorHistory | None = None,
        bench: MakeRunner | None = None,
        judge: Judge | None = None,
        market: Callable[[], Market] | None = None,
        tuned: Callable[[Runnable], str] = lambda _: "",
        settings: Path | None = None,
        boards: Callable[[], list[BoardHealth]] | None = None,
        resume: bool = False,
        screens: Sequence[ScreenEntry] = SCREENS,
        shown: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()
        self._shown, self._settings, self._resume = shown, settings, resume
        self._keys = KeysInTurn(self, super().on_event)
        self._remembered: Runnable | None = None
        self._load, self._memory, self._runnable = load, memory, runnable
        self._sensors, self._sensed = sensors, 0.0
        self._sensed_timings: Timings | None = None
        self._make_bench = bench
        self._benching: BenchRunner | None = None
        self.database, self.prefills, self._trouble = database, prefills, trouble
        self.journal = self._open_journal(database)
        self.session = Session(
            load,
            memory,
            self._session_changed,
            system=system,
            recorder=self.journal,
            prefills=prefills,
        )
        if sampling is not None:
            self.session.set_sampling(sampling)
        self.context = Context(
            session=self.session,
            bundles=bundles,
            screens=screens,
            judge=judge,
            sensors=sensors,
            tuned=tuned,
            stored=database is not None,
            library=self._library,
            comparison=self._comparison,
            bench=self._bench,
            market=market,
            boards=boards,
            last_model=self._last_model,
            resume=self._open_newest,
        )
        for entry in screens:
            self._bind(entry)
        self._chat: Screen[Any] | None = None
        self._spent = 0.0
        self.interrupted = False

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Return what every line of every widget goes through before the terminal has it."""
        return [*super().get_line_filters(), HARMLESS]

    def get_driver_class(self) -> type[Driver]:
        """Return the terminal's driver; a byte that is no UTF-8 becomes U+FFFD.

        Textual decodes strictly: what was pasted from a file in Latin-1 would end the program.
        """
        found = super().get_driver_class()
        names = vars(sys.modules[found.__module__])
        if "getincrementaldecoder" in names:
            names["getincrementaldecoder"] = _forgiving_decoder
        return found

    def _bind(self, entry: ScreenEntry) -> None:
        if entry.keys:
            # Textual's own ``bind`` knows no priority, which a list or a text area needs.
            self._bindings.bind(
                entry.keys, entry.action, entry.title, show=entry.footer, priority=True
            )

    def _end_on_signals(self) -> None:
        """Have signals end the program as its key does, with the terminal as it was.

        Elsewhere they raise KeyboardInterrupt, which here might hit whatever Textual is about.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                with suppress(RuntimeError, ValueError):  # not the main thread
                    loop.add_signal_handler(number, self._interrupt)

    def _interrupt(self) -> None:
        self.interrupted = True
        self.exit()

    def on_mount(self) -> None:
        """Open the first screen."""
        self._end_on_signals()
        for theme in themes.THEMES:
            self.register_theme(theme)
        kept = themes.remembered(self._settings)
        self.theme = kept if kept in self.available_themes else themes.DARK.name
        self.theme_changed_signal.subscribe(self, self._keep_theme)
        if self._sensors is not None:
            self.set_interval(TICK_SECONDS, self._tick)
        if self._resume:
            with told(self):
                self._open_newest()
        if self._trouble is not None:
            self.call_after_refresh(
                self.notify, self._trouble.statement, severity="warning", markup=False, timeout=15
            )
        if self._runnable is None:
            self._open("models", then=self._show_chat)
            self.call_after_refresh(self._shown)
        else:
            self._show_chat(self._runnable)

    async def on_event(self, event: events.Event) -> None:
        """Have each key wait for the effect of the one before it."""
        if isinstance(event, events.Key | events.Paste) and not event.is_forwarded:
            await self._keys.take(event)
        else:
            await super().on_event(event)

    def notify(
        self,
        message: str,
        *,
        title: str = "",
        severity: SeverityLevel = "information",
        timeout: float | None = None,
        markup: bool = True,  # noqa: ARG002 - Textual's
    ) -> None:
        """Say something in the line above the keys, in place of what was said there before."""
        text = f"{title}: {message}" if title else message
        for screen in self.screen_stack:
            if isinstance(screen, BaseScreen):
                screen.say(text, severity, timeout)

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
                f"{error.do}; pitool keeps it in memory and tries again",
            ),
        )

    # What changes.

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
        self._remember_model()
        if self._chat is not None:
            self._chat.post_message(SessionChanged())
        if self.screen is not self._chat:
            self.screen.post_message(SessionChanged())

    def _remember_model(self) -> None:
        """Keep which model is loaded, for the next start."""
        status = self.session.status
        if status.info is None or status.runnable in (None, self._remembered):
            return
        self._remembered = status.runnable
        from pitool.store import last_model

        kept = partial(last_model.remember, self._settings, self._remembered)
        self.run_worker(kept, thread=True)

    async def _tick(self) -> None:
        """Look at the sensors if it is time to; while the model works only if somebody asked."""
        sensors, busy = self._sensors, self.session.status.busy
        watched = sensors is not None and (sensors.watched or sensors.log is not None)
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
        return new and not status.busy and self._sensors is not None

    async def on_sensors_wanted(self) -> None:
        """Look now, for somebody who begins to."""
        await self._sense()

    async def _sense(self) -> None:
        """Look at the board, but never while something is measured."""
        sensors, status = self._sensors, self.session.status
        if sensors is None or status.phase is Phase.MEASURING:
            return
        self._sensed = time.monotonic()
        with told(self):
            sample = await asyncio.to_thread(sensors.take, self._decode_rate(status))
            if self._chat is not None:
                self._chat.post_message(SensorsRead(sample))
            if trouble := sensors.pop_trouble():
                raise trouble
        if self.screen is not self._chat:
            self.screen.post_message(SessionChanged())

    def _decode_rate(self, status: Status) -> float:
        """Return the tokens/s of now, that of an answer that ended since the last look, or 0."""
        before, self._sensed_timings = self._sensed_timings, status.timings
        if status.phase is Phase.ANSWERING:
            return status.rate_now
        ended = status.timings is not None and status.timings is not before
        return status.timings.decode_rate if ended and status.timings else 0.0

    # What opens.

    async def run_action(
        self,
        action: str | ActionParseResult,
        default_namespace: DOMNode | None = None,
        namespaces: Mapping[str, DOMNode] | None = None,
    ) -> bool:
        """Do what a key or the palette asks for; an error becomes a notice."""
        handled = True
        with told(self):
            handled = await super().run_action(action, default_namespace, namespaces)
        return handled  # noqa: RET504 - an error that was told of is handled too

    def action_open_screen(self, name: str, words: str = "") -> None:
        """Show a screen of the table; ``words``: what was written after its slash command."""
        self._open(name, words, self._returned)

    def on_open_screen(self, message: OpenScreen) -> None:
        """Show a screen that a command asks for."""
        with told(self):
            self.action_open_screen(message.name, message.words)

    def _open(self, name: str, words: str = "", then: Callable[[Any], None] | None = None) -> None:
        """Show a screen above every other but a question.

        Where one of its kind is open already, the way leads back to that one.
        """
        if isinstance(self.screen, ModalScreen):
            return
        kind = next(entry for entry in self.context.screens if entry.name == name).load()
        for opened in self.screen_stack:
            if type(opened) is kind:
                opened.pop_until_active()
                return
        self.push_screen(kind(self.context, words), then)

    def _returned(self, result: object) -> None:
        """Load the model that a screen returned, or go back to the chat where it returned True."""
        if isinstance(result, Runnable):
            self._show_chat(result)
        elif result is True:
            # Where there is no chat yet, the list of models below is left without a choice.
            (self._chat or self.screen_stack[0]).pop_until_active()

    def _show_chat(self, runnable: Runnable | None) -> None:
        """Show the chat and load what was chosen."""
        if self._chat is None:
            # Here, so that the list of models does not wait for it.
            from pitool.tui.screens.chat import ChatScreen

            if runnable is not None:
                self.session.choose(runnable)
            self._chat = ChatScreen(self.context)
            self.push_screen(self._chat)
            self.call_after_refresh(self._shown)
            self.call_later(self._sense)
        if runnable is not None:  # the screen comes first, then the work
            self.call_after_refresh(self.session.load, runnable)

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """Fill the command palette: the commands of the chat, then what Textual offers."""
        palette = getattr(screen, "palette", None)
        if palette is not None:
            yield from palette()
        else:
            for entry in self.context.screens:
                words = entry.help[:1].upper() + entry.help[1:]
                yield SystemCommand(
                    entry.title, words, lambda name=entry.name: self._from_palette(name)
                )
        for theme in themes.THEMES:
            yield SystemCommand(
                f"Theme: {theme.name}",
                "Use these colours",
                partial(setattr, self, "theme", theme.name),
            )
        yield from super().get_system_commands(screen)

    def _from_palette(self, name: str) -> None:
        with told(self):
            self.action_open_screen(name)

    # What the screens are handed.

    def _last_model(self) -> Runnable | None:
        from pitool.store import last_model

        return last_model.find(self._settings)

    def _open_newest(self) -> None:
        """Go on with the conversation that was used last, where there is one."""
        key = self.database.newest() if self.database is not None else None
        if key is not None:
            self._library().open(key)

    def _library(self) -> Library:
        if self.database is None or self.journal is None:
            raise self._trouble or MissingPart(
                "conversations are not stored here", "use /save to write this one to a file"
            )
        from pitool.chat.library import Library

        return Library(self.database, self.journal, self.session, self.prefills)

    def _comparison(self) -> Comparison:
        from pitool.chat.compare import Comparison

        return Comparison(self._load, self._memory, self._judge_runnable, self._session_changed)

    def _judge_runnable(self, runnable: Runnable) -> Forecast | None:
        judge = self.context.judge
        return judge(runnable.artifact) if judge and runnable.artifact else None

    def _bench(self) -> BenchRunner:
        """Return what measures, made at the first use."""
        if self._make_bench is None:
            raise MissingPart("benchmarks are not available here", "run pitool bench")
        if self._benching is None:
            sensors = self._sensors
            seen = sensors.take if sensors else lambda _: None
            self._benching = self._make_bench(self._session_changed, seen)
        return self._benching

    async def on_unmount(self) -> None:
        """End the worker with the program, and write what is not written yet."""
        self.session.stop()
        if self._sensors is not None:
            self._sensors.stop_log()
        await asyncio.to_thread(self.session.close)
        if self.journal is not None:
            await asyncio.to_thread(self.journal.close)
        if self.database is not None:
            self.database.close()
