"""Keys and values of a graph: bound once and shared by its inputs and outputs, or handed on.

``buffers`` hold key and value of each layer, shape (1, kv heads, context, head dim), whichever way
the graph takes them; what lies behind the tokens at hand is never looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pitool.engine.onnx.binding import onnxruntime

Pairs = Sequence[tuple[str, str]]
"""Name of an input, and of the output that follows it."""


class Cache(Protocol):
    """What a session does with its keys and values around a run."""

    buffers: list[NDArray[Any]]

    def before(self, length: int) -> None:
        """Bind the keys and values of the first ``length`` tokens."""

    def after(self, length: int, count: int) -> None:
        """Take over those of ``count`` tokens more."""

    def forget(self) -> None:
        """Hear that ``buffers`` or the length were changed from outside."""


class SharedCache:
    """The graph reads and writes the buffers in place (GroupQueryAttention): nothing to do."""

    def __init__(self, binding: Any, pairs: Pairs, buffers: list[NDArray[Any]]) -> None:
        self.buffers = buffers
        for (past, present), buffer in zip(pairs, buffers, strict=True):
            place = ("cpu", 0, buffer.dtype, buffer.shape, buffer.ctypes.data)
            binding.bind_input(past, *place)
            binding.bind_output(present, *place)

    def before(self, length: int) -> None:
        """Do nothing: the attention mask says how many tokens there are."""

    def after(self, length: int, count: int) -> None:
        """Do nothing: the graph has written them."""

    def forget(self) -> None:
        """Do nothing: the buffers are what the graph reads."""


class GrownCache:
    """The graph returns longer keys and values (plain exports), which its next run is given.

    The new rows are kept in the buffers as well, from which a rewound cache is cut.
    """

    def __init__(self, binding: Any, pairs: Pairs, buffers: list[NDArray[Any]]) -> None:
        self.buffers = buffers
        self._binding, self._pairs = binding, pairs
        self._held: int | None = None
        for _, present in pairs:
            binding.bind_output(present, "cpu")

    def before(self, length: int) -> None:
        """Bind what the last run returned, or a copy of the first tokens of the buffers."""
        if self._held != length:
            for (past, _), buffer in zip(self._pairs, self.buffers, strict=True):
                rows = np.ascontiguousarray(buffer[:, :, :length])
                self._bind(past, onnxruntime.OrtValue.ortvalue_from_numpy(rows))
            self._held = length
        for _, present in self._pairs:
            self._binding.bind_output(present, "cpu")

    def after(self, length: int, count: int) -> None:
        """Bind what the run returned as the next run's past, and keep its new rows."""
        made = self._binding.get_outputs()
        for (past, _), buffer, value in zip(self._pairs, self.buffers, made, strict=False):
            buffer[:, :, length : length + count] = value.numpy()[:, :, length:]
            self._bind(past, value)
        self._held = length + count

    def forget(self) -> None:
        """Cut the next run's past from the buffers."""
        self._held = None

    def _bind(self, past: str, value: Any) -> None:
        self._binding.bind_ortvalue_input(past, value)
