"""The messages between a worker process and its parent: JSON lines with binary payloads.

A message is one line of JSON; where it has ``payload``, so many raw bytes follow the line.
Nothing is ever unpickled.
"""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

from pitool import errors
from pitool.engine.base import Engine, Message, ModelInfo, Prompt, Settings, Squares, Timings, Token

_ERRORS = {
    cls.__name__: cls
    for cls in vars(errors).values()
    if isinstance(cls, type) and issubclass(cls, errors.PitoolError)
}


class Wire:
    """Both ends of a conversation over two byte streams; sending is safe from any thread."""

    def __init__(self, incoming: BinaryIO, outgoing: BinaryIO) -> None:
        self._incoming, self._outgoing = incoming, outgoing
        self._lock = threading.Lock()

    def send(self, message: Mapping[str, Any], payload: bytes = b"") -> None:
        """Write one message; BrokenPipeError when the other side is gone."""
        data = dict(message, payload=len(payload)) if payload else message
        line = json.dumps(data, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            self._outgoing.write(line)
            if payload:
                self._outgoing.write(payload)
            self._outgoing.flush()

    def receive(self) -> tuple[dict[str, Any], bytes] | None:
        """Return the next message and its payload; None when the other side is gone."""
        line = self._incoming.readline()
        if not line.endswith(b"\n"):
            return None
        message = json.loads(line)
        size = message.pop("payload", 0)
        payload = self._incoming.read(size) if size else b""
        return (message, payload) if len(payload) == size else None

    def close(self) -> None:
        """Close both streams."""
        for stream in (self._incoming, self._outgoing):
            try:
                stream.close()
            except OSError:
                continue  # the other side went first


def prompt_to_json(prompt: Prompt) -> Any:
    """Return a prompt as JSON values."""
    if isinstance(prompt, str):
        return prompt
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


def squares_of(engine: Engine) -> dict[str, Squares]:
    """Return what an engine collected; PitoolError where it cannot."""
    collect = getattr(engine, "squares", None)
    if collect is None:
        raise errors.PitoolError(
            f"{engine.info.engine} collects no importance matrix", "use --calibration none"
        )
    found: dict[str, Squares] = collect()
    return found


def squares_from_payload(shapes: Mapping[str, Sequence[int]], payload: bytes) -> dict[str, Squares]:
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
    return Settings(**{**value, "adapters": tuple(value.get("adapters", ()))})


def info_from_json(value: dict[str, Any]) -> ModelInfo:
    """Return the model info that ``dataclasses.asdict`` wrote."""
    return ModelInfo(**{**value, "settings": settings_from_json(value["settings"])})


def error_to_json(error: errors.PitoolError) -> dict[str, str]:
    """Return an error as JSON values."""
    return {"kind": type(error).__name__, "what": error.what, "do": error.do}


def error_from_json(value: Mapping[str, str]) -> errors.PitoolError:
    """Return the error that ``error_to_json`` wrote."""
    return _ERRORS.get(value["kind"], errors.PitoolError)(value["what"], value["do"])


def info_to_json(info: ModelInfo) -> dict[str, Any]:
    """Return a model info as JSON values."""
    return dataclasses.asdict(info)
