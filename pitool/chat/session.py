"""One engine and one conversation: what a user can do with them; knows no screen.

The session owns all state that a chat shows. Its methods are called from the thread of the screen,
return at once and never raise for what the engine does: the work is done in order by a thread of
its own, its outcome is a change of ``status`` or a row of ``conversation``, and ``notify`` is
called so that somebody looks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

from pitool.catalog.bundles import Runnable
from pitool.chat.errands import Errands
from pitool.chat.keep import Keep, Nowhere
from pitool.chat.loaded import Load, Loaded
from pitool.chat.state import State
from pitool.chat.status import Phase, Status, WhenFull
from pitool.chat.work import Memory, Use, Work
from pitool.engine.base import Message, Sampling
from pitool.store.conversation import Answer, Conversation, Notice, Question, Row
from pitool.store.prefills import Prefills


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
        self.conversation = Conversation(system)
        self.keep = keep or Nowhere()
        self._state = State(notify)
        self._work = Work(self._state, Loaded(load, prefills), memory, self.keep)
        self._errands = Errands(lambda error: self._work.report(self.conversation, error))

    @property
    def status(self) -> Status:
        """What is shown of the engine."""
        return self._state.status

    def choose(self, runnable: Runnable) -> None:
        """Name what the next question loads, where nothing is loaded."""
        self._state.set(runnable=runnable, planned=runnable.planned)

    def load(self, runnable: Runnable) -> None:
        """Replace what is loaded by ``runnable``; a running answer is stopped and kept."""
        self.stop()
        self._errands.add(lambda cancel: self._work.load(runnable, cancel))

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
        runnable = self.status.runnable
        assert runnable is not None  # nothing is asked without one
        answer = Answer(model=f"{runnable.name} {runnable.quantisation}")
        self.conversation.rows.append(answer)
        self.keep.put(self.conversation, *rows, answer)
        self._answer_later(answer)

    def _answer_later(self, answer: Answer) -> None:
        conversation = self.conversation
        phase = Phase.READING if self.status.info is not None else Phase.LOADING
        self._state.set(phase=phase, progress=0.0, timings=None, rate_now=0.0)
        self._errands.add(lambda cancel: self._work.answer(conversation, answer, cancel))

    def stop(self) -> None:
        """End the running load or answer; what was answered so far stays."""
        if not self.status.busy:
            return
        self._errands.cancel()
        self._work.cancel()

    def unload(self) -> None:
        """End the worker, which gives its memory back."""
        self.stop()
        self._errands.add(lambda _: self._work.drop())

    def new(self) -> None:
        """Begin an empty conversation with the same system prompt and sampling."""
        old = self.conversation
        self.open(Conversation(old.system, sampling=old.sampling))

    def open(self, conversation: Conversation) -> None:
        """Go on with another conversation; a running answer is stopped and kept.

        A load goes on, and so does what is measured.
        """
        answer = self.conversation.last_answer()
        if answer is not None and answer.finish is None:
            self.stop()
        self.conversation = conversation
        self._state.look()
        self._errands.add(
            lambda _: self._state.set(
                timings=None, rate_now=0.0, dropped=conversation.turns_dropped
            )
        )

    def clear(self) -> bool:
        """Remove all rows of the conversation; False while something runs."""
        if self.status.busy:
            return False
        conversation = self.conversation
        removed, conversation.rows = conversation.rows, []
        conversation.dropped = 0
        self.keep.remove(conversation, removed)
        self._state.set(timings=None, rate_now=0.0, dropped=0)
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
        self._state.set(when_full=policy)

    def pace(self, seconds: float) -> None:
        """Be told what CPU time a look took; the next ones come as often as that allows."""
        self._state.pace(seconds)

    def say(self, what: str, do: str = "") -> None:
        """Put a notice into the conversation."""
        self._work.say(self.conversation, Notice(what, do))

    def borrow(self, use: Use) -> bool:
        """Lend the engine to ``use``, in the session's thread; False if that cannot be now."""
        if not self._free:
            return False
        self._state.set(phase=Phase.MEASURING)
        self._errands.add(lambda cancel: self._work.lend(use, cancel))
        return True

    def step_aside(self, work: Callable[[threading.Event], None]) -> bool:
        """End the worker and do something in its place that loads models; False if busy.

        The event is set when the user wants it to end; the next question loads the model again.
        """
        if self.status.busy:
            return False
        self._state.set(phase=Phase.MEASURING)

        def job(cancel: threading.Event) -> None:
            self._work.drop()
            self._state.set(phase=Phase.MEASURING)
            work(cancel)
            self._state.set(phase=Phase.UNLOADED)

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
