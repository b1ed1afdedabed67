"""What is posted between threads, screens and widgets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.message import Message

if TYPE_CHECKING:
    from pitool.device.monitor import Sample
    from pitool.store.conversation import ConversationRow


class SessionChanged(Message, bubble=False):
    """The session has a new state to look at; many of them are as good as the last.

    Does not bubble: the app passes it down to the screen, from where it would come back.
    """

    def can_replace(self, message: Message) -> bool:
        """Let a later one stand for this one."""
        return isinstance(message, SessionChanged)


@dataclass
class SensorsRead(Message, bubble=False):
    """The sensors of the board were looked at."""

    sample: Sample


class SensorsWanted(Message):
    """Somebody looks at the sensors from now on."""


@dataclass
class OpenScreen(Message):
    """The user wants a screen of the table; ``words``: what was written after its name."""

    name: str
    words: str = ""


@dataclass
class Varied(Message):
    """The user wants another variant of what begins with a row, so many steps further."""

    row: ConversationRow
    step: int


@dataclass
class Submitted(Message):
    """The user sent what was in the prompt."""

    text: str


class TakeCompletion(Message):
    """The user wants the completion that is marked."""


@dataclass
class MoveCompletion(Message):
    """The user marks another completion."""

    step: int
