"""What a session does with its engine: load, answer, end; and the notices about it.

Called one after another by whoever does the session's tasks, except ``cancel`` and ``say``.
Outcomes are changes of the status or rows of a conversation.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress

from pitool.catalog.bundles import Runnable
from pitool.chat.answer import AnswerStream, PromptStyle, dropped_notice, full_notice
from pitool.chat.engine_slot import EngineSlot, FileChange
from pitool.chat.status import LiveStatus, Phase
from pitool.engine.base import Engine
from pitool.errors import Interrupted, PitoolError, WorkerDied
from pitool.store.conversation import Answer, Conversation, Notice, Question, Recorder

Memory = Callable[[int], int | None]
"""Bytes resident in a process, None where that cannot be read."""

log = logging.getLogger(__name__)


class Operations:
    """Uses the engine that is loaded, and loads it again where it has to.

    ``last_error``: what the last load or answer ended in.
    """

    def __init__(
        self,
        status: LiveStatus,
        slot: EngineSlot,
        memory: Memory,
        recorder: Recorder,
        style: PromptStyle,
    ) -> None:
        self._live, self._slot = status, slot
        self._read_memory, self._recorder, self._style = memory, recorder, style
        self.last_error: Exception | None = None

    def cancel(self) -> None:
        """End the running answer within a token; from any thread."""
        if (engine := self._slot.engine) is not None:
            with suppress(PitoolError):  # one that is dead has nothing to end
                engine.cancel()

    def report(self, conversation: Conversation, error: Exception) -> None:
        """Put an error into the conversation, and let go of an engine that is dead."""
        self.last_error = error
        if isinstance(error, WorkerDied):
            log.error("%s\n%s", error.sentence, error.details)
            self.drop(dead=True)
            again = "ask again to reload the model"
            notice = Notice(error.what, f"{error.do}; {again}" if error.do else again)
        elif isinstance(error, PitoolError):
            notice = Notice(error.what, error.do)
        else:
            log.exception("fault in the session", exc_info=error)
            notice = Notice(
                f"internal error: {error!r}", "ask again, and report it if it happens again"
            )
        self.say(conversation, notice)
        self._live.set(phase=self._resting)

    def say(self, conversation: Conversation, notice: Notice) -> None:
        """Put a notice into the conversation; from any thread."""
        kept = any(isinstance(row, Question) for row in conversation.rows)
        conversation.rows.append(notice)
        if kept:  # a conversation without a question is not worth a place in the list
            self._recorder.put(conversation, notice)
        self._live.look()

    def drop(self, *, dead: bool = False) -> None:
        """End the engine; what it has read is saved first, unless it is dead."""
        self._slot.drop(dead=dead)
        self._live.set(phase=Phase.UNLOADED, info=None, memory=None, timings=None, rate_now=0.0)

    def load(self, runnable: Runnable, cancel: threading.Event) -> None:
        """Replace what is loaded by ``runnable``; one that was stopped before changes nothing."""
        if cancel.is_set():
            return
        self.last_error = None
        self.drop()
        self._live.set(runnable=runnable, planned=runnable.planned)
        with suppress(Interrupted):
            self._start(runnable, cancel)
            self._live.set(phase=Phase.READY)

    def _start(self, runnable: Runnable, cancel: threading.Event) -> Engine:
        """Return the engine, just started; Interrupted if it was stopped meanwhile."""
        if cancel.is_set():
            raise Interrupted("the load was stopped")

        def progress(fraction: float) -> None:
            if cancel.is_set():
                raise Interrupted("the load was stopped")
            self._live.set(often=fraction < 1, progress=fraction)

        self._live.set(phase=Phase.LOADING, progress=0.0)
        try:
            engine = self._slot.start(runnable, progress)
        except PitoolError:
            self._live.set(phase=Phase.UNLOADED, progress=0.0)
            raise
        from pitool.device.settings import worker_bytes  # the first screen does not wait for it

        if cancel.is_set():
            self.drop()
            raise Interrupted("the load was stopped")
        self._live.set(
            info=engine.info,
            progress=1.0,
            memory=self._read_memory(engine.pid),
            planned=worker_bytes(runnable, engine.info.settings) if runnable.artifact else None,
        )
        return engine

    def answer(self, conversation: Conversation, answer: Answer, cancel: threading.Event) -> None:
        """Write an answer to its end, loading the model if need be; raises nothing."""
        self.last_error = None
        try:
            self._stream_or_restart(conversation, answer, cancel)
            self._live.set(phase=Phase.READY)
        except Interrupted:
            answer.finish = "cancelled"
            self._live.set(phase=self._resting)
        except Exception as error:
            answer.finish = "failed"
            self.report(conversation, error)
        self._recorder.put(conversation, answer)
        if answer.finish == "context":
            info = self._live.status.info
            self.say(conversation, full_notice(info.settings.context if info else 0))

    def _stream_or_restart(
        self, conversation: Conversation, answer: Answer, cancel: threading.Event
    ) -> None:
        """Stream the answer; a worker that died before the question is quietly started again."""
        self._look_at_file(conversation)
        if (loaded := self._slot.engine) is not None:
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
        match self._slot.file_change():
            case FileChange.CHANGED:
                self.say(conversation, Notice(f"{what} changed on disk", "reloading the model"))
                self.drop(dead=True)  # what it has read is not of the new file
            case FileChange.GONE:
                notice = Notice(
                    f"{what} was deleted", "the loaded model keeps working until /unload"
                )
                self.say(conversation, notice)

    def _stream(
        self, engine: Engine, conversation: Conversation, answer: Answer, cancel: threading.Event
    ) -> None:
        self._live.set(phase=Phase.READING)
        stream = AnswerStream(engine, conversation, answer, self._read_memory, self._style)
        restored = self._slot.restore(engine, conversation)
        for change in stream.run(cancel, restored, drop=self._live.status.when_full == "drop"):
            self._live.set(often=change.often, **change.values)
            if change.dropped:
                self.say(conversation, dropped_notice(change.dropped))
                self._live.set(dropped=conversation.turns_dropped)
            self._recorder.put(conversation, answer)
        self._slot.entered(conversation, answer.timings.context_used if answer.timings else 0)

    @property
    def _resting(self) -> Phase:
        """What the session is doing when it does nothing."""
        return Phase.UNLOADED if self._slot.engine is None else Phase.READY

    def _chosen(self) -> Runnable:
        runnable = self._live.status.runnable
        assert runnable is not None  # nothing is asked without one
        return runnable
