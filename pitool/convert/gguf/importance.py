"""The importance matrix: how much each column of a weight matrix is used.

Collected by an engine that convert is handed, over a text that the model itself wrote; kept as
llama.cpp's imatrix file, of which the GGUF and the older binary kind are read.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pitool.errors import BadInput

WINDOW = 512
SELF, NONE = "self", "none"
_SUMS, _COUNTS = ".in_sum2", ".counts"
_AGAIN = "make it again with llama-imatrix, or use --calibration self"


class Entry(Protocol):
    """Sums of squared inputs by expert (experts, columns), and the tokens of each (experts,)."""

    @property
    def sums(self) -> NDArray[np.float64]:
        """The sums."""

    @property
    def counts(self) -> NDArray[np.int64]:
        """The tokens."""


class Calibrator(Protocol):
    """What of an engine the collection uses."""

    def tokenize(self, prompt: str) -> list[int]:
        """Return token ids of a text."""

    def logits(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Evaluate tokens."""

    def squares(self) -> Mapping[str, Entry]:
        """Return the sums of squared activations so far."""


OpenCalibrator = Callable[[Path], AbstractContextManager[Calibrator]]
"""Loads a GGUF in an engine that sums squared activations, with room for ``WINDOW`` tokens."""

WriteText = Callable[[Path, int, Callable[[int], None]], list[list[int]]]
"""Lets the model of a GGUF write about so many tokens; returns its texts as token ids."""


@dataclass(frozen=True, slots=True)
class ImportanceMatrix:
    """Mean squared activations by tensor, shape (experts, columns) float32; ``text``: of what."""

    means: Mapping[str, NDArray[np.float32]]
    tokens: int
    text: str

    def weights(self, tensor: str) -> NDArray[np.float32] | None:
        """Return the importance of a tensor's columns, None where nothing is known of it."""
        return self.means.get(tensor)


def collect(
    engine: Calibrator,
    windows: Sequence[Sequence[int]],
    text: str,
    on_window: Callable[[int], None],
) -> ImportanceMatrix:
    """Return the importance matrix of token windows."""
    for window in windows:
        engine.logits(window)
        on_window(1)
    means = {}
    for name, entry in engine.squares().items():
        counts = entry.counts.reshape(-1, 1)
        # An expert that no token came to: nothing is known, so all columns count alike.
        mean = np.where(counts > 0, entry.sums / np.maximum(counts, 1), 1.0)
        means[name] = mean.astype(np.float32)
    return ImportanceMatrix(means, sum(map(len, windows)), text)


def join(texts: Sequence[Sequence[int]], size: int = WINDOW) -> list[list[int]]:
    """Return texts one after the other, cut into windows; the last may be shorter."""
    ids = [i for text in texts for i in text]
    return [ids[s : s + size] for s in range(0, len(ids), size)]


def write(path: Path, matrix: ImportanceMatrix) -> None:
    """Write llama.cpp's GGUF kind of imatrix file."""
    from gguf import GGUFWriter

    writer = GGUFWriter(path, "imatrix")
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", [matrix.text])
    writer.add_uint32("imatrix.chunk_count", max(matrix.tokens // WINDOW, 1))
    writer.add_uint32("imatrix.chunk_size", WINDOW)
    for name, mean in sorted(matrix.means.items()):
        counts = np.full((len(mean), 1), matrix.tokens, np.float32)
        writer.add_tensor(name + _SUMS, mean * counts)
        writer.add_tensor(name + _COUNTS, counts)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read(path: Path) -> ImportanceMatrix:
    """Return an importance matrix of either kind; BadInput when it is damaged or another file."""
    try:
        with path.open("rb") as file:
            kind = file.read(4)
        matrix = _read_gguf(path) if kind == b"GGUF" else _read_binary(path.read_bytes())
    except FileNotFoundError:
        raise BadInput(f"{path} does not exist", "check the path") from None
    except (OSError, ValueError, KeyError, IndexError, struct.error) as error:
        raise BadInput(f"{path} is no importance matrix ({error})", _AGAIN) from None
    if not matrix.means or not all(np.isfinite(m).all() for m in matrix.means.values()):
        raise BadInput(f"{path} holds no finite importance matrix", _AGAIN)
    return matrix


def _read_gguf(path: Path) -> ImportanceMatrix:
    from gguf import GGUFReader

    reader = GGUFReader(path)
    tensors = {tensor.name: np.array(tensor.data, np.float32) for tensor in reader.tensors}
    means, tokens = {}, 0
    for name, sums in tensors.items():
        if not name.endswith(_SUMS):
            continue
        tensor = name.removesuffix(_SUMS)
        counts = tensors[tensor + _COUNTS].reshape(-1, 1)
        table = sums.reshape(len(counts), -1)
        means[tensor] = np.where(counts > 0, table / np.maximum(counts, 1), 1).astype(np.float32)
        tokens = max(tokens, int(counts.max()))
    field = reader.get_field("imatrix.datasets")
    names = field.contents() if field else None
    return ImportanceMatrix(means, tokens, str(names[0]) if names else path.name)


def _read_binary(data: bytes) -> ImportanceMatrix:
    """Read the older kind: counted entries of name, calls, values (sums over calls)."""
    at = 0

    def number() -> int:
        nonlocal at
        (value,) = struct.unpack_from("<i", data, at)
        at += 4
        return int(value)

    def take(count: int) -> bytes:
        nonlocal at
        if count < 0 or at + count > len(data):
            raise ValueError(f"it ends after {len(data)} bytes")
        at += count
        return data[at - count : at]

    means = {}
    for _ in range(number()):
        name = take(number()).decode()
        calls = number()
        values = np.frombuffer(take(4 * number()), "<f4")
        means[name] = (values / np.float32(max(calls, 1))).astype(np.float32).reshape(1, -1)
    chunks, text = (number(), take(number()).decode()) if at < len(data) else (0, "")
    return ImportanceMatrix(means, chunks * WINDOW, text)
