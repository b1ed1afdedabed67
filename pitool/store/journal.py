"""Writes conversations as they grow, from its own thread, at most once a second.

Callers never wait for the disk: on an SD card a commit can take as long as a token. What cannot be
written stays in memory and is tried again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pitool.errors import PitoolError
from pitool.store.conversation import Conversation, ConversationRow
from pitool.store.database import Database

SECONDS = 1.0


@dataclass(slots=True)
class _Pending:
    conversation: Conversation
    rows: dict[str, ConversationRow] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)


class Journal:
    """Takes changes from any thread; ``failed`` is called with the first of repeated errors."""

    def __init__(
        self,
        database: Database,
        failed: Callable[[PitoolError], None],
        seconds: float = SECONDS,
    ) -> None:
        self._database, self._failed, self._seconds = database, failed, seconds
        self._pending: dict[str, _Pending] = {}
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._wake, self._end = threading.Event(), threading.Event()
        self._failing = False
        self._forgotten: set[str] = set()
        self._thread = threading.Thread(target=self._work, name="journal", daemon=True)
        self._thread.start()

    def put(self, conversation: Conversation, *rows: ConversationRow) -> None:
        """Queue rows for writing, together with the system prompt and the sampling settings."""
        with self._lock:
            if conversation.key in self._forgotten:
                return
            pending = self._of(conversation)
            pending.rows.update((row.key, row) for row in rows)
        self._wake.set()

    def remove(self, conversation: Conversation, rows: list[ConversationRow]) -> None:
        """Queue rows for deletion."""
        with self._lock:
            pending = self._of(conversation)
            for row in rows:
                pending.rows.pop(row.key, None)
                pending.gone.add(row.key)
        self._wake.set()

    @contextmanager
    def forgetting(self, key: str) -> Iterator[None]:
        """Write nothing more of a conversation that is deleted meanwhile.

        Where the deleting fails, it is written as before.
        """
        with self._writing, self._lock:
            waiting = self._pending.pop(key, None)
            self._forgotten.add(key)
        try:
            yield
        except BaseException:
            with self._lock:
                self._forgotten.discard(key)
                if waiting is not None:
                    self._pending[key] = waiting
            raise

    def remember(self, key: str) -> None:
        """Write again what changes of a conversation that was deleted and is back."""
        with self._lock:
            self._forgotten.discard(key)

    def flush(self) -> None:
        """Write what is queued now; return when it is on disk or has failed."""
        with self._writing:
            with self._lock:
                taken, self._pending = self._pending, {}
            for key, pending in taken.items():
                try:
                    rows = list(pending.rows.values())
                    self._database.save(pending.conversation, rows, pending.gone)
                except PitoolError as error:
                    self._keep(key, pending)
                    self._fail(error)
                else:
                    self._failing = False

    def close(self) -> None:
        """Write the rest and end the thread."""
        self._end.set()
        self._wake.set()
        self._thread.join()
        self.flush()

    def _work(self) -> None:
        while not self._end.is_set():
            self._wake.wait()
            self._wake.clear()
            self.flush()
            self._end.wait(self._seconds)

    def _of(self, conversation: Conversation) -> _Pending:
        return self._pending.setdefault(conversation.key, _Pending(conversation))

    def _keep(self, key: str, old: _Pending) -> None:
        """Put back what could not be written, beneath what was queued since."""
        with self._lock:
            new = self._pending.get(key, _Pending(old.conversation))
            rows = {k: row for k, row in old.rows.items() if k not in new.gone}
            new.rows = {**rows, **new.rows}
            new.gone |= old.gone
            self._pending[key] = new
        # Tried again with the next change or on close, since a full disk would fail every second.

    def _fail(self, error: PitoolError) -> None:
        if not self._failing:
            self._failing = True
            self._failed(error)
