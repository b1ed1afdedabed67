"""At most one engine, the file it came from, and its KV caches that are saved on disk.

Called by the one thread that uses the engine. Knows no status and says nothing to the user.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from enum import Enum

from pitool.catalog.bundles import Runnable
from pitool.catalog.files import stamp
from pitool.engine.base import ChatPrompt, Engine, Message, Sampling
from pitool.engine.prefills.bundled import shared_beginning
from pitool.engine.prefills.files import LEAST_TOKENS, Prefills
from pitool.engine.prefills.keys import key_of, system_name
from pitool.errors import PitoolError
from pitool.store.conversation import Conversation

Load = Callable[[Runnable, Callable[[float], None]], Engine]
"""Starts an engine, blocking; reports the fraction loaded, from 0 to 1."""

log = logging.getLogger(__name__)


class FileChange(Enum):
    """What became of the file of a model that is loaded."""

    CHANGED = "changed"
    GONE = "gone"


class EngineSlot:
    """Starts and ends the engine, and has its KV cache saved and restored."""

    def __init__(self, load: Load, prefills: Prefills | None) -> None:
        self._load, self._cache = load, SavedPrefills(prefills)
        self._runnable: Runnable | None = None
        self._stamp: tuple[tuple[str, int, int], ...] = ()
        self.engine: Engine | None = None

    def start(self, runnable: Runnable, progress: Callable[[float], None]) -> Engine:
        """Return the engine of ``runnable``, just started; nothing may be loaded before."""
        self.engine = self._load(runnable, progress)
        self._runnable, self._stamp = runnable, stamp(runnable.entry)
        return self.engine

    def drop(self, *, dead: bool = False) -> None:
        """End the engine; what it has read is saved first, unless it is ``dead``."""
        engine, self.engine = self.engine, None
        if engine is not None:
            with suppress(PitoolError):
                if not dead and self._runnable is not None:
                    self._cache.save(engine, self._runnable)
            with suppress(PitoolError):
                engine.close()
        self._cache.forget()

    def file_change(self) -> FileChange | None:
        """Return what became of the file since the load or the last call."""
        if self.engine is None or self._runnable is None:
            return None
        now = stamp(self._runnable.entry)
        if now == self._stamp:
            return None
        self._stamp = now
        return FileChange.CHANGED if now else FileChange.GONE

    def restore(self, engine: Engine, conversation: Conversation) -> float:
        """Bring back what is kept of a conversation; return the seconds it took."""
        assert self._runnable is not None
        return self._cache.restore(engine, self._runnable, conversation)

    def entered(self, conversation: Conversation, tokens: int) -> None:
        """The cache now holds ``tokens`` of a conversation."""
        self._cache.entered(conversation, tokens)


class SavedPrefills:
    """Knows whose tokens are in the KV cache, and keeps them on disk while another's are."""

    def __init__(self, prefills: Prefills | None) -> None:
        self._prefills = prefills
        self._inside: Conversation | None = None
        self._tokens = self._saved = 0

    def forget(self) -> None:
        """The cache is gone or holds no conversation."""
        self._inside, self._tokens, self._saved = None, 0, 0

    def entered(self, conversation: Conversation, tokens: int) -> None:
        """The cache now holds ``tokens`` of a conversation."""
        if not self._holds(conversation):
            self._saved = 0
        self._inside, self._tokens = conversation, tokens

    def restore(self, engine: Engine, runnable: Runnable, conversation: Conversation) -> float:
        """Bring a conversation's cache back, or its system prompt's; return the seconds it took.

        0 when there is nothing to bring. The cache of another one is saved before.
        """
        if self._prefills is None or self._holds(conversation):
            return 0.0
        self.save(engine, runnable)
        start = time.perf_counter()
        names = [conversation.key]
        if conversation.system:
            names.append(system_name(conversation.system))
        for name in names:
            key = key_of(name, runnable, engine.info.settings)
            if (path := self._prefills.find(key)) is None:
                continue
            try:
                self._saved = engine.load_state(path)
            except PitoolError as error:
                log.warning("dropped a saved prefill: %s", error)
                self._prefills.drop(key)
            else:
                self._inside, self._tokens = conversation, self._saved
                return time.perf_counter() - start
        return 0.0

    def save(self, engine: Engine, runnable: Runnable) -> None:
        """Save what is in the cache, if it is worth it and not saved yet."""
        conversation = self._inside
        if self._prefills is None or conversation is None:
            return
        if self._tokens < LEAST_TOKENS or self._tokens == self._saved:
            return
        # A prefill is a convenience: a full disk must not end a chat.
        try:
            key = key_of(conversation.key, runnable, engine.info.settings)
            self._prefills.save(key, engine.save_state)
            self._saved = self._tokens
            self._save_system(engine, runnable, conversation.system)
        except (PitoolError, OSError) as error:
            log.warning("cannot save a prefill: %s", error)

    def _holds(self, conversation: Conversation) -> bool:
        return self._inside is not None and self._inside.key == conversation.key

    def _save_system(self, engine: Engine, runnable: Runnable, system: str) -> None:
        """Save the part of the cache that other conversations begin with too."""
        assert self._prefills is not None
        key = key_of(system_name(system), runnable, engine.info.settings)
        if not system or self._prefills.has(key):
            return
        ids = shared_beginning(engine, ChatPrompt((Message("system", system),)))
        if len(ids) < LEAST_TOKENS:
            return
        self._inside = None  # from here on the cache holds the system prompt only
        for token in engine.stream(ids, Sampling(max_tokens=0)):
            if token.timings.reused_tokens < len(ids) - 1:
                with suppress(PitoolError):
                    engine.cancel()  # this model cannot shorten its cache: not worth reading again
                return
        self._prefills.save(key, engine.save_state)
