"""Predicted tokens per second, and what measuring on a machine taught of them.

A decode reads every streamed weight once and the KV cache as far as it is filled, and it reads and
writes a recurrent state: bytes over effective bandwidth, or the products over the board's rate
where that takes longer. A prefill is bound by the products (``prefill``). Which bytes and rates
these are is each format's own (``formats``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pitool.catalog.manifest import Speed

Bound = Literal["memory", "products"]


@dataclass(frozen=True, slots=True)
class Correction:
    """Factors on predicted speeds, learnt on one machine; 1 where nothing was measured."""

    prefill: float = 1.0
    decode: float = 1.0


NONE = Correction()


@dataclass(frozen=True, slots=True)
class Estimate:
    """Predicted tokens/s; ``error`` is the share by which published figures were missed at most.

    ``decode_full``: with the KV cache full; ``bound``: what a decode waits for.
    """

    board: str
    prefill: float
    decode: float
    decode_full: float
    bound: Bound
    prefill_error: float
    decode_error: float

    @property
    def speed(self) -> Speed:
        """It as a manifest keeps it."""
        return Speed(self.board, round(self.prefill, 1), round(self.decode, 1))

    @property
    def decode_range(self) -> tuple[float, float]:
        """The slowest and fastest decode to expect."""
        return self.decode * (1 - self.decode_error), self.decode * (1 + self.decode_error)

    @property
    def prefill_range(self) -> tuple[float, float]:
        """The slowest and fastest prefill to expect."""
        return self.prefill * (1 - self.prefill_error), self.prefill * (1 + self.prefill_error)

    def to_json(self) -> dict[str, Any]:
        """Return every number as a JSON value."""
        return {
            "prefill": self.prefill,
            "prefill_range": list(self.prefill_range),
            "decode": self.decode,
            "decode_range": list(self.decode_range),
            "decode_full_context": self.decode_full,
            "bound": self.bound,
        }
