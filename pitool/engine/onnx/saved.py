"""A KV cache in a file: numpy's own archive, uncompressed, never a pickle."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pitool.catalog.onnx import OnnxFolder
from pitool.errors import BadInput, PitoolError

_HASHED = 1 << 20


def fingerprint(folder: OnnxFolder) -> str:
    """Return what tells a model from others: a hash of its graph's beginning and all sizes."""
    with folder.graph.open("rb") as file:
        digest = hashlib.sha256(file.read(_HASHED))
    for path in folder.files:
        digest.update(f"{path.name} {path.stat().st_size}".encode())
    return digest.hexdigest()


def write(path: Path, model: str, ids: Sequence[int], cache: Sequence[NDArray[Any]]) -> None:
    """Write the first ``len(ids)`` tokens of a cache, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    used = {str(i): part[:, :, : len(ids)] for i, part in enumerate(cache)}
    tokens = np.asarray(ids, np.int64)
    try:
        with temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, model=np.array(model), ids=tokens, **used)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise PitoolError(f"{path} cannot be written ({error})", "free disk space") from None
    finally:
        temporary.unlink(missing_ok=True)


def read(path: Path, model: str, cache: Sequence[NDArray[Any]]) -> list[int]:
    """Fill a cache and return its tokens; BadInput when the file is of another model or none."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            if str(archive["model"]) == model:
                return _fill(archive, cache)
    except (OSError, ValueError, LookupError, TypeError, EOFError, zipfile.BadZipFile):
        pass  # what numpy raises for each kind of damage
    raise BadInput(f"{path} is no state of this model", "start the conversation again")


def _fill(archive: Mapping[str, NDArray[Any]], cache: Sequence[NDArray[Any]]) -> list[int]:
    ids = [int(token) for token in archive["ids"]]
    for i, part in enumerate(cache):
        part[:, :, : len(ids)] = archive[str(i)]
    return ids
