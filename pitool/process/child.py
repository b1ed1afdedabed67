"""The parent's side: a Python module in a process of its own, asked over a wire.

Several requests may be open at once, each from a thread of its own. They carry numbers, by which
one thread hands what arrives to whoever waits for it: a request that was given up gets nothing
more, and one that is read slowly holds up no other. Closing never blocks, whatever the child is
stuck in and whichever threads wait for it, and no child outlives the program. A death becomes one
``WorkerDied`` that says why and what to do.
"""

from __future__ import annotations

import atexit
import io
import itertools
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from typing import Any, BinaryIO, NamedTuple, cast

from pitool.errors import PitoolError, WorkerDied
from pitool.process.signs import signs_of_life
from pitool.process.wire import LOOK_SECONDS, Received, Wire, error_from_json

# How a close divides its time: the end of the pipe, SIGTERM, SIGKILL. Even the last is no promise:
# a process that waits for a broken disk stays until the kernel gives up.
HANG_UP_SHARE, TERMINATE_SHARE, KILL_SHARE = 0.6, 0.2, 0.2
LAST_WORDS_BYTES = 4096
_DEATHS = {
    signal.SIGKILL: "killed, most likely because memory ran out",
    signal.SIGILL: "stopped by an instruction that this CPU does not have",
    signal.SIGABRT: "aborted by the runtime",
    signal.SIGSEGV: "stopped by a memory fault in the runtime",
    signal.SIGBUS: "stopped because the model file changed or the disk failed",
    signal.SIGTERM: "terminated by another process",
}
_REMEDIES = {signal.SIGILL: "install a wheel that is built for this board"}


_started: weakref.WeakSet[Child] = weakref.WeakSet()


@atexit.register
def kill_all() -> None:
    """Leave no child behind, whatever thread still waits for it or did not come to close it.

    Done at the end of the program; one that leaves by ``os._exit`` calls it.
    """
    for child in list(_started):
        child.kill()


def _ignore(_event: dict[str, Any]) -> None:
    """Take no interest in what comes before a result."""


def _go_on() -> None:
    """Wait for what comes next."""


class Result(NamedTuple):
    """What a request came to: a JSON value and raw bytes."""

    value: Any
    payload: bytes | bytearray


