"""The importance matrix: the mean squared input of each column of a weight matrix.

Owns how it is collected and llama.cpp's imatrix file: writes the GGUF format, reads that and the
older binary format. Never chooses the text.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from pitool.catalog import gguf, reading
from pitool.convert.engines import Calibrator
from pitool.errors import BadInput

WINDOW = 512
SELF, NONE = "self", "none"
_SUMS, _COUNTS = ".in_sum2", ".counts"
# Of a mixture of 128 experts; the old format is read whole.
LARGEST = 1 << 30
_AGAIN = "create it again with llama-imatrix, or use --calibration self"


@dataclass(frozen=True, slots=True)
class ImportanceMatrix:
    """Mean squared inputs by tensor, (experts, columns) float32; ``text``: name of the text."""

    means: Mapping[str, NDArray[np.float32]]
    tokens: int
    text: str

    def weights(self, tensor: str) -> NDArray[np.float32] | None:
        """Return the importance of a tensor's columns, None for a tensor that was not measured."""
        return self.means.get(tensor)


def collect(
    engine: Calibrator,
    windows: Sequence[Sequence[int]],
    text: str,
    on_window: Callable[[int], None],
) -> ImportanceMatrix:
    """Return the importance matrix of the model over token windows."""
    for window in windows:
        engine.logits(window)
        on_window(1)
    means = {}
    for name, entry in engine.squares().items():
        counts = entry.counts.reshape(-1, 1)
        # Nothing is known of an expert that no token was routed to: its columns count alike.
        mean = np.where(counts > 0, entry.sums / np.maximum(counts, 1), 1.0)
        means[name] = mean.astype(np.float32)
    return ImportanceMatrix(means, sum(map(len, windows)), text)


def join(texts: Sequence[Sequence[int]], size: int = WINDOW) -> list[list[int]]:
    """Return the concatenated texts cut into windows; the last may be shorter."""
    ids = [i for text in texts for i in text]
    return [ids[s : s + size] for s in range(0, len(ids), size)]


def write(path: Path, matrix: ImportanceMatrix) -> None:
    """Write an imatrix file in llama.cpp's GGUF format."""
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
    """Return an importance matrix in either format; BadInput when the file is not a sound one."""
    try:
        with path.open("rb") as file:
            kind = file.read(4)
        matrix = (
            _read_gguf(path) if kind == b"GGUF" else _read_binary(reading.read_bytes(path, LARGEST))
        )
    except FileNotFoundError:
        raise BadInput(f"{path} does not exist", "check the path") from None
    except BadInput as error:  # of its header
        raise BadInput(f"{path} is not an importance matrix ({error.what})", _AGAIN) from None
    except (ArithmeticError, LookupError, OSError, ValueError, struct.error) as error:
        raise BadInput(f"{path} is not an importance matrix ({error})", _AGAIN) from None
    if not matrix.means or not all(np.isfinite(m).all() for m in matrix.means.values()):
        raise BadInput(f"the importance matrix {path} is empty or not finite", _AGAIN)
    return matrix


def _read_gguf(path: Path) -> ImportanceMatrix:
    header = gguf.read_header(path)
    stored = {tensor.name: tensor for tensor in header.tensors}
    means, tokens = {}, 0
    with path.open("rb") as file:
        for name in stored:
            if not name.endswith(_SUMS):
                continue
            tensor = name.removesuffix(_SUMS)
            counts = _numbers(file, stored[tensor + _COUNTS]).reshape(-1, 1)
            sums = _numbers(file, stored[name]).reshape(len(counts), -1)
            mean = np.where(counts > 0, sums / np.maximum(counts, 1), 1)
            means[tensor] = mean.astype(np.float32)
            tokens = max(tokens, int(counts.max()))
    names = header.metadata.get("imatrix.datasets")
    text = str(names[0]) if isinstance(names, list) else path.name
    return ImportanceMatrix(means, tokens, text)


def _numbers(file: BinaryIO, tensor: gguf.StoredTensor) -> NDArray[np.float32]:
    """Return a tensor's numbers in one row; ValueError for none, or another type."""
    if tensor.type.name != "F32" or not tensor.bytes:
        raise ValueError(f"{tensor.name!r} has no float32 numbers")
    file.seek(tensor.start)
    return np.frombuffer(file.read(tensor.bytes), "<f4")


def _read_binary(data: bytes) -> ImportanceMatrix:
    """Read the older format: counted entries of name, calls, and values (sums over the calls)."""
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
        if not len(values):
            raise ValueError(f"{name!r} has no numbers")
        means[name] = (values / np.float32(max(calls, 1))).astype(np.float32).reshape(1, -1)
    chunks, text = (number(), take(number()).decode()) if at < len(data) else (0, "")
    return ImportanceMatrix(means, chunks * WINDOW, text)
