"""One engine and one conversation, driven from a thread of its own; knows no screen.

The session owns all state that a chat shows. Its methods return at once and never raise for what
the engine does: the work is done in order by a single thread, its outcome is a change of
``status`` or a row of ``conversation``, and ``notify`` is called so that somebody looks.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from pitool.engine.base import Engine, Message, Sampling
from pitool.errors import Interrupted, PitoolError, WorkerDied
from pitool.spec.bundles import Runnable
from pitool.store.conversation import Answer, Conversation, Notice, Question, Row
from pitool.store.prefills import Prefills
from pitool.tui.answering import Answering
from pitool.tui.context import dropped_notice, full_notice
from pitool.tui.errands import Errands
from pitool.tui.keep import Keep, Nowhere
from pitool.tui.loaded import FileChange, Load, Loaded
from pitool.tui.status import Phase, Status, WhenFull

Memory = Callable[[int], int | None]
"""Bytes resident in a process, None where that cannot be read."""

FRAME_SECONDS, SLOWEST_SECONDS = 1 / 15, 1 / 4
"""Least time between two notifications of one answer, on a fast machine and on a slow one."""

SCREEN_SHARE = 0.025
"""Of one core, what drawing an answer may take: the cores belong to the model."""

log = logging.getLogger(__name__)

Use = Callable[[Engine, threading.Event], None]
"""What borrows the engine; the event is set when the user wants it back."""


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
        keep: Keep | None = None,
        prefills: Prefills | None = None,
    ) -> None:
        self.status = Status()
        self.conversation = Conversation(system)
        self.keep = keep or Nowhere()
        self._loaded = Loaded(load, prefills)
        self._read_memory, self._notify = memory, notify
        self._last_notice, self._frame_seconds = 0.0, FRAME_SECONDS
        self._lock = threading.Lock()
        self._errands = Errands(lambda error: self._report(self.conversation, error))

    # What the user does; called from the thread of the screen.

    def choose(self, runnable: Runnable) -> None:
        """Name what the next question loads, where nothing is loaded."""
        self._set(runnable=runnable, planned=runnable.planned)

    def load(self, runnable: Runnable) -> None:
        """Replace what is loaded by ``runnable``; a running answer is stopped and kept."""
        self.stop()
        self._errands.add(lambda cancel: self._load(runnable, cancel))

    def ask(self, text: str, instead: Question | None = None) -> bool:
        """Ask a question, loading the model again if need be; False if that cannot be now.

        ``instead`` of an earlier question: that one and all after it are removed.
        """
        if not self._free:
            return False
        if instead is not None:
            self.keep.remove(self.conversation, self.conversation.cut(instead))
        question = Question(text)
        self.conversation.rows.append(question)
        self._begin(question)
        return True

    def again(self) -> bool:
        """Answer the last question once more, in place of its answer."""
        question = self.conversation.last_question()
        if question is None or not self._free:
            return False
        rows = self.conversation.rows
        place = next(i for i, row in enumerate(rows) if row is question) + 1
        if place < len(rows):
            self.keep.remove(self.conversation, self.conversation.cut(rows[place]))
        self._begin()
        return True

    def resume(self) -> bool:
        """Go on with the last answer where it was cut."""
        answer = self.conversation.last_answer()
        if answer is None or not self.can_resume or not self._free:
            return False
        answer.finish = answer.timings = None
        self._answer_later(answer)
        return True

    @property
    def can_resume(self) -> bool:
        """Whether the last answer was cut."""
        answer = self.conversation.last_answer()
        return answer is not None and bool(answer.text) and answer.finish not in (None, "stop")

    @property
    def _free(self) -> bool:
        return not self.status.busy and self.status.runnable is not None

    def _begin(self, *rows: Row) -> None:
        runnable = self._chosen()
        answer = Answer(model=f"{runnable.name} {runnable.quantisation}")
        self.conversation.rows.append(answer)
        self.keep.put(self.conversation, *rows, answer)
        self._answer_later(answer)

    def _answer_later(self, answer: Answer) -> None:
        conversation = self.conversation
        phase = Phase.READING if self.status.info is not None else Phase.LOADING
        self._set(phase=phase, progress=0.0, timings=None, rate_now=0.0)
        self._errands.add(lambda cancel: self._answer(conversation, answer, cancel))

    def stop(self) -> None:
        """End the running load or answer; what was answered so far stays."""
        if not self.status.busy:
            return
        self._errands.cancel()
        if (engine := self._loaded.engine) is not None:
            with suppress(PitoolError):  # one that is dead has nothing to end
                engine.cancel()

    def unload(self) -> None:
        """End the worker, which gives its memory back."""
        self.stop()
        self._errands.add(lambda _: self._drop())

    def new(self) -> None:
        """Begin an empty conversation with the same system prompt and sampling."""
        old = self.conversation
        self.open(Conversation(old.system, sampling=old.sampling))

    def open(self, conversation: Conversation) -> None:
        """Go on with another conversation; a running answer is stopped and kept."""
        self.stop()
        self.conversation = conversation
        self._notify()
        self._errands.add(
            lambda _: self._set(timings=None, rate_now=0.0, dropped=conversation.turns_dropped)
        )

    def clear(self) -> bool:
        """Remove all rows of the conversation; False while something runs."""
        if self.status.busy:
            return False
        conversation = self.conversation
        removed, conversation.rows = conversation.rows, []
        conversation.dropped = 0
        self.keep.remove(conversation, removed)
        self._set(timings=None, rate_now=0.0, dropped=0)
        return True

    def set_system(self, text: str) -> None:
        """Change the system prompt of the conversation."""
        self.conversation.system = text
        if self.conversation.rows:
            self.keep.put(self.conversation)

    def set_sampling(self, sampling: Sampling) -> None:
        """Change how the next answers are sampled."""
        self.conversation.sampling = sampling
        if self.conversation.rows:
            self.keep.put(self.conversation)

    def set_when_full(self, policy: WhenFull) -> None:
        """Change what happens when the context is full."""
        self._set(when_full=policy)

    def pace(self, seconds: float) -> None:
        """Be told what CPU time a look took; the next ones come as often as that allows."""
        self._frame_seconds = max(FRAME_SECONDS, min(seconds / SCREEN_SHARE, SLOWEST_SECONDS))

    def say(self, what: str, do: str = "") -> None:
        """Put a notice into the conversation."""
        self._say(self.conversation, Notice(what, do))

    def borrow(self, use: Use) -> bool:
        """Lend the engine to ``use``, in the session's thread; False if that cannot be now."""
        if not self._free:
            return False
        self._set(phase=Phase.MEASURING)
        self._errands.add(lambda cancel: self._lend(use, cancel))
        return True

    def step_aside(self, work: Callable[[threading.Event], None]) -> bool:
        """End the worker and do something in its place that loads models; False if busy.

        The event is set when the user wants it to end; the next question loads the model again.
        """
        if self.status.busy:
            return False
        self._set(phase=Phase.MEASURING)

        def job(cancel: threading.Event) -> None:
            self._drop()
            self._set(phase=Phase.MEASURING)
            work(cancel)
            self._set(phase=Phase.UNLOADED)

        self._errands.add(job)
        return True

    def for_comparison(self, prompt: str) -> tuple[list[Message], Sampling]:
        """Return a prompt with the system prompt here, and sampling without chance."""
        asked = Conversation(self.conversation.system, [Question(prompt)])
        return asked.messages(), replace(self.conversation.sampling, temperature=0.0)

    def afterwards(self, work: Callable[[], None]) -> None:
        """Stop what runs and do something after it, in the session's thread."""
        self.stop()
        self._errands.add(lambda _: work())

    def close(self, seconds: float = 5.0) -> None:
        """End the worker and the thread; gives up waiting after ``seconds``."""
        self.unload()
        self._errands.close(seconds)

    # What the thread does.

    def _report(self, conversation: Conversation, error: Exception) -> None:
        """Put an error into the conversation, and let go of an engine that is dead."""
        if isinstance(error, WorkerDied):
            self._drop(dead=True)
            again = "the next question loads the model again"
            notice = Notice(error.what, f"{error.do}; {again}" if error.do else again)
        elif isinstance(error, PitoolError):
            notice = Notice(error.what, error.do)
        else:
            log.exception("fault in the session", exc_info=error)
            notice = Notice(f"a fault in pitool: {error!r}", "ask again, and report it if it stays")
        self._say(conversation, notice)
        self._set(phase=Phase.UNLOADED if self._loaded.engine is None else Phase.READY)

    def _say(self, conversation: Conversation, notice: Notice) -> None:
        kept = any(isinstance(row, Question) for row in conversation.rows)
        conversation.rows.append(notice)
        if kept:  # a conversation without a question is not worth a place in the list
            self.keep.put(conversation, notice)
        self._notify()

    def _drop(self, *, dead: bool = False) -> None:
        """End the engine; what it has read is saved first, unless it is dead."""
        self._loaded.drop(dead=dead)
        self._set(phase=Phase.UNLOADED, info=None, memory=None, timings=None, rate_now=0.0)

    def _load(self, runnable: Runnable, cancel: threading.Event) -> None:
        self._drop()
        self._set(runnable=runnable, planned=runnable.planned)
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
            engine = self._loaded.start(runnable, progress)
        except PitoolError:
            self._set(phase=Phase.UNLOADED, progress=0.0)
            raise
        from pitool.device.settings import worker_bytes  # the first screen does not wait for it

        if cancel.is_set():
            self._drop()
            raise Interrupted("the load was stopped")
        self._set(
            info=engine.info,
            progress=1.0,
            memory=self._read_memory(engine.pid),
            planned=worker_bytes(runnable, engine.info.settings) if runnable.artifact else None,
        )
        return engine

    def _answer(self, conversation: Conversation, answer: Answer, cancel: threading.Event) -> None:
        try:
            self._stream_or_restart(conversation, answer, cancel)
            self._set(phase=Phase.READY)
        except Interrupted:
            answer.finish = "cancelled"
            self._set()
        except Exception as error:
            answer.finish = "failed"
            self._report(conversation, error)
        self.keep.put(conversation, answer)
        if answer.finish == "context":
            size = self.status.info.settings.context if self.status.info else 0
            self._say(conversation, full_notice(size))

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
                self._drop(dead=True)
            else:
                return
        engine = self._start(self._chosen(), cancel)
        self._stream(engine, conversation, answer, cancel)

    def _look_at_file(self, conversation: Conversation) -> None:
        """Let go of a model whose file is another one since it was loaded."""
        what = f"the file of {self._chosen().name}"
        match self._loaded.file_change():
            case FileChange.CHANGED:
                self._say(conversation, Notice(f"{what} changed on disk", "it is loaded again"))
                self._drop(dead=True)  # what it has read is not of the new file
            case FileChange.GONE:
                notice = Notice(f"{what} is gone", "the loaded one goes on until /unload")
                self._say(conversation, notice)

    def _stream(
        self, engine: Engine, conversation: Conversation, answer: Answer, cancel: threading.Event
    ) -> None:
        self._set(phase=Phase.READING)
        answering = Answering(engine, conversation, answer, self._read_memory)
        restored = self._loaded.restore(engine, conversation)
        for change in answering.run(cancel, restored, drop=self.status.when_full == "drop"):
            self._set(often=change.often, **change.values)
            if change.dropped:
                self._say(conversation, dropped_notice(change.dropped))
                self._set(dropped=conversation.turns_dropped)
            self.keep.put(conversation, answer)
        self._loaded.entered(conversation, answer.timings.context_used if answer.timings else 0)

    def _lend(self, use: Use, cancel: threading.Event) -> None:
        with suppress(Interrupted):
            engine = self._loaded.engine or self._start(self._chosen(), cancel)
            self._loaded.lend(engine)
            self._set(phase=Phase.MEASURING)
            use(engine, cancel)
        self._set(phase=Phase.UNLOADED if self._loaded.engine is None else Phase.READY)

    def _chosen(self) -> Runnable:
        runnable = self.status.runnable
        assert runnable is not None  # ask refuses without one
        return runnable

    def _set(self, *, often: bool = False, **changes: object) -> None:
        """Change the status and have somebody look; changes that come often are capped."""
        with self._lock:
            self.status = replace(self.status, **changes)  # type: ignore[arg-type]
        now = time.monotonic()
        if not often or now - self._last_notice >= self._frame_seconds:
            self._last_notice = now
            self._notify()
