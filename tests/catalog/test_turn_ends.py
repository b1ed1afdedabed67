"""Tokens that end an answer by their names, as llama.cpp knows them."""

from __future__ import annotations

import pytest

from pitool.catalog.turn_ends import known_ends


@pytest.mark.parametrize(
    ("texts", "ends"),
    [
        (["<|im_start|>", "<|im_end|>", "<|endoftext|>"], {1, 2}),
        (["<|user|>", "<|end|>"], {1}),
        # A message of gpt-oss ends before its answer does.
        (["<|end|>", "<|return|>", "<|call|>"], {1, 2}),
        (["</s>", "<|tool_response>"], {1}),
        ([], set()),
    ],
)
def test_known_names(texts: list[str], ends: set[int]) -> None:
    assert known_ends({text: i for i, text in enumerate(texts)}) == ends
