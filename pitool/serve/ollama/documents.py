"""The JSON of Ollama's answers; its times are nanoseconds and ISO 8601."""

from __future__ import annotations

import datetime
from typing import Any

from pitool.catalog import reading
from pitool.engine.base import Finish, Timings, ToolCall
from pitool.report.numbers import format_fixed
from pitool.serve.shelf import Offer

_REASONS: dict[Finish, str] = {
    "stop": "stop",
    "length": "length",
    "context": "length",
    "cancelled": "stop",
}


def head(model: str) -> dict[str, Any]:
    """Return what all JSON of an answer begins with."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")
    return {"model": model, "created_at": now.replace("+00:00", "Z")}


def end(finish: Finish | None, timings: Timings, load_seconds: float) -> dict[str, Any]:
    """Return what the last piece of an answer says of it."""
    t = timings
    total = load_seconds + t.ttft_seconds + t.decode_seconds
    return {
        "done": True,
        "done_reason": _REASONS[finish or "stop"],
        "total_duration": nanoseconds(total),
        "load_duration": nanoseconds(load_seconds),
        "prompt_eval_count": t.prompt_tokens,
        "prompt_eval_duration": nanoseconds(t.prefill_seconds),
        "eval_count": t.decoded_tokens,
        "eval_duration": nanoseconds(t.decode_seconds),
    }


def nanoseconds(seconds: float) -> int:
    """Return seconds as Ollama counts them."""
    return round(seconds * 1e9)


def message(
    content: str = "", reasoning: str = "", calls: list[ToolCall] | None = None
) -> dict[str, Any]:
    """Return a message, or a piece of one."""
    made: dict[str, Any] = {"role": "assistant", "content": content}
    if reasoning:
        made["thinking"] = reasoning
    if calls:
        made["tool_calls"] = [
            {"id": call.id, "function": {"name": call.name, "arguments": arguments(call)}}
            for call in calls
        ]
    return made


def arguments(call: ToolCall) -> dict[str, Any]:
    """Return a call's arguments; nothing of those that were cut off."""
    try:
        found = reading.parse_json(call.arguments)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def details(offer: Offer) -> dict[str, Any]:
    """Return what is known of a model without reading it."""
    artifact = offer.artifact
    family = artifact.architecture if artifact else ""
    return {
        "parent_model": "",
        "format": artifact.format if artifact else "",
        "family": family,
        "families": [family] if family else [],
        "parameter_size": _size(artifact.parameters) if artifact else "",
        "quantization_level": offer.quantisation,
    }


def _size(parameters: int) -> str:
    unit, size = ("B", 1e9) if parameters >= 1e9 else ("M", 1e6)
    return f"{format_fixed(parameters / size, 2)}{unit}"


def listed(offer: Offer) -> dict[str, Any]:
    """Return a model as it is listed."""
    modified = datetime.datetime.fromtimestamp(offer.created, datetime.UTC)
    artifact = offer.artifact
    return {
        "name": offer.tag,
        "model": offer.tag,
        "modified_at": modified.isoformat().replace("+00:00", "Z"),
        "size": offer.bytes,
        "digest": artifact.files[0].sha256 if artifact else "",
        "details": details(offer),
    }
