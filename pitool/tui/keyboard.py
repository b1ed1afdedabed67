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
from textual.widget import Widget
from textual.widgets import Input, TextArea

LONGEST_SECONDS = 4.0
"""A key whose effect takes longer, or whose widget is gone, holds the next ones no further."""

InputEvent = events.Key | events.Paste


ROUNDS = 2
"""A key has had its effect when screen and focus stay the same while so many rounds of messages
pass: a handler may post a message whose handler posts another."""


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
        self._place: tuple[object, object] = (None, None)
        self._left = 0
        self._from: object = None

    @property
    def idle(self) -> bool:
        """Whether every key has had its effect."""
        return not self._busy

    async def take(self, event: InputEvent) -> None:
        """Hand a key on, or have it wait for its turn."""
        if self._busy and event is not self._next:
            self._waiting.append(event)
            return
        self._busy, self._next = True, None
        self._number += 1
        number, self._place, self._left = self._number, self._where(), ROUNDS
        self._from = self._app.screen
        loop = asyncio.get_running_loop()
        self._patience = loop.call_later(LONGEST_SECONDS, self._done, number)
        target = self._app.screen.focused
        try:
            await self._hand_on(event)
        finally:
            if not self._only_writes(event, target, number):
                self._climb(number, target or self._app.screen)

    def _only_writes(self, event: InputEvent, target: Widget | None, number: int) -> bool:
        """Let letters into a field follow each other without a round of all messages."""
        writes = isinstance(target, Input | TextArea) and _writes(event)
        if not (writes and self._waiting and _writes(self._waiting[0])):
            return False
        assert target is not None
        return target.call_later(self._done, number)

    def _where(self) -> tuple[object, object]:
        """Return the screen and what has its focus."""
        screen = self._app.screen
        return screen, screen.focused

    def _climb(self, number: int, target: MessagePump | None) -> None:
        """Follow the key from its widget up to the app, through the queue of each on its way."""
        while target is not None and target is not self._app:
            if target.call_later(self._climb, number, target._parent):
                return
            target = target._parent  # that one takes nothing any more
        # Twice: what the key did may have asked the app to move the focus.
        self._app.call_later(self._app.call_later, self._arrived, number)

    def _arrived(self, number: int) -> None:
        """Begin another round, or end; a screen that was opened has to be there first."""
        if number != self._number or not self._app._screen_stack:
            return
        before, self._place = self._place, self._where()
        screen, focused = self._app.screen, self._app.screen.focused
        there = screen is self._from or _is_there(screen)
        self._left = self._left - 1 if there and before == self._place else ROUNDS
        if self._left <= 0:
            self._done(number)
        elif there and before[0] is screen:
            self._climb(number, focused or screen)
        elif not screen.call_after_refresh(self._climb, number, focused or screen):
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


def _is_there(screen: Screen[Any]) -> bool:
    """Tell whether a screen that was opened takes keys: all of it is mounted, and has the focus."""
    mounted = all(widget.is_mounted for widget in screen.walk_children(Widget))
    return mounted and (screen.focused is not None or not screen.focus_chain)


def _writes(event: InputEvent) -> bool:
    return isinstance(event, events.Key) and event.is_printable