class _Request:
    """One that is open: its number, what came for it, and how long the child has stood still."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.inbox: queue.SimpleQueue[Received | None] = queue.SimpleQueue()
        self.cancelled = False
        self.still = 0
        self.signs: tuple[str, ...] | None = None


class Child:
    """A process that runs ``module``, which calls ``service.serve``.

    ``name`` and ``advice`` are for the sentence of a death: what died, and what to do; ``remedies``
    are better advice for some signals. ``close_seconds`` is the longest that a close takes;
    ``environment`` is added to this process's own. One that neither says anything nor shows a sign
    of life for ``silence_seconds`` of a request is taken for dead, and killed.

    ``explain`` knows of what a child depends on outside of this machine: it is asked for the
    sentence of a death, and of a silence, in which None means that all is well and goes on.
    """

    def __init__(
        self,
        module: str,
        *,
        name: str,
        advice: str,
        remedies: Mapping[signal.Signals, str] | None = None,
        close_seconds: float = 5.0,
        silence_seconds: float | None = None,
        environment: Mapping[str, str] | None = None,
        explain: Callable[[], WorkerDied | None] | None = None,
    ) -> None:
        self._name, self._advice, self._explain = name, advice, explain
        self._explained: WorkerDied | None = None
        self._remedies = {**_REMEDIES, **(remedies or {})}
        self._close_seconds, self._silence_seconds = close_seconds, silence_seconds
        self._numbers = itertools.count(1)
        self._lock, self._dying = threading.Lock(), threading.Lock()
        self._open: dict[int, _Request] = {}
        self._ended = self._stuck = self._silent = False
        # Native libraries write what they like to stderr; it explains a crash.
        self._stderr = cast("BinaryIO", tempfile.TemporaryFile())  # noqa: SIM115 - closed in close
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", module],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                # A group of its own, since Ctrl-C belongs to the parent; but the same session: when
                # the parent is killed, the kernel wakes a child that is stopped (setpgid(2), of a
                # group that becomes orphaned), and it sees the end of its pipe.
                process_group=0,
                env={**os.environ, "GGML_NO_BACKTRACE": "1", **(environment or {})},
            )
        except OSError as error:
            self._stderr.close()
            reason = error.strerror or error
            raise PitoolError(f"cannot start {name} ({reason})", "close other programs") from None
        self.pid = self._process.pid
        incoming, outgoing = self._process.stdout, self._process.stdin
        assert incoming and outgoing
        os.set_blocking(outgoing.fileno(), False)
        self._wire = Wire(cast("io.RawIOBase", incoming), cast("io.RawIOBase", outgoing))
        _started.add(self)
        threading.Thread(target=self._read, name=f"reads {name}", daemon=True).start()

    # -- requests --------------------------------------------------------------------------

    def call(
        self,
        method: str,
        on_event: Callable[[dict[str, Any]], object] = _ignore,
        on_wait: Callable[[], object] = _go_on,
        **arguments: Any,
    ) -> Result:
        """Return the result of a request; what comes before it goes to ``on_event``.

        ``on_wait`` is called several times a second while nothing comes. What either raises gives
        the request up. Raises the PitoolError that was raised in the child, WorkerDied when the
        child is gone.
        """
        events = self._stream(method, on_wait, arguments)
        try:
            while True:
                on_event(next(events))
        except StopIteration as end:
            return cast("Result", end.value)
        finally:
            events.close()

    def stream(self, method: str, **arguments: Any) -> Generator[dict[str, Any], None, Result]:
        """Yield the events of a request and return its result; leaving early cancels the rest."""
        return self._stream(method, _go_on, arguments)

    def _stream(
        self, method: str, on_wait: Callable[[], object], arguments: Mapping[str, Any]
    ) -> Generator[dict[str, Any], None, Result]:
        request = self._begin()

        def wait() -> None:
            self._look(request)
            on_wait()

        try:
            try:
                self._wire.send({"id": request.number, "do": method, **arguments}, waiting=wait)
            except (OSError, ValueError):
                raise self._death() from None
            while True:
                message, payload = self._receive(request, wait)
                if "result" in message:
                    self._end(request)
                    return Result(message["result"], payload)
                if "error" in message:
                    self._end(request)
                    raise error_from_json(message["error"])
                yield message
        finally:
            if self._end(request):
                self._give_up(request.number)

    def cancel(self) -> None:
        """Ask the child to give up every open request; from any thread, never blocks."""
        with self._lock:
            requests = list(self._open.values())
        for request in requests:
            request.cancelled = True
            self._give_up(request.number)

    def _give_up(self, number: int) -> None:
        """Have a request cancelled, now or, where the wire is busy, with its next event."""
        with suppress(OSError, ValueError):  # it is gone, and so is the request
            self._wire.try_to_send({"id": number, "do": "cancel"})

    def _begin(self) -> _Request:
        """Open a request; WorkerDied where nobody is left to answer it."""
        with self._lock:
            if not self._silent:
                request = _Request(next(self._numbers))
                self._open[request.number] = request
                return request
        raise self._death()

    def _end(self, request: _Request) -> bool:
        """Close a request; False where that was done before."""
        with self._lock:
            return self._open.pop(request.number, None) is not None

    def _read(self) -> None:
        """Hand each message to its request; what nobody waits for any more is dropped."""
        with suppress(OSError, ValueError):
            while (received := self._wire.receive()) is not None:
                number = int(received.message["id"])
                with self._lock:
                    request = self._open.get(number)
                if request is not None:
                    request.inbox.put(received)
                ended = "result" in received.message or "error" in received.message
                if not ended and (request is None or request.cancelled):
                    self._give_up(number)
        with self._lock:
            self._silent = True
            waiting = list(self._open.values())
        for request in waiting:
            request.inbox.put(None)
        self._process.wait()  # one that died while nobody asked anything of it is no zombie

    def _receive(self, request: _Request, wait: Callable[[], object]) -> Received:
        """Return the next message of a request."""
        while True:
            try:
                received = request.inbox.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                wait()
                continue
            if received is None:
                raise self._death()
            request.still = 0
            return received

    def _look(self, request: _Request) -> None:
        """Give up a child that was closed meanwhile, or does nothing any more.

        Looks are counted, not seconds: while this process is stopped as well, none pass.
        """
        if self._ended:
            raise self._death()
        if self._silence_seconds is None:
            return
        before, request.signs = request.signs, signs_of_life(self.pid)
        request.still = request.still + 1 if request.signs == before is not None else 0
        if request.still * LOOK_SECONDS >= self._silence_seconds:
            if self._explain is not None:
                self._explained = self._explain()
                if self._explained is None:  # it waits for others, who work
                    request.still = 0
                    return
            self._stuck = True
            self._process.kill()
            raise self._death()

    # -- the end ---------------------------------------------------------------------------

    def close(self) -> None:
        """End the child; its memory is back when this returns. From any thread, never blocks."""
        self._ended = True
        # One that is stopped sees no end of a pipe and takes no signal but this one and SIGKILL.
        self._process.send_signal(signal.SIGCONT)
        gone = self._wire.hang_up() and self._gone_within(HANG_UP_SHARE)
        if not gone:
            self._process.send_signal(signal.SIGTERM)
            gone = self._gone_within(TERMINATE_SHARE)
        if not gone:
            self._process.kill()
            gone = self._gone_within(KILL_SHARE)
        if gone:
            _started.discard(self)
        self._wire.close(KILL_SHARE * self._close_seconds)
        self._stderr.close()

    @property
    def alive(self) -> bool:
        """Whether the process runs; from any thread."""
        return self._process.poll() is None

    def kill(self) -> None:
        """End the child at once, from any thread; who waits for it gets a ``WorkerDied``."""
        self._ended = True
        self._process.kill()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _gone_within(self, share: float) -> bool:
        """Wait for the end of the child, for a share of the seconds that a close may take."""
        try:
            self._process.wait(share * self._close_seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _death(self) -> WorkerDied:
        """Return why the child is gone, with what it wrote last."""
        with self._dying:  # those who wait learn of it at the same moment, and it is one file
            written = "" if self._ended else self._last_words()
            if self._explain is not None and not self._ended and self._explained is None:
                self._explained = self._explain()
            known = self._explained
            died = (
                WorkerDied(known.what, known.do)
                if known is not None
                else self._why(written.rpartition("\n")[2].strip()[:200])
            )
            died.details = written
            return died

    def _why(self, last: str) -> WorkerDied:
        """Return why the child is gone, in a sentence; ``last``: the last line that it wrote."""
        said = f" after printing: {last}" if last else ""
        if self._stuck:
            seconds = f"{self._silence_seconds:g} seconds"
            return WorkerDied(f"{self._name} did nothing for {seconds}", self._advice)
        if self._ended:
            return WorkerDied(f"{self._name} was closed", self._advice)
        if not self._gone_within(HANG_UP_SHARE):
            return WorkerDied(f"{self._name} is not responding", self._advice)
        code = self._process.returncode
        if code >= 0:
            return WorkerDied(f"{self._name} exited with code {code}{said}", self._advice)
        number = signal.Signals(-code)
        how = _DEATHS.get(number, "terminated by a signal")
        said = said if number == signal.SIGABRT else ""
        return WorkerDied(
            f"{self._name} was {how} ({number.name}){said}",
            self._remedies.get(number, self._advice),
        )

    def _last_words(self) -> str:
        """Return the end of what the child wrote to stderr."""
        try:
            size = self._stderr.seek(0, os.SEEK_END)
            self._stderr.seek(max(size - LAST_WORDS_BYTES, 0))
            return self._stderr.read().decode(errors="replace").strip()
        except ValueError:  # closed meanwhile
            return ""
