"""One engine and one conversation: what a user can do with them; knows no screen.

The session owns all state that a chat shows. Its methods never raise for what the engine does:
that is done by its tasks, one after another, and its outcome is a change of ``status`` or a row of
``conversation``; ``notify`` is called so that somebody looks. With the thread of ``TaskThread`` the
methods return at once, with ``TasksAtOnce`` when the work is done.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

from pitool.catalog.bundles import Runnable
from pitool.catalog.unicode import well_formed
from pitool.chat.answer import CHAT, PromptStyle
from pitool.chat.engine_slot import EngineSlot, Load
from pitool.chat.operations import Memory, Operations
from pitool.chat.status import LiveStatus, Phase, Status, WhenFull
from pitool.chat.tasks import Failed, Task, Tasks, TaskThread
from pitool.engine.base import Message, Sampling
from pitool.engine.prefills.files import Prefills
from pitool.store.conversation import (
    Answer,
    Conversation,
    ConversationRow,
    Notice,
    Question,
    Recorder,
    Unrecorded,
)


class Session:
    """Loads, asks, stops and unloads; ``notify`` is called by whoever does the tasks, too.

    A worker that dies leaves the conversation as it is, and the next question starts another.
    ``frame_seconds``: least time between two notifications of one answer, else as often as
    ``pace`` allows.
    """

    def __init__(
        self,
        load: Load,
        memory: Memory,
        notify: Callable[[], None],
        *,
        system: str = "",
        recorder: Recorder | None = None,
        prefills: Prefills | None = None,
        style: PromptStyle = CHAT,
        tasks: Callable[[Failed], Tasks] = TaskThread,
        frame_seconds: float | None = None,
    ) -> None:
        self.conversation = Conversation(well_formed(system))
        self.recorder = recorder or Unrecorded()
        self._live = LiveStatus(notify, frame_seconds)
        slot = EngineSlot(load, prefills)
        self._operations = Operations(self._live, slot, memory, self.recorder, style)
        self._answering: Task | None = None
        self._tasks = tasks(lambda error: self._operations.report(self.conversation, error))

    @property
    def status(self) -> Status:
        """What is shown of the engine."""
        return self._live.status

    @property
    def last_error(self) -> Exception | None:
        """What the last load or answer ended in, None where all went well."""
        return self._operations.last_error

    def choose(self, runnable: Runnable) -> None:
        """Name what the next question loads, where nothing is loaded."""
        self._live.set(runnable=runnable, planned=runnable.planned)

    def load(self, runnable: Runnable) -> None:
        """Replace what is loaded by ``runnable``; a running answer is stopped and kept."""
        self.stop()
        self._tasks.add(lambda cancel: self._operations.load(runnable, cancel))

    def ask(self, text: str, instead: Question | None = None) -> bool:
        """Ask a question, loading the model again if need be; False if that cannot be now.

        ``instead`` of an earlier question: that one and all after it are kept as a variant.
        """
        if not self._free:
            return False
        aside: list[ConversationRow] = []
        if instead is not None:
            aside = self.conversation.set_aside(instead)
        question = Question(text)
        self.conversation.rows.append(question)
        self._begin(*aside, question)
        return True

    def again(self) -> bool:
        """Answer the last question once more; its answer is kept as a variant."""
        question = self.conversation.last_question()
        if question is None or not self._free:
            return False
        rows = self.conversation.rows
        place = next(i for i, row in enumerate(rows) if row is question) + 1
        aside: list[ConversationRow] = []
        if any(isinstance(row, Answer) and row.text for row in rows[place:]):
            aside = self.conversation.set_aside(rows[place])
        elif place < len(rows):
            self.recorder.remove(self.conversation, self.conversation.cut(rows[place]))
        self._begin(*aside)
        return True

    def turn(self, row: ConversationRow, step: int) -> bool:
        """Go on with another variant of what begins with ``row``; False while something runs."""
        if self.status.busy:
            return False
        conversation = self.conversation
        self.recorder.put(conversation, *conversation.turn(row, step))
        self._live.set(timings=None, rate_now=0.0, dropped=conversation.turns_dropped)
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

    def _begin(self, *rows: ConversationRow) -> None:
        runnable = self.status.runnable
        assert runnable is not None  # nothing is asked without one
        answer = Answer(model=f"{runnable.name} {runnable.quantisation}")
        self.conversation.rows.append(answer)
        self.recorder.put(self.conversation, *rows, answer)
        self._answer_later(answer)

    def _answer_later(self, answer: Answer) -> None:
        conversation = self.conversation
        phase = Phase.READING if self.status.info is not None else Phase.LOADING
        self._live.set(phase=phase, progress=0.0, timings=None, rate_now=0.0)
        self._answering = self._tasks.add(
            lambda cancel: self._operations.answer(conversation, answer, cancel),
            interrupt=self._operations.cancel,
        )

    def stop(self) -> None:
        """End what runs and what was asked for since; what was answered so far stays."""
        self._tasks.stop()

    def unload(self) -> None:
        """End the worker, which gives its memory back."""
        self.stop()
        self._tasks.add(lambda _: self._operations.drop())

    def new(self) -> None:
        """Begin an empty conversation with the same system prompt and sampling."""
        old = self.conversation
        self.open(Conversation(old.system, sampling=old.sampling))

    def open(self, conversation: Conversation) -> None:
        """Go on with another conversation; a running answer is stopped and kept.

        A load goes on, and so does what is measured.
        """
        if self._answering is not None:
            self._answering.cancel()
        self.conversation = conversation
        self._live.look()
        self._tasks.add(
            lambda _: self._live.set(timings=None, rate_now=0.0, dropped=conversation.turns_dropped)
        )

    def clear(self) -> bool:
        """Remove all rows of the conversation; False while something runs."""
        if self.status.busy:
            return False
        conversation = self.conversation
        self.recorder.remove(conversation, conversation.empty())
        self._live.set(timings=None, rate_now=0.0, dropped=0)
        return True

    def set_system(self, text: str) -> None:
        """Change the system prompt of the conversation."""
        self.conversation.system = well_formed(text)
        if self.conversation.rows:
            self.recorder.put(self.conversation)

    def set_sampling(self, sampling: Sampling) -> None:
        """Change how the next answers are sampled."""
        self.conversation.sampling = sampling
        if self.conversation.rows:
            self.recorder.put(self.conversation)

    def set_when_full(self, policy: WhenFull) -> None:
        """Change what happens when the context is full."""
        self._live.set(when_full=policy)

    def pace(self, seconds: float) -> None:
        """Be told what CPU time a look took; the next ones come as often as that allows."""
        self._live.pace(seconds)

    def look(self) -> None:
        """Have somebody look at what changed of the conversation."""
        self._live.look()

    def say(self, what: str, do: str = "") -> None:
        """Put a notice into the conversation."""
        self._operations.say(self.conversation, Notice(what, do))

    def step_aside(
        self, work: Callable[[threading.Event], None], interrupt: Callable[[], object]
    ) -> Task | None:
        """End the worker and do something in its place that loads models; None if busy.

        The event is set when the user wants it to end, then ``interrupt`` is called, which ends a
        blocking call; the next question loads the model again.
        """
        if self.status.busy:
            return None
        self._live.set(phase=Phase.MEASURING)

        def job(cancel: threading.Event) -> None:
            self._operations.drop()
            self._live.set(phase=Phase.MEASURING)
            try:
                work(cancel)
            finally:
                self._live.set(phase=Phase.UNLOADED)

        return self._tasks.add(job, interrupt)

    def for_comparison(self, prompt: str) -> tuple[list[Message], Sampling]:
        """Return a prompt with the system prompt here, and sampling without chance."""
        asked = Conversation(self.conversation.system, [Question(prompt)])
        return asked.messages(), replace(self.conversation.sampling, temperature=0.0)

    def afterwards(self, work: Callable[[], None]) -> None:
        """Do something after all that was asked for so far, in the session's thread."""
        self._tasks.add(lambda _: work())

    def close(self, seconds: float = 5.0) -> None:
        """End the worker and the thread; gives up waiting after ``seconds``."""
        self.unload()
        self._tasks.close(seconds)
