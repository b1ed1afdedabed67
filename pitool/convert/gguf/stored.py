"""A GGUF as the source of a conversion: how it is found, checked and described.

Its tensors already have their names, order and metadata; they are only quantised or cast.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from pitool.architectures.base import Wanted
from pitool.catalog import gguf
from pitool.catalog.gguf import ALIGNMENT, Header
from pitool.catalog.model_shape import ModelShape
from pitool.catalog.tables import names_in
from pitool.catalog.tensor_types import QUANTISATIONS, Quantisation
from pitool.checkpoint.source import Source
from pitool.errors import BadInput, UsageError
from pitool.planning.planner import AUTO
from pitool.planning.shapes import header_shape

FLOATS = ("F32", "F16", "BF16")


class Stored:
    """The model in one GGUF file."""

    remark = ""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header = gguf.read_header(path)
        self.architecture = self.header.architecture

    @cached_property
    def shape(self) -> ModelShape:
        """The model's shape, from the header."""
        return header_shape(self.header)

    @property
    def kind(self) -> Quantisation:
        """The file's own type: the widest of its matrices if all are floats."""
        return kind_of(self.header)

    def wanted(self) -> list[Wanted]:
        """Return the file's tensors."""
        return [Wanted(tensor, tensor.name) for tensor in self.shape.tensors]

    def metadata(self) -> Iterator[tuple[str, Any]]:
        """Yield nothing: the file's own metadata is kept."""
        yield from ()


def kind_of(header: Header) -> Quantisation:
    """Return the type of a GGUF: the widest of its matrices if all are floats."""
    kinds = {t.type.name for t in header.tensors if len(t.shape) > 1}
    if kinds <= set(FLOATS):
        # Only F32 holds the values of both F16 and BF16.
        return QUANTISATIONS[kinds.pop() if len(kinds) == 1 else "F32"]
    name = header.quantisation
    if name in QUANTISATIONS and QUANTISATIONS[name].quantised:
        return QUANTISATIONS[name]
    largest = max(header.tensors, key=lambda t: t.bytes if t.type.name not in FLOATS else 0)
    number = header.metadata.get("general.file_type", 0)
    return Quantisation(largest.type.name, number, largest.type.name)


def unchanged(kind: Quantisation, quant: str | None, *, requantise: bool) -> bool:
    """Tell whether a GGUF of this type is only asked for as it is: ``quant`` names no other."""
    names = [name.upper() for name in names_in(quant or "")]
    as_it_is = names == [kind.name] or (names in ([], [AUTO.upper()]) and not requantise)
    return kind.quantised and as_it_is


def check(source: Source, quant: str | None, *, requantise: bool, sized: bool) -> str | None:
    """Raise when a GGUF cannot be converted; return a warning for a quantised one.

    ``quant``: the quantisations that are asked for; ``requantise``: others than that of a quantised
    source are allowed; ``sized``: a file size is asked for, which needs the rounding errors of
    float weights.
    """
    assert source.folder
    header = gguf.read_header(source.folder)
    header_shape(header)
    if source.adapters or source.apart:
        raise UsageError(
            "a LoRA cannot be merged into a GGUF",
            "convert the checkpoint instead, or drop --lora",
        )
    if header.parts > 1:
        raise BadInput(
            f"{source.folder} is one part of a split GGUF",
            "merge the parts with: llama-gguf-split --merge",
        )
    if header.metadata.get("general.alignment", ALIGNMENT) != ALIGNMENT:
        raise BadInput(
            f"the tensors in {source.folder} are not aligned to {ALIGNMENT} bytes",
            "convert the original checkpoint",
        )
    kind = kind_of(header)
    if kind.quantised and sized:
        raise UsageError(
            f"{source.folder.name} is already quantised ({kind.name}), and --size and --fit need"
            " float weights",
            "convert the checkpoint or a float GGUF",
        )
    if kind.quantised and not (requantise or unchanged(kind, quant, requantise=False)):
        raise UsageError(
            f"{source.folder.name} is already quantised ({kind.name}), and quantising it again"
            " loses more quality",
            "convert the checkpoint or a float GGUF, drop --quant to keep it as it is, or allow"
            " it with --requantise",
        )
    if not kind.quantised:
        return None
    return (
        f"warning: {source.id} is already quantised ({kind.name}): the quality it has lost cannot"
        " be restored, and the certificates compare with this GGUF, not with the checkpoint"
    )
