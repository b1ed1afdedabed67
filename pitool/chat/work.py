"""What a session's thread does with the engine: load, answer, lend, end; and what it says of it.

Called in order by that one thread, but for ``cancel`` and ``say``. Outcomes are changes of the
state or rows of a conversation.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress

from pitool.catalog.bundles import Runnable
from pitool.chat.answering import Answering
from pitool.chat.context import dropped_notice, full_notice
from pitool.chat.keep import Keep
from pitool.chat.loaded import FileChange, Loaded
from pitool.chat.state import State
from pitool.chat.status import Phase
from pitool.engine.base import Engine
from pitool.errors import Interrupted, PitoolError, WorkerDied
from pitool.store.conversation import Answer, Conversation, Notice, Question

Memory = Callable[[int], int | None]
"""Bytes resident in a process, None where that cannot be read."""

Use = Callable[[Engine, threading.Event], None]
"""What borrows the engine; the event is set when the user wants it back."""

log = logging.getLogger(__name__)


class Work:
    """Uses the engine that is loaded, and loads it again where it has to."""

    def __init__(self, state: State, loaded: Loaded, memory: Memory, keep: Keep) -> None:
        self._state, self._loaded = state, loaded
        self._read_memory, self._keep = memory, keep

    def cancel(self) -> None:
        """End the running answer within a token; from any thread."""
        if (engine := self._loaded.engine) is not None:
            with suppress(PitoolError):  # one that is dead has nothing to end
                engine.cancel()

    def report(self, conversation: Conversation, error: Exception) -> None:
        """Put an error into the conversation, and let go of an engine that is dead."""
        if isinstance(error, WorkerDied):
            self.drop(dead=True)
            again = "the next question loads the model again"
            notice = Notice(error.what, f"{error.do}; {again}" if error.do else again)
        elif isinstance(error, PitoolError):
            notice = Notice(error.what, error.do)
        else:
            log.exception("fault in the session", exc_info=error)
            notice = Notice(f"a fault in pitool: {error!r}", "ask again, and report it if it stays")
        self.say(conversation, notice)
        self._state.set(phase=Phase.UNLOADED if self._loaded.engine is None else Phase.READY)

    def say(self, conversation: Conversation, notice: Notice) -> None:
        """Put a notice into the conversation; from any thread."""
        kept = any(isinstance(row, Question) for row in conversation.rows)
        conversation.rows.append(notice)
        if kept:  # a conversation without a question is not worth a place in the list
            self._keep.put(conversation, notice)
        self._state.look()

    def drop(self, *, dead: bool = False) -> None:
        """End the engine; what it has read is saved first, unless it is dead."""
        self._loaded.drop(dead=dead)
        self._state.set(phase=Phase.UNLOADED, info=None, memory=None, timings=None, rate_now=0.0)

    def load(self, runnable: Runnable, cancel: threading.Event) -> None:
        """Replace what is loaded by ``runnable``."""
        self.drop()
        self._state.set(runnable=runnable, planned=runnable.planned)
        with suppress(Interrupted):
            self._start(runnable, cancel)
            self._state.set(phase=Phase.READY)

    def _start(self, runnable: Runnable, cancel: threading.Event) -> Engine:
        """Return the engine, just started; Interrupted if it was stopped meanwhile."""

        def progress(fraction: float) -> None:
            if cancel.is_set():
                raise Interrupted("the load was stopped")
            self._state.set(often=fraction < 1, progress=fraction)

        self._state.set(phase=Phase.LOADING, progress=0.0)
        try:
            engine = self._loaded.start(runnable, progress)
        except PitoolError:
            self._state.set(phase=Phase.UNLOADED, progress=0.0)
            raise
        from pitool.device.settings import worker_bytes  # the first screen does not wait for it

        if cancel.is_set():
            self.drop()
            raise Interrupted("the load was stopped")
        self._state.set(
            info=engine.info,
            progress=1.0,
            memory=self._read_memory(engine.pid),
            planned=worker_bytes(runnable, engine.info.settings) if runnable.artifact else None,
        )
        return engine

    def answer(self, conversation: Conversation, answer: Answer, cancel: threading.Event) -> None:
        """Write an answer to its end, loading the model if need be; raises nothing."""
        try:
            self._stream_or_restart(conversation, answer, cancel)
            self._state.set(phase=Phase.READY)
        except Interrupted:
            answer.finish = "cancelled"
            self._state.set()
        except Exception as error:
            answer.finish = "failed"
            self.report(conversation, error)
        self._keep.put(conversation, answer)
        if answer.finish == "context":
            info = self._state.status.info
            self.say(conversation, full_notice(info.settings.context if info else 0))

    def _stream_or_restart(
        self, conversation: Conversation, answer: Answer, cancel: threading.Event
    ) -> None:
        """Stream the answer; a worker that died before the question is quietly started again."""
        self._look_at_file(conversation)
        if (loaded := self._loaded.engine) is not None:
            try:
                self._stream(loaded, conversation, answer, cancel)
            except WorkerDied:
                if answer.timings is not None:
                    raise
                self.drop(dead=True)
            else:
                return
        engine = self._start(self._chosen(), cancel)
        self._stream(engine, conversation, answer, cancel)

    def _look_at_file(self, conversation: Conversation) -> None:
        """Let go of a model whose file is another one since it was loaded."""
        what = f"the file of {self._chosen().name}"
        match self._loaded.file_change():
            case FileChange.CHANGED:
                self.say(conversation, Notice(f"{what} changed on disk", "it is loaded again"))
                self.drop(dead=True)  # what it has read is not of the new file
            case FileChange.GONE:
                notice = Notice(f"{what} is gone", "the loaded one goes on until /unload")
                self.say(conversation, notice)

    def _stream(
        self, engine: Engine, conversation: Conversation, answer: Answer, cancel: threading.Event
    ) -> None:
        self._state.set(phase=Phase.READING)
        answering = Answering(engine, conversation, answer, self._read_memory)
        restored = self._loaded.restore(engine, conversation)
        for change in answering.run(cancel, restored, drop=self._state.status.when_full == "drop"):
            self._state.set(often=change.often, **change.values)
            if change.dropped:
                self.say(conversation, dropped_notice(change.dropped))
                self._state.set(dropped=conversation.turns_dropped)
            self._keep.put(conversation, answer)
        self._loaded.entered(conversation, answer.timings.context_used if answer.timings else 0)

    def lend(self, use: Use, cancel: threading.Event) -> None:
        """Let ``use`` have the engine, loaded if need be."""
        with suppress(Interrupted):
            engine = self._loaded.engine or self._start(self._chosen(), cancel)
            self._loaded.lend(engine)
            self._state.set(phase=Phase.MEASURING)
            use(engine, cancel)
        self._state.set(phase=Phase.UNLOADED if self._loaded.engine is None else Phase.READY)

    def _chosen(self) -> Runnable:
        runnable = self._state.status.runnable
        assert runnable is not None  # nothing is asked without one
        return runnable
