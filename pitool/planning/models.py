"""The model of a plan as a board can know it: by a GGUF's header, a bundle, or a size.

A checkpoint's settings are read on the host, by ``convert``.
"""

from __future__ import annotations

from pathlib import Path

from pitool.catalog import bundles, gguf
from pitool.catalog.model_argument import ModelArgument, ModelKind
from pitool.errors import BadInput
from pitool.planning.formats import find_format
from pitool.planning.formats.base import PlannedModel
from pitool.planning.shapes import header_shape, header_tensors, sized_shape

# What is planned without the host's packages.
PLANNED = (ModelKind.BUNDLE, ModelKind.GGUF, ModelKind.SIZE)


def planned_model(found: ModelArgument) -> PlannedModel:
    """Return the model that a word of one of the ``PLANNED`` kinds names."""
    if found.kind is ModelKind.SIZE:
        return PlannedModel(*sized_shape(found.text), typical=True)
    return _bundle(found.path) if found.kind is ModelKind.BUNDLE else _gguf(found.path)


def _gguf(path: Path) -> PlannedModel:
    header = gguf.read_header(path)
    stored = {header.quantisation: header_tensors(header)}
    return PlannedModel(header.name, header_shape(header), stored, header=header.size)


def _bundle(path: Path) -> PlannedModel:
    bundle = bundles.find_bundle(path)
    headers = {
        a.quantisation: gguf.read_header(bundle.path / a.files[0].path)
        for a in bundle.manifest.artifacts
        if find_format(a.format).planned_by_header
    }
    if not headers:
        source = bundle.manifest.source.id
        raise BadInput(f"{path} contains no GGUF artifact", f"use its checkpoint instead: {source}")
    first = next(iter(headers.values()))
    return PlannedModel(
        bundle.manifest.name,
        header_shape(first),
        {name: header_tensors(header) for name, header in headers.items()},
        {a.quantisation: a.certificate for a in bundle.manifest.artifacts if a.certificate},
        header=first.size,
        caches={a.quantisation: a.caches for a in bundle.manifest.artifacts if a.caches},
    )
