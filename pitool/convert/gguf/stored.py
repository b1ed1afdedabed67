"""A GGUF as the source of a conversion: the family of its tensors, and what cannot be begun with.

Its tensors have their names, order and metadata already; they are only quantised, or cast.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from pitool.architectures.base import Wanted
from pitool.catalog import gguf
from pitool.catalog.files import what_is
from pitool.catalog.gguf import ALIGNMENT, Header
from pitool.catalog.model_shape import ModelShape
from pitool.catalog.tensor_types import QUANTISATIONS, Quantisation
from pitool.checkpoint.source import Source
from pitool.errors import BadInput, UsageError
from pitool.planning.shapes import header_shape

SUFFIX = ".gguf"
FLOATS = ("F32", "F16", "BF16")


class Stored:
    """The model in one GGUF file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header = gguf.read_header(path)
        self.architecture = self.header.architecture

    @cached_property
    def shape(self) -> ModelShape:
        """What the header tells."""
        return header_shape(self.header)

    @property
    def kind(self) -> Quantisation:
        """The file's own type: the widest of its matrices where these are floats."""
        return kind_of(self.header)

    def wanted(self) -> list[Wanted]:
        """Return the file's tensors."""
        return [Wanted(tensor, tensor.name) for tensor in self.shape.tensors]

    def metadata(self) -> Iterator[tuple[str, Any]]:
        """Yield nothing: the file's own is kept."""
        yield from ()


def kind_of(header: Header) -> Quantisation:
    """Return the type of a GGUF: of a float one the widest of its matrices."""
    kinds = {t.type.name for t in header.tensors if len(t.shape) > 1}
    if kinds <= set(FLOATS):
        # Only F32 holds the values of F16 and BF16 alike.
        return QUANTISATIONS[kinds.pop() if len(kinds) == 1 else "F32"]
    name = header.quantisation
    if name in QUANTISATIONS and QUANTISATIONS[name].quantised:
        return QUANTISATIONS[name]
    largest = max(header.tensors, key=lambda t: t.bytes if t.type.name not in FLOATS else 0)
    number = header.metadata.get("general.file_type", 0)
    return Quantisation(largest.type.name, number, largest.type.name)


def find_gguf(model: str | None) -> Source | None:
    """Return the source for a GGUF file that the user named; None for another thing."""
    path = Path(model or "").expanduser()
    if what_is(path) != "file" or (path.suffix.lower() != SUFFIX and not _begins_as_gguf(path)):
        return None
    return Source(name_of(path), None, path)


def _begins_as_gguf(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(gguf.MAGIC)) == gguf.MAGIC
    except OSError:
        return False


def check(source: Source, *, requantise: bool, sized: bool) -> str | None:
    """Raise where a GGUF cannot be converted: a part of one, a quantised one unless wished.

    Returns what must be said of a quantised source, None of a float one. ``sized``: a size is
    asked for, which is solved with the errors of rounding float weights.
    """
    assert source.folder
    header = gguf.read_header(source.folder)
    header_shape(header)
    if source.adapters or source.apart:
        raise UsageError(
            "a LoRA is merged into a checkpoint, not into a GGUF",
            "name the checkpoint, or leave out --lora",
        )
    if header.metadata.get("split.count", 1) not in (0, 1):
        raise BadInput(
            f"{source.folder} is one part of a split GGUF",
            "join the parts with llama-gguf-split --merge",
        )
    if header.metadata.get("general.alignment", ALIGNMENT) != ALIGNMENT:
        raise BadInput(
            f"{source.folder} aligns its tensors otherwise than to {ALIGNMENT} bytes",
            "convert the checkpoint that it was made of",
        )
    kind = kind_of(header)
    if kind.quantised and sized:
        raise UsageError(
            f"{source.folder.name} is quantised ({kind.name}): a size is solved on float weights",
            "convert the checkpoint or a float GGUF",
        )
    if kind.quantised and not requantise:
        raise UsageError(
            f"{source.folder.name} is quantised ({kind.name}), and quantising again adds to the"
            " loss",
            "convert the checkpoint or a float GGUF, or give --requantise",
        )
    if not kind.quantised:
        return None
    return (
        f"warning: {source.id} is quantised ({kind.name}) already: what it has lost stays lost,"
        " and the certificates compare with it, not with the checkpoint"
    )


def name_of(path: Path) -> str:
    """Return the model's name by its file's: without the quantisation at the end."""
    names = "|".join(map(re.escape, QUANTISATIONS))
    return re.sub(rf"[-._]({names})$", "", path.stem, flags=re.IGNORECASE) or path.stem
