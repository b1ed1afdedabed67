"""The stored conversations and the open one, as a front end uses them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pitool.catalog.outputs import write_output
from pitool.chat.session import Session
from pitool.store.conversation import Conversation
from pitool.store.export import export

if TYPE_CHECKING:  # SQLite comes with the first conversation, not with the first screen
    from pitool.engine.prefills.files import Prefills
    from pitool.store.database import ConversationSummary, Database
    from pitool.store.journal import Journal


class Library:
    """Joins database, journal and saved prefills, and keeps the session in step with them."""

    def __init__(
        self, database: Database, journal: Journal, session: Session, prefills: Prefills | None
    ) -> None:
        self._database, self._journal = database, journal
        self._session, self._prefills = session, prefills

    def list(self, words: str = "", *, trash: bool = False) -> list[ConversationSummary]:
        """Return the conversations that contain ``words``, or those in the trash that do."""
        return self._database.list(words, trash=trash)

    def flush(self) -> None:
        """Write what waits to be written."""
        self._journal.flush()

    def read(self, key: str) -> Conversation:
        """Return a conversation: the open one itself, another from the database."""
        current = self._session.conversation
        return current if current.key == key else self._database.open(key)

    def open(self, key: str) -> None:
        """Have the session go on with a conversation."""
        if key != self._session.conversation.key:
            self._session.open(self._database.open(key))

    def rename(self, key: str, title: str) -> None:
        """Give a title; an empty one brings the first question back."""
        current = self._session.conversation
        if key == current.key:
            self._journal.flush()  # one that is not written yet could not be renamed
        self._database.rename(key, title)
        if key == current.key:
            current.title = title
            self._session.look()

    def pin(self, key: str, pinned: bool) -> None:
        """Have a conversation stand above the others, or not any more."""
        self._journal.flush()  # one that is not written yet could not be pinned
        self._database.pin(key, pinned)

    def delete(self, key: str) -> None:
        """Put a conversation into the trash; the open one is replaced by a new one.

        Its saved prefills are deleted. Where the database refuses, all stays as it was.
        """
        self._journal.flush()  # what is not written yet belongs into the trash too
        with self._journal.forgetting(key):
            self._database.delete(key)
        if key == self._session.conversation.key:
            self._session.new()
        if self._prefills is not None:
            self._prefills.drop_conversation(key)

    def clear(self) -> None:
        """Put what was said into the trash, and go on empty under the same title and settings."""
        old = self._session.conversation
        self.delete(old.key)
        self._session.open(Conversation(old.system, title=old.title, sampling=old.sampling))

    def restore(self, key: str) -> None:
        """Bring a conversation back from the trash."""
        self._database.restore(key)
        self._journal.remember(key)

    def erase(self, key: str) -> None:
        """Delete a conversation for good."""
        with self._journal.forgetting(key):
            self._database.erase(key)
        if self._prefills is not None:
            self._prefills.drop_conversation(key)


def write_export(conversation: Conversation, path: Path, *, replace: bool = False) -> None:
    """Write a conversation as Markdown or JSON, whole or not at all.

    UsageError where a file is there and ``replace`` is False, PitoolError when the disk refuses.
    """
    write_output(path, export(conversation, path).encode(), replace=replace)
