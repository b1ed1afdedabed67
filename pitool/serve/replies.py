"""The replies of OpenAI's API as JSON: answers, pieces of a stream, errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pitool.engine.base import Finish, Timings

# OpenAI's words for how an answer ends.
_REASONS: dict[Finish, str] = {
    "stop": "stop",
    "length": "length",
    "context": "length",
    "cancelled": "stop",
}


@dataclass(frozen=True, slots=True)
class Frame:
    """What all JSON of one answer has in common; ``created`` in seconds since 1970."""

    chat: bool
    id: str
    created: int
    model: str

    def whole(self, text: str, finish: Finish | None, timings: Timings) -> dict[str, Any]:
        """Return a whole answer."""
        said: dict[str, Any] = (
            {"message": {"role": "assistant", "content": text}} if self.chat else {"text": text}
        )
        choice = {"index": 0, **said, "finish_reason": _reason(finish)}
        return {**self._head(""), "choices": [choice], **counts(timings)}

    def piece(self, text: str | None, finish: Finish | None = None) -> dict[str, Any]:
        """Return a piece of a stream; the first of a chat has no text but the role."""
        said: dict[str, Any]
        if not self.chat:
            said = {"text": text or ""}
        elif text is None:
            said = {"delta": {"role": "assistant", "content": ""}}
        else:
            said = {"delta": {"content": text} if text else {}}
        choice = {"index": 0, **said, "finish_reason": _reason(finish)}
        return {**self._head(".chunk"), "choices": [choice]}

    def count(self, timings: Timings) -> dict[str, Any]:
        """Return the piece that counts tokens, which has no choices."""
        return {**self._head(".chunk"), "choices": [], **counts(timings)}

    def _head(self, suffix: str) -> dict[str, Any]:
        kind = f"chat.completion{suffix}" if self.chat else "text_completion"
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def counts(timings: Timings) -> dict[str, Any]:
    """Return OpenAI's token counts, and the timings as llama.cpp's server names them."""
    t = timings
    read = t.prefilled_tokens - t.reused_tokens
    usage = {
        "prompt_tokens": t.prompt_tokens,
        "completion_tokens": t.decoded_tokens,
        "total_tokens": t.prompt_tokens + t.decoded_tokens,
        "prompt_tokens_details": {"cached_tokens": t.reused_tokens},
    }
    speeds = {
        "prompt_n": read,
        "prompt_ms": round(t.prefill_seconds * 1e3, 3),
        "prompt_per_second": round(t.prefill_rate, 3),
        "predicted_n": t.decoded_tokens,
        "predicted_ms": round(t.decode_seconds * 1e3, 3),
        "predicted_per_second": round(t.decode_rate, 3),
        "ttft_ms": round(t.ttft_seconds * 1e3, 3),
    }
    return {"usage": usage, "timings": speeds}


def failure(message: str, kind: str, code: str | None = None) -> dict[str, Any]:
    """Return an error as OpenAI's interface has it."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def _reason(finish: Finish | None) -> str | None:
    return _REASONS[finish] if finish else None
