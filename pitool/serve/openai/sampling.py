"""How tokens are chosen, from the fields of OpenAI's interface and llama.cpp's server.

What is beyond OpenAI's own (``top_k``, ``min_p``, ``repeat_penalty``) is named as there;
``repetition_penalty`` is vLLM's name of the last.
"""

from __future__ import annotations

from typing import Any

from pitool.engine.base import Sampling
from pitool.errors import UsageError
from pitool.serve.bodies import Fields

# Each is looked for after every token.
MOST_STOPS = 32
MOST_BIASES = 1024
# llama.cpp counts tokens in 32 bits.
MOST_IDS = 2**31 - 1
NO_LIMIT = -1
NUMBERS = {
    "temperature": (0.0, 100.0),
    "top_p": (0.0, 1.0),
    "min_p": (0.0, 1.0),
    "repeat_penalty": (1e-6, 100.0),
    "presence_penalty": (-2.0, 2.0),
    "frequency_penalty": (-2.0, 2.0),
}


def sampling(fields: Fields, limits: tuple[str, ...] = ("max_tokens",)) -> Sampling:
    """Return what the fields ask for; ``limits``: names of the most tokens of an answer.

    Log-probabilities and grammars are not read here: their fields differ.
    """
    values: dict[str, Any] = {}
    for name, (low, high) in NUMBERS.items():
        if (value := fields.number(name, low, high)) is not None:
            values[name] = value
    if (value := fields.number("repetition_penalty", *NUMBERS["repeat_penalty"])) is not None:
        values.setdefault("repeat_penalty", value)
    for name in ("top_k", "seed"):
        low, high = (0, MOST_IDS) if name == "top_k" else (-1, 2**63)
        if (value := fields.integer(name, low, high)) is not None:
            values[name] = value
    if values.get("seed") == -1:  # llama.cpp's word for any
        del values["seed"]
    for name in limits:
        if (value := most_tokens(fields, name)) is not None:
            values["max_tokens"] = value
    bias = _bias(fields.take("logit_bias"))
    return Sampling(**values, stop=stops(fields.take("stop")), logit_bias=bias)


def most_tokens(fields: Fields, name: str, least: int = 1) -> int | None:
    """Return the most tokens of an answer, None for as many as there is room for."""
    value = fields.integer(name, NO_LIMIT)
    if value is None or value == NO_LIMIT:
        return None
    if value < least:
        raise UsageError(f"{name!r} is {value}", f"use {least} or more, or -1 for no limit")
    return value


def stops(stop: object) -> tuple[str, ...]:
    """Return the texts that end an answer: of a string or a list of them."""
    texts = [stop] if isinstance(stop, str) else stop or []
    if (
        not isinstance(texts, list)
        or len(texts) > MOST_STOPS
        or not all(isinstance(text, str) and text for text in texts)
    ):
        raise UsageError("'stop' is not valid", f"send a string or up to {MOST_STOPS} of them")
    return tuple(texts)


def _bias(value: object) -> tuple[tuple[int, float], ...]:
    """Return ``logit_bias``: token ids as text, and what is added to each one's logit."""
    wrong = UsageError("'logit_bias' is not valid", "send token ids with -100 to 100 for each")
    if value is None:
        return ()
    if not isinstance(value, dict) or len(value) > MOST_BIASES:
        raise wrong
    found = []
    for token, amount in value.items():
        if not token.isdecimal() or len(token) > 9 or isinstance(amount, bool):
            raise wrong
        if not isinstance(amount, int | float) or not -100 <= amount <= 100:
            raise wrong
        found.append((int(token), float(amount)))
    return tuple(found)
