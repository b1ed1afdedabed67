"""One engine and one conversation, driven from a thread of its own; knows no screen.

The session owns all state that a chat shows. Its methods return at once and never raise for what
the engine does: the work is done in order by a single thread, its outcome is a change of
``status`` or a row of ``conversation``, and ``notify`` is called so that somebody looks.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum

from pitool.engine.base import Engine, Finish, ModelInfo, Sampling, Timings, Token
from pitool.errors import Interrupted, PitoolError, WorkerDied
from pitool.spec.bundles import Runnable
from pitool.tui.conversation import Answer, Conversation, Notice, Question

Load = Callable[[Runnable, Callable[[float], None]], Engine]
"""Starts an engine, blocking; reports the fraction loaded, from 0 to 1."""

Memory = Callable[[int], int | None]
"""Bytes resident in a process, None where that cannot be read."""

FRAME_SECONDS = 1 / 15
"""Least time between two notifications of one answer: the cores belong to the model."""

MEMORY_SECONDS = 1.0
"""Least time between two looks at the memory while an answer runs."""

log = logging.getLogger(__name__)


class Phase(Enum):
    """What the session is doing; the value is how it is called on screen."""

    UNLOADED = "not loaded"
    LOADING = "loading"
    READY = "ready"
    READING = "reading"
    ANSWERING = "answering"


@dataclass(frozen=True, slots=True)
class Status:
    """Everything that is shown of the engine; replaced as a whole, so always consistent.

    ``runnable``: what is loaded or would be for the next question; ``progress``: fraction of the
    load; ``timings``: of the running or last answer; ``memory``: bytes of the worker.
    """

    phase: Phase = Phase.UNLOADED
    runnable: Runnable | None = None
    info: ModelInfo | None = None
    progress: float = 0.0
    timings: Timings | None = None
    memory: int | None = None

    @property
    def busy(self) -> bool:
        """Whether there is something that ``stop`` would end."""
        return self.phase in {Phase.LOADING, Phase.READING, Phase.ANSWERING}


Job = Callable[[threading.Event], None]


class Session:
    """Loads, asks, stops and unloads; ``notify`` is called from either thread.

    A worker that dies leaves the conversation as it is, and the next question starts another.
    """

    def __init__(
        self,
        load: Load,
        memory: Memory,
        notify: Callable[[], None],
        *,
        system: str = "",
        sampling: Sampling | None = None,
    ) -> None:
        self.status = Status()
        self.conversation = Conversation(system)
        self.sampling = sampling or Sampling()
        self._start_engine, self._read_memory, self._notify = load, memory, notify
        self._engine: Engine | None = None
        self._last_notice = self._last_memory = 0.0
        self._lock = threading.Lock()
        self._cancel = threading.Event()
        self._jobs: queue.SimpleQueue[tuple[Job, threading.Event] | None] = queue.SimpleQueue()
        # A daemon, so that a load that hangs cannot keep the program from ending.
        self._thread = threading.Thread(target=self._work, name="session", daemon=True)
        self._thread.start()

    # What the user does; called from the thread of the screen.

    def load(self, runnable: Runnable) -> None:
        """Replace what is loaded by ``runnable``; a running answer is stopped and kept."""
        self.stop()
        self._submit(lambda cancel: self._load(runnable, cancel))

    def ask(self, text: str) -> bool:
        """Ask a question, loading the model again if need be; False if that cannot be now."""
        runnable = self.status.runnable
        if self.status.busy or runnable is None:
            return False
        conversation = self.conversation
        answer = Answer(model=f"{runnable.name} {runnable.quantisation}")
        conversation.rows += [Question(text), answer]
        loaded = self.status.info is not None
        phase = Phase.READING if loaded else Phase.LOADING
        self._set(phase=phase, progress=0.0, timings=None)
        self._submit(lambda cancel: self._answer(conversation, answer, cancel))
        return True

    def stop(self) -> None:
        """End the running load or answer; what was answered so far stays."""
        if not self.status.busy:
            return
        self._cancel.set()
        if (engine := self._engine) is not None:
            with suppress(PitoolError):  # one that is dead has nothing to end
                engine.cancel()

    def unload(self) -> None:
        """End the worker, which gives its memory back."""
        self.stop()
        self._submit(lambda _: self._drop())

    def new(self) -> None:
        """Begin an empty conversation with the same system prompt; a running answer is stopped."""
        self.stop()
        self.conversation = Conversation(self.conversation.system)
        self._notify()
        self._submit(lambda _: self._set(timings=None))

    def close(self, seconds: float = 5.0) -> None:
        """End the worker and the thread; gives up waiting after ``seconds``."""
        self.unload()
        self._jobs.put(None)
        self._thread.join(seconds)

    # What the thread does.

    def _submit(self, job: Job) -> None:
        self._cancel = threading.Event()
        self._jobs.put((job, self._cancel))

    def _work(self) -> None:
        while (item := self._jobs.get()) is not None:
            job, cancel = item
            try:
                job(cancel)
            except Exception as error:  # a fault of ours must not end the chat
                self._report(self.conversation, error)

    def _report(self, conversation: Conversation, error: Exception) -> None:
        """Put an error into the conversation, and let go of an engine that is dead."""
        if isinstance(error, WorkerDied):
            self._drop()
            again = "the next question loads the model again"
            notice = Notice(error.what, f"{error.do}; {again}" if error.do else again)
        elif isinstance(error, PitoolError):
            notice = Notice(error.what, error.do)
        else:
            log.exception("fault in the session", exc_info=error)
            notice = Notice(f"a fault in pitool: {error!r}", "ask again, and report it if it stays")
        conversation.rows.append(notice)
        self._set(phase=Phase.UNLOADED if self._engine is None else Phase.READY)

    def _drop(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            with suppress(PitoolError):
                engine.close()
        self._set(phase=Phase.UNLOADED, info=None, memory=None, timings=None)

    def _load(self, runnable: Runnable, cancel: threading.Event) -> None:
        self._drop()
        self._set(runnable=runnable)
        with suppress(Interrupted):
            self._start(runnable, cancel)
            self._set(phase=Phase.READY)

    def _start(self, runnable: Runnable, cancel: threading.Event) -> Engine:
        """Return the engine, just started; Interrupted if it was stopped meanwhile."""

        def progress(fraction: float) -> None:
            if cancel.is_set():
                raise Interrupted("the load was stopped")
            self._set(often=fraction < 1, progress=fraction)

        self._set(phase=Phase.LOADING, progress=0.0)
        try:
            engine = self._start_engine(runnable, progress)
        except PitoolError:
            self._set(phase=Phase.UNLOADED, progress=0.0)
            raise
        self._engine = engine
        if cancel.is_set():
            self._drop()
            raise Interrupted("the load was stopped")
        self._set(info=engine.info, progress=1.0, memory=self._read_memory(engine.pid))
        return engine

    def _answer(self, conversation: Conversation, answer: Answer, cancel: threading.Event) -> None:
        finish: Finish | None = None
        try:
            finish = self._stream_or_restart(conversation, answer, cancel)
            answer.finish = finish
            self._set(phase=Phase.READY)
        except Interrupted:
            answer.finish = "cancelled"
            self._set()
        except Exception as error:
            answer.finish = "failed"
            self._report(conversation, error)
        if finish == "context":
            self._say_full(conversation)

    def _stream_or_restart(
        self, conversation: Conversation, answer: Answer, cancel: threading.Event
    ) -> Finish:
        """Stream the answer; a worker that died before the question is quietly started again."""
        if self._engine is not None:
            try:
                return self._stream(self._engine, conversation, answer, cancel)
            except WorkerDied:
                if answer.timings is not None:
                    raise
                self._drop()
        engine = self._start(self._chosen(), cancel)
        return self._stream(engine, conversation, answer, cancel)

    def _stream(
        self,
        engine: Engine,
        conversation: Conversation,
        answer: Answer,
        cancel: threading.Event,
    ) -> Finish:
        finish: Finish = "stop"
        told = False
        self._set(phase=Phase.READING)
        for token in engine.stream(conversation.messages(before=answer), self.sampling):
            if cancel.is_set() and not told:  # stop may have come before the stream began
                engine.cancel()
                told = True
            self._take(token, answer, engine)
            finish = token.finish or finish
        self._set(memory=self._read_memory(engine.pid))
        return finish

    def _take(self, token: Token, answer: Answer, engine: Engine) -> None:
        answer.add(token)
        now, memory = time.monotonic(), self.status.memory
        if now - self._last_memory >= MEMORY_SECONDS:
            self._last_memory, memory = now, self._read_memory(engine.pid)
        phase = Phase.READING if token.id is None else Phase.ANSWERING
        if token.finish is not None:
            phase = self.status.phase
        often = token.id is not None and phase is self.status.phase
        self._set(often=often, phase=phase, timings=token.timings, memory=memory)

    def _say_full(self, conversation: Conversation) -> None:
        size = self.status.info.settings.context if self.status.info else 0
        what = f"the context of {size} tokens is full"
        do = "begin a new conversation with Ctrl+N, or start again with a larger --context"
        conversation.rows.append(Notice(what, do))
        self._set()

    def _chosen(self) -> Runnable:
        runnable = self.status.runnable
        assert runnable is not None  # ask refuses without one
        return runnable

    def _set(self, *, often: bool = False, **changes: object) -> None:
        """Change the status and have somebody look; changes that come often are capped."""
        with self._lock:
            self.status = replace(self.status, **changes)  # type: ignore[arg-type]
        now = time.monotonic()
        if not often or now - self._last_notice >= FRAME_SECONDS:
            self._last_notice = now
            self._notify()
