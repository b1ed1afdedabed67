"""Where the first, lossless GGUF of a bundle comes from.

Three origins: a checkpoint of a native family, a checkpoint for llama.cpp's own converter, and an
existing GGUF. Owns what differs between them; never quantises by itself.
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
from pitool.catalog.gguf import text_at
from pitool.catalog.tensor_types import QUANTISATIONS, Quantisation
from pitool.checkpoint.mxfp4 import MXFP4
from pitool.checkpoint.source import Checkpoint
from pitool.convert.gguf import fallback, llama_quantise, quantise
from pitool.convert.gguf.model import Model, find_model
from pitool.convert.gguf.stored import Stored
from pitool.convert.gguf.vocabulary import Vocabulary, read_vocabulary
from pitool.convert.gguf.writer import header_bytes, match_tensors, write_gguf
from pitool.errors import BadInput
from pitool.report.progress import Progress, counting

TOKENS = "tokenizer.ggml.tokens"


@dataclass(frozen=True, slots=True)
class Chat:
    """The model's Jinja chat template, if any, and its end-of-sequence token as text.

    ``stops``: the texts of the special tokens that end an answer.
    """

    template: str | None
    end: str
    stops: tuple[str, ...] = ()


class Origin(Protocol):
    """What the lossless GGUF is written from."""

    @property
    def file(self) -> Path | None:
        """The GGUF of type ``kind``, if it exists already."""

    @property
    def kind(self) -> Quantisation:
        """The type that holds the matrices without loss."""

    @property
    def chat(self) -> Chat:
        """What the Modelfile needs to format a conversation."""

    @property
    def quantise(self) -> Callable[..., None]:
        """The function that quantises a GGUF of this origin; see ``quantise.quantise``."""

    @property
    def foreign(self) -> bool:
        """Whether llama.cpp's own converter reads the checkpoint's settings."""

    def header_bytes(self) -> int:
        """Return the size of a GGUF before its tensors; the weights are not read."""

    def write(self, kind: Quantisation, path: Path, progress: Progress) -> None:
        """Write a GGUF in a float type, or in the origin's own type."""


def find_origin(checkpoint: Checkpoint) -> Origin:
    """Return the origin of a checkpoint, whose weights may not be on this machine yet.

    BadInput for a LoRA that cannot be merged.
    """
    model = find_model(checkpoint.config)
    if isinstance(model, Stored):
        return GgufFile(model)
    if isinstance(model, fallback.Foreign):
        if checkpoint.source.adapters or checkpoint.source.apart:
            raise BadInput(
                f"a {model.architecture!r} model is converted by llama.cpp's own converter, which"
                " cannot merge a LoRA",
                "merge it with PEFT, then convert the merged model",
            )
        return ForeignCheckpoint(checkpoint, model)
    return NativeCheckpoint(checkpoint, model)


class NativeCheckpoint:
    """A checkpoint of a family that our writer supports."""

    file: Path | None = None
    foreign = False
    quantise: Callable[..., None] = staticmethod(quantise.quantise)

    def __init__(self, checkpoint: Checkpoint, model: Model) -> None:
        self._checkpoint, self._model, self._shape = checkpoint, model, model.shape

    @property
    def kind(self) -> Quantisation:
        """The float type that holds the checkpoint's matrices."""
        used = match_tensors(self._checkpoint, self._model.wanted())
        kinds = {t.kind for parts in used for t in parts if len(t.shape) > 1} - {MXFP4}
        kind = kinds.pop() if len(kinds) == 1 else "F32"
        return QUANTISATIONS[kind if kind in QUANTISATIONS else "F32"]

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        checkpoint = self._checkpoint
        rows = self._shape.vocabulary
        return read_vocabulary(
            checkpoint.tokenizer_folder, rows, checkpoint.folder, checkpoint.whole_tokenizer
        )

    @property
    def chat(self) -> Chat:
        """Template and token from the tokenizer's files."""
        special = self._vocabulary.special
        end, ends = special.special_token_ids.get("eos"), self._vocabulary.ends
        return Chat(
            special.chat_template if isinstance(special.chat_template, str) else None,
            self._text(end) if end is not None else "",
            tuple(text for text, i in self._vocabulary.whole_tokens.items() if i in ends),
        )

    def _text(self, token: int) -> str:
        return self._vocabulary.tokens[token].decode(errors="replace")

    def header_bytes(self) -> int:
        """Return the size of the header that the writer writes."""
        return header_bytes(self._checkpoint, self._model, self._vocabulary)

    def write(self, kind: Quantisation, path: Path, progress: Progress) -> None:
        """Write straight from the checkpoint."""
        size = self._shape.parameters * (4 if kind.name == "F32" else 2)
        progress.stage(f"writing {kind.name}", size, bytes_=True)
        write_gguf(path, self._checkpoint, self._model, self._vocabulary, kind, progress.advance)


class ForeignCheckpoint(NativeCheckpoint):
    """A checkpoint for llama.cpp's own converter, quantised by llama.cpp as well."""

    foreign = True
    quantise = staticmethod(llama_quantise.quantise)

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        return fallback.vocabulary(self._checkpoint.folder, self._shape.vocabulary)

    def write(self, kind: Quantisation, path: Path, progress: Progress) -> None:
        """Run the converter."""
        progress.stage(f"writing {kind.name} with llama.cpp's own converter", 1)
        fallback.run_converter(self._checkpoint.folder, path, kind)


class GgufFile:
    """An existing GGUF; llama.cpp quantises the architectures that no native family covers."""

    foreign = False

    def __init__(self, stored: Stored) -> None:
        self._stored = stored
        self.file = stored.path

    @property
    def kind(self) -> Quantisation:
        """The file's own type."""
        return self._stored.kind

    @property
    def quantise(self) -> Callable[..., None]:
        """Ours for the architectures whose mixtures of types are known here."""
        known = self._stored.architecture in gguf_architectures()
        return quantise.quantise if known else llama_quantise.quantise

    @property
    def chat(self) -> Chat:
        """Template and token from the file's metadata."""
        header = self._stored.header
        template = header.metadata.get("tokenizer.chat_template")
        end = header.metadata.get("tokenizer.ggml.eos_token_id")
        text = text_at(header, TOKENS, end) if type(end) is int else None
        return Chat(template if isinstance(template, str) else None, text or "")

    def header_bytes(self) -> int:
        """Return the size of the file's own header with another type."""
        return quantise.header_bytes(self._stored.header)

    def write(self, kind: Quantisation, path: Path, progress: Progress) -> None:
        """Copy the file, or cast its matrices to another float type."""
        progress.stage(f"writing {kind.name}", len(self._stored.header.tensors))
        if kind == self.kind:
            shutil.copyfile(self.file, path)
        else:
            quantise.quantise(self.file, path, kind, os.cpu_count() or 1, counting(progress))
