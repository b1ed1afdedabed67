"""Types of a KV cache as a user types them, and what they take."""

from __future__ import annotations

import pytest

from pitool.catalog.kv_types import KV_TYPES, CacheTypes, bits
from pitool.errors import UsageError


@pytest.mark.parametrize(
    ("text", "keys", "values", "shown"),
    [
        ("q8_0", "q8_0", "q8_0", "q8_0"),
        ("Q8_0, q5_1", "q8_0", "q5_1", "q8_0,q5_1"),
        ("f16,f16", "f16", "f16", "f16"),
    ],
)
def test_one_type_or_two(text: str, keys: str, values: str, shown: str) -> None:
    found = CacheTypes.parse(text)
    assert (found.keys, found.values, str(found)) == (keys, values, shown)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("q8", "unknown type of the KV cache 'q8'.*did you mean 'q8_0'"),
        ("q4_k", "unknown type of the KV cache"),
        ("q8_0,q8_0,q8_0", "is not one type or two"),
        (",", "is not one type or two"),
        ("", "is not one type or two"),
    ],
)
def test_anything_else_is_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        CacheTypes.parse(text)


def test_bits_are_those_of_ggml() -> None:
    """By block_q8_0, block_q5_1 and block_iq4_nl of ggml-common.h: 34, 24 and 18 bytes for 32."""
    assert [bits(name) for name in ("f32", "f16", "q8_0", "q5_1", "iq4_nl")] == [
        32, 16, 8.5, 6, 4.5,
    ]  # fmt: skip
    assert CacheTypes("q8_0", "q5_1").bits == (8.5 + 6) / 2
    assert all(bits(name) > 0 for name in KV_TYPES)
