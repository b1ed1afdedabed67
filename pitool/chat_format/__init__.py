"""How models write reasoning and tool calls, read from their text and forced upon it.

A model's format follows from its chat template. Text in, events out: nothing here knows an engine.
"""

from pitool.chat_format.answer import AnswerParser
from pitool.chat_format.events import (
    CallArguments,
    CallBegun,
    CallEnded,
    Content,
    Event,
    Reasoning,
    joined,
)
from pitool.chat_format.forcing import forced_answer, forced_calls
from pitool.chat_format.formats import format_of, marks_of

__all__ = [
    "AnswerParser",
    "CallArguments",
    "CallBegun",
    "CallEnded",
    "Content",
    "Event",
    "Reasoning",
    "forced_answer",
    "forced_calls",
    "format_of",
    "joined",
    "marks_of",
]
