"""Which tokens end an answer of a checkpoint: everything that says so, together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pitool.catalog.turn_ends import NAMES, ends_by_name, known_ends
from pitool.checkpoint.tokenizer import TokenizerFiles, read_json
from pitool.quality.tokens import after_an_answer


def turn_ends(files: TokenizerFiles, tokens: Mapping[str, int], settings: Path) -> tuple[int, ...]:
    """Return the ids that end an answer, in order.

    Those of generation_config.json and config.json in the folder ``settings``, the tokenizer's
    own, those known by their names, and the token that the chat template writes after an answer.
    ``tokens``: the ids of those that are one token wherever they stand, by their texts.
    """
    found = set(known_ends(tokens))
    for name in ("generation_config.json", "config.json"):
        found.update(_said(read_json(settings / name) or {}))
    if files.eos in tokens:
        found.add(tokens[files.eos])
    if files.template:
        found.update(_written(files, tokens))
    return tuple(sorted(end for end in found if 0 <= end < files.size))


def _said(values: dict[str, Any]) -> Iterator[int]:
    """Yield the ids that settings name: one or a list, inside a multimodal model too."""
    inner = values.get("text_config")
    for each in (values, inner if isinstance(inner, dict) else {}):
        ends = each.get("eos_token_id")
        for end in ends if isinstance(ends, list) else [ends]:
            if isinstance(end, int) and not isinstance(end, bool):
                yield end


def _written(files: TokenizerFiles, tokens: Mapping[str, int]) -> Iterator[int]:
    """Yield the token that the template writes right after an answer, if it writes one."""
    assert files.template
    rest = after_an_answer(files.template, files.bos, files.eos).lstrip()
    starts = [text for text in tokens if text and rest.startswith(text)]
    if starts:
        longest = max(starts, key=len)
        # A template may close a part of an answer by a token that goes on in another one.
        if longest not in NAMES or ends_by_name(longest, tokens):
            yield tokens[longest]
