"""What the tests of reading answers share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count
from typing import Any

from pitool.chat_format import AnswerParser, Event
from pitool.chat_format.events import joined

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "A city."},
                "days": {"type": "integer"},
                "where": {"type": "object", "properties": {"lat": {"type": "number"}}},
                "units": {"type": "array", "items": {"type": "string"}},
                "brief": {"type": "boolean"},
            },
            "required": ["city"],
        },
    },
}
CLOCK: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "clock",
        "description": "The time.",
        "parameters": {"type": "object", "properties": {}},
    },
}
TOOLS = (WEATHER, CLOCK)


def read(
    chat_format: str,
    pieces: Iterable[str],
    *,
    before: str = "",
    tools: Sequence[dict[str, Any]] = TOOLS,
) -> Sequence[Event]:
    """Return the events of an answer in pieces, those that belong together joined."""
    parser = AnswerParser(chat_format, before=before, tools=tools)
    numbers = count()
    parser.calls.next_id = lambda: f"id{next(numbers)}"
    events: list[Event] = []
    for piece in pieces:
        events += parser.feed(piece)
    return joined([*events, *parser.finish()])
