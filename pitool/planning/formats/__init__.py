"""The formats of artifacts: the one table of them.

Nothing else in pitool asks whether something is GGUF or ONNX: it asks the format. A format is one
module here and one row of ``FORMATS``.
"""

from __future__ import annotations

from pitool.planning.formats.base import Format, PlannedFormat
from pitool.planning.formats.gguf import Gguf
from pitool.planning.formats.onnx import Onnx

GGUF, ONNX = Gguf(), Onnx()
# By the name that manifests have.
FORMATS: dict[str, PlannedFormat] = {form.name: form for form in (GGUF, ONNX)}


def find_format(name: str) -> Format:
    """Return the format of this name; one of which nothing is known where it has no row."""
    return FORMATS.get(name) or Format(name)


def format_of_engine(engine: str) -> Format:
    """Return the format that the engine of this name runs."""
    found = (form for form in FORMATS.values() if form.engine == engine)
    return next(found, Format(engine))
