"""The JSON of OpenAI's answers: whole ones, and the pieces of a stream."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pitool.chat_format import CallArguments, CallBegun, Content, Event, Reasoning
from pitool.engine.base import Finish, Timings, Token, TokenProbability, ToolCall
from pitool.serve.answers import Whole

# OpenAI's words for how an answer ends.
_REASONS: dict[Finish, str] = {
    "stop": "stop",
    "length": "length",
    "context": "length",
    "cancelled": "stop",
}


def new_id(prefix: str) -> str:
    """Return an id that nothing else has."""
    return f"{prefix}{uuid.uuid4().hex}"


@dataclass(frozen=True, slots=True)
class Frame:
    """What all JSON of one answer has in common; ``created`` in seconds since 1970."""

    id: str
    kind: str
    piece_kind: str
    created: int
    model: str

    @classmethod
    def of_chat(cls, model: str) -> Frame:
        """Return that of an answer in a conversation."""
        kind = "chat.completion"
        return cls(new_id("chatcmpl-"), kind, f"{kind}.chunk", int(time.time()), model)

    @classmethod
    def of_text(cls, model: str) -> Frame:
        """Return that of a continued text."""
        return cls(new_id("cmpl-"), "text_completion", "text_completion", int(time.time()), model)

    def whole(self, choices: Sequence[dict[str, Any]], timings: Timings) -> dict[str, Any]:
        """Return a whole answer."""
        return {**self._head(self.kind), "choices": list(choices), **counts(timings)}

    def piece(
        self, index: int, said: dict[str, Any], finish: str | None = None, logprobs: Any = None
    ) -> dict[str, Any]:
        """Return a piece of a stream; ``said``: what it adds."""
        choice = {"index": index, **said, "logprobs": logprobs, "finish_reason": finish}
        return {**self._head(self.piece_kind), "choices": [choice]}

    def count(self, timings: Timings) -> dict[str, Any]:
        """Return the piece that counts tokens, which has no choices."""
        return {**self._head(self.piece_kind), "choices": [], **counts(timings)}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def counts(timings: Timings) -> dict[str, Any]:
    """Return OpenAI's token counts, and the timings as llama.cpp's server names them."""
    t = timings
    usage: dict[str, Any] = {
        "prompt_tokens": t.prompt_tokens,
        "completion_tokens": t.decoded_tokens,
        "total_tokens": t.prompt_tokens + t.decoded_tokens,
        "prompt_tokens_details": {"cached_tokens": t.reused_tokens},
    }
    if t.guessed_tokens:
        usage["completion_tokens_details"] = guesses(t)
    speeds = {
        "prompt_n": t.prefilled_tokens - t.reused_tokens,
        "prompt_ms": round(t.prefill_seconds * 1e3, 3),
        "prompt_per_second": round(t.prefill_rate, 3),
        "predicted_n": t.decoded_tokens,
        "predicted_ms": round(t.decode_seconds * 1e3, 3),
        "predicted_per_second": round(t.decode_rate, 3),
        "ttft_ms": round(t.ttft_seconds * 1e3, 3),
    }
    if t.guessed_tokens:
        speeds |= {"draft_n": t.guessed_tokens, "draft_n_accepted": t.accepted_tokens}
    return {"usage": usage, "timings": speeds}


def guesses(timings: Timings) -> dict[str, int]:
    """Return how many guessed tokens were the answer's, and how many were not."""
    accepted = timings.accepted_tokens
    return {
        "accepted_prediction_tokens": accepted,
        "rejected_prediction_tokens": timings.guessed_tokens - accepted,
    }


def reason(finish: Finish | None, *, calls: bool = False) -> str | None:
    """Return how an answer ended, in OpenAI's words; None while it goes on."""
    if finish is None:
        return None
    return "tool_calls" if calls and finish == "stop" else _REASONS[finish]


def message(answer: Whole) -> dict[str, Any]:
    """Return the message of a whole answer."""
    made: dict[str, Any] = {"role": "assistant", "content": answer.content}
    if answer.reasoning:
        made["reasoning_content"] = answer.reasoning
    if answer.calls:
        made["content"] = answer.content or None
        made["tool_calls"] = [call_json(call) for call in answer.calls]
    return made


def call_json(call: ToolCall) -> dict[str, Any]:
    """Return a call of a tool."""
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


def deltas(events: Sequence[Event]) -> Iterator[dict[str, Any]]:
    """Yield what each event adds to a message."""
    for event in events:
        match event:
            case Content(text):
                yield {"content": text}
            case Reasoning(text):
                yield {"reasoning_content": text}
            case CallBegun(index, id_, name):
                call = {"index": index, **call_json(ToolCall(id_, name, ""))}
                yield {"tool_calls": [call]}
            case CallArguments(index, text):
                yield {"tool_calls": [{"index": index, "function": {"arguments": text}}]}


def chat_logprobs(tokens: Sequence[Token]) -> dict[str, Any] | None:
    """Return the log-probabilities of tokens as a chat has them; None without."""
    content = [
        {**_probability(token.chosen), "top_logprobs": [_probability(each) for each in token.top]}
        for token in tokens
        if token.chosen
    ]
    return {"content": content, "refusal": None} if content else None


def _probability(each: TokenProbability) -> dict[str, Any]:
    text = each.piece.decode(errors="replace")
    return {"token": text, "logprob": _finite(each), "bytes": list(each.piece)}


def _finite(each: TokenProbability) -> float:
    """Return a log-probability as JSON can have it; that of what cannot be as OpenAI writes it."""
    return max(each.logprob, -9999.0)


def text_logprobs(tokens: Sequence[Token], start: int) -> dict[str, Any] | None:
    """Return the log-probabilities as a completion has them; ``start``: the first one's place."""
    chosen = [token.chosen for token in tokens if token.chosen]
    if not chosen:
        return None
    pieces = [each.piece.decode(errors="replace") for each in chosen]
    offsets = [start + sum(map(len, pieces[:place])) for place in range(len(pieces))]
    return {
        "tokens": pieces,
        "token_logprobs": [_finite(each) for each in chosen],
        "top_logprobs": [
            {each.piece.decode(errors="replace"): _finite(each) for each in token.top}
            for token in tokens
            if token.chosen
        ],
        "text_offset": offsets,
    }
