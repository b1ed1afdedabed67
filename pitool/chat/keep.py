"""Where a conversation is kept while it grows, as the session sees it."""

from __future__ import annotations

from typing import Protocol

from pitool.store.conversation import Conversation, Row


class Keep(Protocol):
    """Where a conversation is kept; see ``pitool.store.journal``."""

    def put(self, conversation: Conversation, *rows: Row) -> None:
        """Have rows written."""

    def remove(self, conversation: Conversation, rows: list[Row]) -> None:
        """Have rows deleted."""


class Nowhere:
    """Keeps nothing."""

    def put(self, conversation: Conversation, *rows: Row) -> None:
        """Do nothing."""

    def remove(self, conversation: Conversation, rows: list[Row]) -> None:
        """Do nothing."""
