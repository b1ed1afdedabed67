"""The engine's words as JSON values and raw bytes: how they travel to a worker and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from pitool.catalog.unicode import well_formed
from pitool.engine.base import (
    Message,
    ModelInfo,
    Prompt,
    Sampling,
    Settings,
    Squares,
    Timings,
    Token,
)


def prompt_to_json(prompt: Prompt) -> Any:
    """Return a prompt as JSON values, its text well formed."""
    if isinstance(prompt, str):
        return well_formed(prompt)
    return [[p.role, p.content] if isinstance(p, Message) else int(p) for p in prompt]


def prompt_from_json(value: Any) -> Prompt:
    """Return the prompt that ``prompt_to_json`` wrote."""
    if isinstance(value, str):
        return value
    if value and isinstance(value[0], list):
        return [Message(role, content) for role, content in value]
    return [int(i) for i in value]


def token_to_json(token: Token) -> Sequence[Any]:
    """Return a token as a short list; it is sent hundreds of times a second."""
    t = token.timings
    return [
        token.text,
        token.id,
        token.finish,
        t.prompt_tokens,
        t.reused_tokens,
        t.prefilled_tokens,
        t.prefill_seconds,
        t.ttft_seconds,
        t.decoded_tokens,
        t.decode_seconds,
    ]


def token_from_json(value: Sequence[Any]) -> Token:
    """Return the token that ``token_to_json`` wrote."""
    text, number, finish, *timings = value
    return Token(text, number, Timings(*timings), finish)


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
    lists = {name: tuple(value.get(name, ())) for name in ("adapters", "ends")}
    return Settings(**{**value, **lists})


def sampling_from_json(value: dict[str, Any]) -> Sampling:
    """Return the sampling that ``dataclasses.asdict`` wrote."""
    return Sampling(**{**value, "stop": tuple(value["stop"])})


def info_from_json(value: dict[str, Any]) -> ModelInfo:
    """Return the model info that ``dataclasses.asdict`` wrote."""
    return ModelInfo(**{**value, "settings": settings_from_json(value["settings"])})


def info_to_json(info: ModelInfo) -> dict[str, Any]:
    """Return a model info as JSON values."""
    return dataclasses.asdict(info)
