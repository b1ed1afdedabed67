"""The entry of an artifact in a manifest, and the versions that made it.

The one place that builds them, for what is converted and for what is pulled.
"""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pitool
from pitool.catalog import manifest
from pitool.catalog.manifest import (
    Artifact,
    Certificate,
    FileEntry,
    Fit,
    MemoryLine,
    Speed,
    Tokenization,
)
from pitool.catalog.model_shape import ModelShape
from pitool.planning.formats.onnx import VOCABULARY_ENTRY_BYTES
from pitool.planning.memory import Load, MemoryPlan


def artifact(
    folder: Path,
    files: Sequence[Path | FileEntry],
    model: ModelShape,
    certificate: Certificate | None,
    *,
    format_name: str,
    quantisation: str,
    context: int,
    bits_per_weight: float,
    memory: MemoryPlan,
    load: Load,
    speed: tuple[Speed, ...] = (),
    adapters: Sequence[Path] = (),
    tokenization: Tokenization | None = None,
    weights: str = "",
    cosine: float | None = None,
    fit: Fit | None = None,
) -> Artifact:
    """Return the entry of an artifact in the bundle ``folder``.

    ``files``: their entries, or paths, whose hashes are read from the disk; ``load``: what its
    ``memory`` is planned with.
    """
    return Artifact(
        format=format_name,
        quantisation=quantisation,
        files=tuple(_entry(file, folder) for file in (*files, *adapters)),
        architecture=model.architecture,
        parameters=model.parameters,
        context=context,
        bits_per_weight=round(bits_per_weight, 3),
        memory=(*memory.lines, *_tokenizer_memory(model, tokenization)),
        speed=speed,
        certificate=certificate,
        kv_type=load.kv_type,
        micro_batch=load.micro_batch,
        adapters=tuple(path.name for path in adapters),
        tokenization=tokenization,
        weights=weights,
        cosine=cosine,
        value_type=load.value_type,
        fit=fit,
    )


def _entry(file: Path | FileEntry, folder: Path) -> FileEntry:
    return file if isinstance(file, FileEntry) else manifest.file_entry(file, folder)


def _tokenizer_memory(model: ModelShape, tokens: Tokenization | None) -> tuple[MemoryLine, ...]:
    """Return what the tokenizers library takes beside an engine that has its own vocabulary."""
    if tokens is None or tokens.folder is None:
        return ()
    return (MemoryLine("tokenizer", model.vocabulary * VOCABULARY_ENTRY_BYTES),)


def versions() -> dict[str, str]:
    """Return the versions of pitool and of what makes and runs artifacts, those that are here."""
    found = {"pitool": pitool.__version__, "python": platform.python_version()}
    for name in ("llama-cpp-python", "gguf", "numpy", "onnx", "onnxruntime"):
        with suppress(importlib.metadata.PackageNotFoundError):  # a board has no host packages
            found[name] = importlib.metadata.version(name)
    return found
