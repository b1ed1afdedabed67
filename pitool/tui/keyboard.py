"""Keys one after another: each is handed on when the one before it has had its effect.

Textual hands a key to whatever has the focus when it arrives. Of keys that arrive at once, by
typing fast over SSH or by a paste without brackets, the second goes to the list although the first
was about to open a search, and a key of the whole program overtakes the letters before it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from textual import events
from textual.app import App
from textual.message_pump import MessagePump
from textual.screen import Screen

LONGEST_SECONDS = 1.0
"""A key whose effect takes longer, or whose widget is gone, holds the next ones no further."""

InputEvent = events.Key | events.Paste


class KeysInTurn:
    """Takes keys and pastes, and calls ``hand_on`` with each in its turn.

    ``hand_on`` is what Textual does with one that arrives; it runs in the app's own task.
    """

    def __init__(self, app: App[Any], hand_on: Callable[[events.Event], Awaitable[object]]) -> None:
        self._app, self._hand_on = app, hand_on
        self._waiting: deque[InputEvent] = deque()
        self._number = 0
        self._busy = False
        self._next: InputEvent | None = None
        self._patience: asyncio.TimerHandle | None = None

    async def take(self, event: InputEvent) -> None:
        """Hand a key on, or have it wait for its turn."""
        if self._busy and event is not self._next:
            self._waiting.append(event)
            return
        self._busy, self._next = True, None
        self._number += 1
        number, screen = self._number, self._app.screen
        target: MessagePump | None = screen.focused or screen
        loop = asyncio.get_running_loop()
        self._patience = loop.call_later(LONGEST_SECONDS, self._done, number)
        try:
            await self._hand_on(event)
        finally:
            self._climb(number, screen, target)

    def _climb(self, number: int, screen: Screen[Any], target: MessagePump | None) -> None:
        """Follow the key from its widget up to the app, through the queue of each on its way."""
        while target is not None and target is not self._app:
            if target.call_later(self._climb, number, screen, target._parent):
                return
            target = target._parent  # that one takes nothing any more
        # Twice: what the key did may have asked the app to move the focus.
        self._app.call_later(self._app.call_later, self._arrived, number, screen)

    def _arrived(self, number: int, before: Screen[Any]) -> None:
        """Wait for a screen that the key opened or went back to, until it has its focus."""
        app = self._app
        opened = bool(app._screen_stack) and app.screen is not before
        if not (opened and app.screen.call_after_refresh(self._done, number)):
            self._done(number)

    def _done(self, number: int) -> None:
        if number != self._number or not self._busy:
            return  # what it waited for came after all
        self._number += 1
        if self._patience is not None:
            self._patience.cancel()
        # Still busy: one that arrives before that one is back has to wait behind it.
        self._next = self._waiting.popleft() if self._waiting else None
        self._busy = self._next is not None
        if self._next is not None:
            self._app.post_message(self._next)
