"""From the JSON of OpenAI's interface to a prompt and its sampling; the standard library only.

Sampling beyond OpenAI's own (``top_k``, ``min_p``, ``repeat_penalty``) has the names of llama.cpp's
server. What is not supported is refused with an error, never ignored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pitool.catalog import reading
from pitool.engine.base import Message, Prompt, Sampling
from pitool.errors import UsageError

ROLES = ("system", "developer", "user", "assistant")
UNSUPPORTED = (
    "tools", "functions", "logprobs", "top_logprobs", "audio", "suffix", "echo", "logit_bias",
    "presence_penalty", "frequency_penalty",
)  # fmt: skip
# Each is looked for after every token.
MOST_STOPS = 32
# What asks for nothing special.
PLAIN: dict[str, tuple[object, ...]] = {
    "n": (None, 1),
    "best_of": (None, 1),
    "response_format": (None, {"type": "text"}),
}
_NUMBERS = {
    "temperature": (0.0, 100.0),
    "top_p": (0.0, 1.0),
    "min_p": (0.0, 1.0),
    "repeat_penalty": (1e-6, 100.0),
}


@dataclass(frozen=True, slots=True)
class Request:
    """``usage``: a stream ends with a piece that counts tokens."""

    prompt: Prompt
    sampling: Sampling
    stream: bool
    usage: bool


def parse(body: bytes, *, chat: bool, template: bool) -> Request:
    """Return what the body of a completion asks for; UsageError names what is wrong with it.

    ``template``: the model has a chat template.
    """
    try:
        data = reading.parse_json(body)
    except ValueError:
        raise UsageError("the body is not JSON", "send a JSON object in OpenAI's format") from None
    if not isinstance(data, Mapping):
        raise UsageError("the body is not a JSON object", "send a JSON object in OpenAI's format")
    for name in UNSUPPORTED:
        if data.get(name):
            raise UsageError(f"{name!r} is not supported", "drop it")
    for name, plain in PLAIN.items():
        if data.get(name) not in plain:
            raise UsageError(f"{name!r} must be {json.dumps(plain[-1])}", "drop it")
    prompt = _conversation(data, template=template) if chat else _text(data)
    options = data.get("stream_options") or {}
    usage = isinstance(options, Mapping) and options.get("include_usage") is True
    return Request(prompt, _sampling(data), data.get("stream") is True, usage)


def _text(data: Mapping[str, Any]) -> str:
    prompt = data.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str) or not prompt:
        raise UsageError("'prompt' is not a string", "send one string")
    return prompt


def _conversation(data: Mapping[str, Any], *, template: bool) -> Prompt:
    turns = data.get("messages")
    if not isinstance(turns, list) or not turns:
        raise UsageError("'messages' is not a list of messages", "send at least one message")
    if not template:
        raise UsageError("the model has no chat template", "use /v1/completions")
    messages = []
    for i, turn in enumerate(turns):
        role = turn.get("role") if isinstance(turn, Mapping) else None
        if role not in ROLES:
            raise UsageError(
                f"the role of message {i} is not supported", f"use one of: {', '.join(ROLES)}"
            )
        text = _content(turn.get("content"), i)
        messages.append(Message("system" if role == "developer" else role, text))
    return messages


def _content(content: object, i: int) -> str:
    """Return a message's text: a string, or parts of type text."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [None]
    texts = [part.get("text") if isinstance(part, Mapping) else None for part in parts]
    if not all(isinstance(text, str) for text in texts):
        raise UsageError(f"message {i} has more than text", "send only text")
    return "".join(text for text in texts if text)


def _sampling(data: Mapping[str, Any]) -> Sampling:
    values: dict[str, Any] = {}
    for name, (low, high) in _NUMBERS.items():
        if (value := data.get(name)) is not None:
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise UsageError(f"{name!r} is not a number", f"use {low:g} to {high:g}")
            if not low <= value <= high:
                raise UsageError(f"{name!r} is {value:g}", f"use {low:g} to {high:g}")
            values[name] = float(value)
    for name in ("top_k", "seed", "max_tokens", "max_completion_tokens"):
        if (value := data.get(name)) is not None:
            least = 1 if name.startswith("max") else 0
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise UsageError(f"{name!r} is not a whole number", f"use {least} or more")
            values["max_tokens" if name.startswith("max") else name] = value
    return Sampling(**values, stop=_stop(data.get("stop")))


def _stop(stop: object) -> tuple[str, ...]:
    texts = [stop] if isinstance(stop, str) else stop or []
    if (
        not isinstance(texts, list)
        or len(texts) > MOST_STOPS
        or not all(isinstance(text, str) and text for text in texts)
    ):
        raise UsageError("'stop' is not valid", f"send a string or up to {MOST_STOPS} of them")
    return tuple(texts)
