"""What the GGUFs of a bundle begin with, in the type that holds the weights without loss.

Three origins: a checkpoint of a native family, one for llama.cpp's own converter, and a GGUF.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from pitool.architectures.table import gguf_architectures
from pitool.catalog.tensor_types import QUANTISATIONS, Quantisation
from pitool.checkpoint.source import Checkpoint
from pitool.convert.gguf import fallback, llama_quantise, quantise
from pitool.convert.gguf.model import Model, find_model
from pitool.convert.gguf.stored import Stored
from pitool.convert.gguf.vocabulary import Vocabulary, read_vocabulary
from pitool.convert.gguf.writer import header_bytes, match_tensors, write_gguf
from pitool.convert.progress import Progress, counting
from pitool.errors import BadInput


@dataclass(frozen=True, slots=True)
class Chat:
    """The model's Jinja chat template, if any, and the text of its end-of-sequence token."""

    template: str | None
    end: str


class Origin(Protocol):
    """See the module."""

    @property
    def file(self) -> Path | None:
        """The GGUF of type ``kind`` where there is one already."""

    @property
    def kind(self) -> Quantisation:
        """The type that holds the matrices without loss."""

    @property
    def chat(self) -> Chat:
        """What a conversation is written with."""

    @property
    def quantise(self) -> Callable[..., None]:
        """What quantises a GGUF of this origin; see ``quantise.quantise``."""

    def header_bytes(self) -> int:
        """Return the bytes of a GGUF before its tensors; the weights are not read."""

    def check(self) -> None:
        """Raise BadInput when a tensor that a GGUF needs is missing or odd, or for a LoRA."""

    def write(self, kind: Quantisation, path: Path, progress: Progress) -> None:
        """Write a GGUF in a float type, or in the origin's own."""


def find_origin(checkpoint: Checkpoint) -> Origin:
    """Return the origin of a checkpoint, of which the settings alone may be there."""
    model = find_model(checkpoint.config)
    if isinstance(model, Stored):
        return StoredFile(model)
    return (Foreign if isinstance(model, fallback.Foreign) else Native)(checkpoint, model)


class Native:
    """A checkpoint that our writer knows."""

    file: Path | None = None
    quantise: Callable[..., None] = staticmethod(quantise.quantise)

    def __init__(self, checkpoint: Checkpoint, model: Model) -> None:
        self._checkpoint, self._model, self._shape = checkpoint, model, model.shape

    @property
    def kind(self) -> Quantisation:
        """The float type that holds the checkpoint's matrices."""
        kinds = {t.kind for t in self._checkpoint.tensors.values() if len(t.shape) > 1}
        return QUANTISATIONS[kinds.pop() if len(kinds) == 1 else "F32"]

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        return read_vocabulary(self._checkpoint.folder, self._shape.vocabulary)

    @property
    def chat(self) -> Chat:
        """Of the tokenizer's files."""
        special = self._vocabulary.special
        end = special.special_token_ids.get("eos")
        return Chat(
            special.chat_template if isinstance(special.chat_template, str) else None,
            self._vocabulary.tokens[end].decode(errors="replace") if end is not None else "",
        )

    def header_bytes(self) -> int:
        """Return the bytes of what the writer writes before the tensors."""
        return header_bytes(self._checkpoint, self._model, self._vocabulary)

    def check(self) -> None:
        """Match the tensors."""
        match_tensors(self._checkpoint, self._model.wanted())

    def write(self, kind: Quantisation, path: Path, progress: Progress) -> None:
        """Write straight from the checkpoint."""
        size = self._shape.parameters * (4 if kind.name == "F32" else 2)
        progress.stage(f"writing {kind.name}", size, bytes_=True)
        write_gguf(path, self._checkpoint, self._model, self._vocabulary, kind, progress.advance)


class Foreign(Native):
    """A checkpoint for llama.cpp's own converter; only llama.cpp knows its mixtures of types."""

    quantise = staticmethod(llama_quantise.quantise)

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        return fallback.vocabulary(self._checkpoint.folder, self._shape.vocabulary)

    def check(self) -> None:
        """Match the tensors, and refuse a LoRA."""
        source = self._checkpoint.source
        if source.adapters or source.apart:
            raise BadInput(
                f"llama.cpp's own converter, which a {self._model.architecture!r} model needs,"
                " merges no LoRA",
                "merge it with PEFT first, and convert the merged model",
            )
        super().check()

    def write(self, kind: Quantisation, path: Path, progress: Progress) -> None:
        """Run the converter."""
        progress.stage(f"writing {kind.name} with llama.cpp's own converter", 1)
        fallback.convert(self._checkpoint.folder, path, kind)


class StoredFile:
    """A GGUF; llama.cpp quantises those of architectures that no native family has."""

    def __init__(self, stored: Stored) -> None:
        self._stored = stored
        self.file = stored.path

    @property
    def kind(self) -> Quantisation:
        """The file's own type."""
        return self._stored.kind

    @property
    def quantise(self) -> Callable[..., None]:
        """Ours, where the mixtures of types are known."""
        known = self._stored.architecture in gguf_architectures()
        return quantise.quantise if known else llama_quantise.quantise

    @property
    def chat(self) -> Chat:
        """Of the file's metadata."""
        from gguf import GGUFReader

        fields = GGUFReader(self._stored.path).fields
        template = fields.get("tokenizer.chat_template")
        end, tokens = (fields.get(f"tokenizer.ggml.{key}") for key in ("eos_token_id", "tokens"))
        return Chat(
            str(template.contents()) if template else None,
            str(tokens.contents(int(end.contents()))) if end and tokens else "",
        )

    def header_bytes(self) -> int:
        """Return the bytes of the file's own header with its type replaced."""
        return quantise.header_bytes(self._stored.header)

    def check(self) -> None:
        """Do nothing: the tensors are those of the file."""

    def write(self, kind: Quantisation, path: Path, progress: Progress) -> None:
        """Copy the file, or cast its matrices to another float type."""
        progress.stage(f"writing {kind.name}", len(self._stored.header.tensors))
        if kind == self.kind:
            shutil.copyfile(self.file, path)
        else:
            quantise.quantise(self.file, path, kind, os.cpu_count() or 1, counting(progress))
