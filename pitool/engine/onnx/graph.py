"""A graph on onnxruntime with one KV cache, which a fused graph reads and writes in place.

Its buffers are bound once. A decode step stores a token, lengthens the attention mask by one and
runs; nothing is allocated for it here. Rewinding is lowering ``length``: what lies behind it is
never looked at and is overwritten by the next tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pitool.catalog.onnx import OnnxFolder
from pitool.engine.base import Settings
from pitool.engine.onnx.kv_cache import GrownCache, KvCache, SharedCache
from pitool.engine.onnx.runtime import FATAL, FAULTS, onnxruntime, open_session, reason
from pitool.errors import BadInput, DoesNotFit, PitoolError

Ids = NDArray[np.int64]
_TYPES: dict[str, type[np.float32] | type[np.float16]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
}
_NUM_LOGITS = "num_logits"
# A graph that computes the logits of every token holds the vocabulary in float32 for each.
_ALL_LOGITS_BATCH = 64


class Graph:
    """One sequence on one graph. ``length`` tokens are in the cache of ``context``.

    ``kv_cache`` holds key and value of each layer, shape (1, kv heads, context, head dim).
    """

    def __init__(self, folder: OnnxFolder, settings: Settings) -> None:
        self.context = settings.context
        self.vocabulary = folder.vocabulary
        self._length = 0
        self._names = folder.names
        self._options = onnxruntime.RunOptions()
        self._options.log_severity_level = FATAL
        # onnxruntime's Python asks for this before every run, and pays an exception where it is
        # not set: 60 microseconds a token. It means nothing on a CPU.
        self._options.add_run_config_entry("gpu_graph_id", "-1")
        self._session = open_session(folder, settings)
        optional = {each.name for each in self._session.get_overridable_initializers()}
        inputs = {each.name: each for each in self._session.get_inputs()}
        self.metadata: dict[str, str] = self._session.get_modelmeta().custom_metadata_map
        self._counts = _NUM_LOGITS in optional | set(inputs)
        self._positions = self._names.position_ids in inputs
        pasts = [
            (pattern[0] % layer, pattern[1] % layer)
            for layer in range(folder.layers)
            for pattern in (
                (self._names.past_key, self._names.present_key),
                (self._names.past_value, self._names.present_value),
            )
        ]
        self._check(folder, inputs, (past for past, _ in pasts))
        self._binding = self._session.io_binding()
        self.kv_cache = [self._buffer(folder, inputs[past]) for past, _ in pasts]
        self.kv_type = self.kv_cache[0].dtype
        kind = SharedCache if folder.shared_cache else GrownCache
        self._cache: KvCache = kind(self._binding, pasts, self.kv_cache)
        self._bind_tokens()

    @property
    def length(self) -> int:
        """Tokens in the cache."""
        return self._length

    @length.setter
    def length(self, tokens: int) -> None:
        self._length = tokens
        self._cache.forget()

    def _check(self, folder: OnnxFolder, inputs: dict[str, Any], pasts: Iterable[str]) -> None:
        """Raise BadInput when the graph has other inputs and outputs than its configuration."""
        names = self._names
        needed = {names.input_ids, names.attention_mask, *pasts}
        known = needed | {names.position_ids, _NUM_LOGITS}
        outputs = {each.name: each for each in self._session.get_outputs()}
        wrong = (needed - set(inputs)) | (set(inputs) - known) | ({names.logits} - set(outputs))
        if wrong:
            raise BadInput(
                f"{folder.graph} does not match its configuration: {', '.join(sorted(wrong))}",
                "convert the model again",
            )
        shape = outputs[names.logits].shape
        self._logits_type = _TYPES.get(outputs[names.logits].type, np.float32)
        self.last_only = self._counts or shape[1] == 1
        if isinstance(shape[-1], int):
            self.vocabulary = shape[-1]

    def _buffer(self, folder: OnnxFolder, past: Any) -> NDArray[Any]:
        """Return room for an input's keys or values; BadInput when it has another shape."""
        shape = (1, folder.kv_heads, self.context, folder.head_dim)
        pairs = zip(past.shape, shape, strict=False)
        fits = len(past.shape) == 4 and all(a == b for a, b in pairs if isinstance(a, int))
        if past.type not in _TYPES or not fits:
            raise BadInput(
                f"{folder.graph} has a KV cache of {past.type} and shape {past.shape}, not {shape}",
                "convert the model with pitool or onnxruntime-genai's builder",
            )
        return np.zeros(shape, _TYPES[past.type])

    def _bind_tokens(self) -> None:
        self._ids = np.zeros(self.context, np.int64)
        self._mask = np.ones(self.context, np.int64)
        self._places = np.arange(self.context, dtype=np.int64)
        self._rows = np.ones(1, np.int64)
        self._step = np.zeros((1, 1, self.vocabulary), self._logits_type)
        self._bound = 0
        if self._counts:
            self._bind(_NUM_LOGITS, self._rows, (1,))

    def _bind(
        self, name: str, buffer: NDArray[np.int64], shape: Sequence[int], at: int = 0
    ) -> None:
        address = buffer.ctypes.data + at * buffer.itemsize
        self._binding.bind_input(name, "cpu", 0, np.int64, shape, address)

    @property
    def batch(self) -> int:
        """Most tokens of one run that do not need much memory for logits."""
        return self.context if self.last_only else _ALL_LOGITS_BATCH

    @property
    def gives_rows(self) -> bool:
        """Whether a run can give the logits of several tokens."""
        return self._counts or not self.last_only

    def run(self, ids: Sequence[int], rows: int = 1) -> NDArray[np.float32] | None:
        """Append tokens; return the logits after the last ``rows``, or None when terminated.

        The result, of shape (rows or fewer, vocabulary), is valid until the next run.
        """
        count = len(ids)
        if self.length + count > self.context:
            raise DoesNotFit(
                f"{self.length + count} tokens exceed the context of {self.context}",
                "load with a larger --context",
            )
        self._ids[:count] = ids
        self._rows[0] = rows
        self._bind_run(count, rows)
        self._cache.before(self._length)
        try:
            self._session.run_with_iobinding(self._binding, self._options)
        except FAULTS as error:
            if self._options.terminate:
                return None
            raise PitoolError(f"onnxruntime stopped ({reason(error)})", "ask again") from None
        self._cache.after(self._length, count)
        self._length += count
        if self._bound:
            row: NDArray[np.float32] = self._step[0].astype(np.float32, copy=False)
            return row
        table: NDArray[Any] = self._binding.get_outputs()[-1].numpy()[0]
        return table[-rows:].astype(np.float32, copy=False)

    def _bind_run(self, count: int, rows: int) -> None:
        """Bind what is another shape or place than in the last run."""
        total = self.length + count
        self._bind(self._names.attention_mask, self._mask, (1, total))
        if self._positions:
            self._bind(self._names.position_ids, self._places, (1, count), self.length)
        if count == self._bound == 1:
            return
        self._bind(self._names.input_ids, self._ids, (1, count))
        one = rows == 1 and (count == 1 or self.last_only)
        self._bound = count if one else 0
        if one:
            step = self._step
            place = ("cpu", 0, step.dtype, step.shape, step.ctypes.data)
            self._binding.bind_output(self._names.logits, *place)
        else:
            self._binding.bind_output(self._names.logits, "cpu")

    def terminate(self, now: bool) -> None:
        """End the current run between two operators, and every later one; or take it back."""
        self._options.terminate = now
