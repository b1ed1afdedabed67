"""The types that a KV cache may have in llama.cpp: those of the keys and of the values.

``planning`` counts their bytes, an engine loads them, and a bundle may say what they cost.
"""

from __future__ import annotations

from dataclasses import dataclass

from pitool.catalog.tables import names_in, nearest
from pitool.catalog.tensor_types import TENSOR_TYPES
from pitool.errors import UsageError

# Those that llama.cpp's command line takes and that are found on every CPU.
KV_TYPES = ("f32", "f16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")
USUAL = "f16"


@dataclass(frozen=True, slots=True)
class CacheTypes:
    """The types of keys and values, each one of ``KV_TYPES``; ValueError for another."""

    keys: str
    values: str

    def __post_init__(self) -> None:
        for name in (self.keys, self.values):
            if name not in KV_TYPES:
                raise ValueError(f"{name!r} is no type of a KV cache")

    @classmethod
    def parse(cls, text: str) -> CacheTypes:
        """Return what a user typed: one type for both, or ``KEYS,VALUES``; UsageError else."""
        names = [name.lower() for name in names_in(text)]
        for name in names:
            if name not in KV_TYPES:
                raise UsageError(f"unknown type of the KV cache {name!r}", nearest(name, KV_TYPES))
        if len(names) not in (1, 2):
            raise UsageError(
                f"--kv-type {text!r} is not one type or two",
                "use one such as q8_0, or those of keys and values such as q8_0,q5_1",
            )
        return cls(names[0], names[-1])

    def __str__(self) -> str:
        return self.keys if self.keys == self.values else f"{self.keys},{self.values}"

    @property
    def bits(self) -> float:
        """Bits of a number, on average over keys and values."""
        return (bits(self.keys) + bits(self.values)) / 2


def bits(name: str) -> float:
    """Return the bits that a number takes in a type."""
    return TENSOR_TYPES[name.upper()].bits
