"""The engine's words as JSON values and raw bytes: how they travel to a worker and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from pitool.catalog.unicode import well_formed
from pitool.engine.base import (
    ChatPrompt,
    Message,
    ModelInfo,
    Prompt,
    Sampling,
    Settings,
    Squares,
    Timings,
    Token,
    TokenProbability,
    ToolCall,
)


def prompt_to_json(prompt: Prompt) -> Any:
    """Return a prompt as JSON values, its text well formed."""
    if isinstance(prompt, str):
        return well_formed(prompt)
    if isinstance(prompt, ChatPrompt):
        return {
            "messages": [_message_to_json(message) for message in prompt.messages],
            "tools": [dict(tool) for tool in prompt.tools],
            "options": dict(prompt.options),
            "continue_last": prompt.continue_last,
        }
    return [_message_to_json(p) if isinstance(p, Message) else int(p) for p in prompt]


def prompt_from_json(value: Any) -> Prompt:
    """Return the prompt that ``prompt_to_json`` wrote."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        messages = tuple(map(_message_from_json, value["messages"]))
        return ChatPrompt(**{**value, "messages": messages, "tools": tuple(value["tools"])})
    if value and isinstance(value[0], list):
        return [_message_from_json(each) for each in value]
    return [int(i) for i in value]


def _message_to_json(message: Message) -> Sequence[Any]:
    calls = [dataclasses.astuple(call) for call in message.calls]
    return [
        message.role,
        message.content,
        calls,
        message.call_id,
        message.name,
        message.reasoning,
    ]


def _message_from_json(value: Sequence[Any]) -> Message:
    role, content, calls, *rest = value
    return Message(role, content, tuple(ToolCall(*call) for call in calls), *rest)


def token_to_json(token: Token) -> Sequence[Any]:
    """Return a token as a short list; it is sent hundreds of times a second."""
    t = token.timings
    return [
        token.text,
        token.id,
        token.finish,
        [
            t.prompt_tokens,
            t.reused_tokens,
            t.prefilled_tokens,
            t.prefill_seconds,
            t.ttft_seconds,
            t.decoded_tokens,
            t.decode_seconds,
            t.guessed_tokens,
            t.accepted_tokens,
        ],
        *(_probability_to_json(each) for each in (token.chosen, *token.top) if each),
    ]


def token_from_json(value: Sequence[Any]) -> Token:
    """Return the token that ``token_to_json`` wrote."""
    text, number, finish, timings, *probabilities = value
    chosen, *top = map(_probability_from_json, probabilities) if probabilities else (None,)
    return Token(text, number, Timings(*timings), finish, chosen, tuple(top))


def _probability_to_json(each: TokenProbability) -> Sequence[Any]:
    return [each.id, each.piece.hex(), each.logprob]


def _probability_from_json(value: Sequence[Any]) -> TokenProbability:
    number, piece, logprob = value
    return TokenProbability(number, bytes.fromhex(piece), logprob)


def squares_from_payload(
    shapes: Mapping[str, Sequence[int]], payload: bytes | bytearray
) -> dict[str, Squares]:
    """Return the arrays that were sent one after the other."""
    import numpy as np

    found, at = {}, 0
    for name, (experts, columns) in shapes.items():
        sums = np.frombuffer(payload, np.float64, experts * columns, at)
        at += sums.nbytes
        counts = np.frombuffer(payload, np.int64, experts, at)
        at += counts.nbytes
        found[name] = Squares(sums.reshape(experts, columns), counts)
    return found


def settings_from_json(value: dict[str, Any]) -> Settings:
    """Return the settings that ``dataclasses.asdict`` wrote."""
    names = ("adapters", "ends", "servers", "server_layers")
    lists = {name: tuple(value.get(name, ())) for name in names}
    costs = tuple((tokens, cost) for tokens, cost in value.get("costs", ()))
    draft = tuple(value["draft"]) if value.get("draft") else None
    return Settings(**{**value, **lists, "costs": costs, "draft": draft})


def sampling_from_json(value: dict[str, Any]) -> Sampling:
    """Return the sampling that ``dataclasses.asdict`` wrote."""
    lists = {name: tuple(value[name]) for name in ("stop", "triggers")}
    bias = tuple((token, amount) for token, amount in value["logit_bias"])
    return Sampling(**{**value, **lists, "logit_bias": bias})


def info_from_json(value: dict[str, Any]) -> ModelInfo:
    """Return the model info that ``dataclasses.asdict`` wrote."""
    names = tuple(value["template_names"])
    settings = settings_from_json(value["settings"])
    return ModelInfo(**{**value, "template_names": names, "settings": settings})


def info_to_json(info: ModelInfo) -> dict[str, Any]:
    """Return a model info as JSON values."""
    return dataclasses.asdict(info)
