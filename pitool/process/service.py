"""The child's side: answers the requests of one parent over stdin and stdout.

One thread does all of it. A method that would take long may leave its call unanswered and let
``work`` answer it step by step, between which other calls are begun; so that several are answered
at once, and nothing that they share needs a lock. Ends when the parent's end of the pipe closes,
so that nothing outlives the program that wanted it.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from pitool.errors import PitoolError
from pitool.process.wire import Wire, error_to_json


class Call:
    """One request: its arguments, and the way back to who asked.

    ``cancelled`` is set from another thread when the parent has given it up; ``begun`` when its
    method is called, ``answered`` when its result or error is on the way.
    """

    def __init__(self, connection: Wire, message: dict[str, Any]) -> None:
        self._wire, self.arguments = connection, message
        self.number = message.pop("id")
        self.method = message.pop("do")
        self.cancelled = self.begun = self.answered = False

    def event(self, **values: Any) -> None:
        """Send something that comes before the result."""
        self._wire.send({"id": self.number, **values})

    def result(self, value: Any = None, payload: bytes = b"") -> None:
        """Send the result, which ends the request."""
        self.answered = True
        self._wire.send({"id": self.number, "result": value}, payload)

    def fail(self, error: PitoolError) -> None:
        """Send an error, which ends the request."""
        self.answered = True
        self._wire.send({"id": self.number, "error": error_to_json(error)})


Method = Callable[[Call], None]
"""Answers a call by one result, raises a PitoolError, or leaves the call to ``work``."""


def _no_work() -> bool:
    """Leave nothing to do between two calls."""
    return False


def serve(
    methods: Mapping[str, Method],
    *,
    work: Callable[[], bool] = _no_work,
    cancel: Callable[[], None] = lambda: None,
    abandon: Callable[[], None] = lambda: os._exit(0),
) -> None:
    """Begin calls in order in this thread until the parent is gone.

    ``work`` does a step of what calls have left to it, and tells whether there is more; it is
    called whenever no call waits to be begun, and once after each. ``cancel`` is called from
    another thread when a call that has begun is cancelled; ``abandon`` when the parent is gone in
    the middle of one, which may take a while and is worth nothing then. What native code prints
    goes to stderr.
    """
    incoming = os.fdopen(os.dup(0), "rb", buffering=0)
    outgoing = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    _Service(Wire(incoming, outgoing), methods, work, cancel, abandon).run()
    os._exit(0)  # taking a model apart piece by piece helps nobody


class _Service:
    def __init__(
        self,
        connection: Wire,
        methods: Mapping[str, Method],
        work: Callable[[], bool],
        cancel: Callable[[], None],
        abandon: Callable[[], None],
    ) -> None:
        self._wire, self._methods = connection, methods
        self._work, self._cancel, self._abandon = work, cancel, abandon
        self._calls: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._open: dict[int, Call] = {}

    def run(self) -> None:
        threading.Thread(target=self._read, daemon=True).start()
        more = False
        with suppress(BrokenPipeError):
            while True:
                with suppress(queue.Empty):
                    if (call := self._calls.get(block=not more)) is None:
                        return
                    self._begin(call)
                more = self._work()
                self._forget_answered()

    def _begin(self, call: Call) -> None:
        call.begun = True
        try:
            self._methods[call.method](call)
        except PitoolError as error:
            call.fail(error)

    def _forget_answered(self) -> None:
        with self._lock:
            for call in [call for call in self._open.values() if call.answered]:
                del self._open[call.number]

    def _read(self) -> None:
        """Take messages off the pipe at once, so that a cancel is never behind a request."""
        while (received := self._wire.receive()) is not None:
            message = received.message
            if message["do"] == "cancel":
                self._mark(message["id"])
                continue
            call = Call(self._wire, message)
            with self._lock:
                self._open[call.number] = call
            self._calls.put(call)
        self._calls.put(None)
        with self._lock:
            if not all(call.answered for call in self._open.values()):
                self._abandon()

    def _mark(self, number: int) -> None:
        """Cancel a call that is open; one that has been answered meanwhile is left in peace."""
        with self._lock:
            call = self._open.get(number)
            if call is None or call.answered:
                return
            call.cancelled = True
            if call.begun:
                self._cancel()
