"""The model of a plan as a board can know it: by a GGUF's header, a bundle, or a size.

A checkpoint's settings are read on the host, by ``convert``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from pitool.catalog import bundles, gguf
from pitool.catalog.bundles import Bundle
from pitool.catalog.model_argument import ModelArgument, ModelKind
from pitool.catalog.model_shape import VOCABULARY_PADDING
from pitool.errors import BadInput, PitoolError
from pitool.planning.drafts import is_small_enough
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


def local_drafts(found: ModelArgument) -> Iterator[PlannedModel]:
    """Yield the bundles on this machine that hold a smaller model with the same vocabulary.

    Each by the name of its folder. None for what is planned without a GGUF.
    """
    if found.kind is ModelKind.GGUF:
        header = gguf.read_header(found.path)
    elif found.kind is ModelKind.BUNDLE:
        header = _first(_headers(bundles.find_bundle(found.path)))
    else:
        return
    tokens: list[bytes] = []
    for bundle in bundles.list_bundles()[0]:
        with suppress(PitoolError):  # what is damaged guesses for nobody
            others = _headers(bundle)
            if others and is_small_enough(_first(others).parameters, header.parameters):
                tokens = tokens or _tokens(header)
                if _agree(tokens, _tokens(_first(others))):
                    yield replace(_planned(bundle, others), name=bundle.path.name)


def _agree(ours: list[bytes], theirs: list[bytes]) -> bool:
    """Tell whether two vocabularies are the same but for what pads one of them."""
    return abs(len(ours) - len(theirs)) <= VOCABULARY_PADDING and all(
        map(bytes.__eq__, ours, theirs)
    )


def _tokens(header: gguf.Header) -> list[bytes]:
    """Return the texts of the tokens, none where a file has none."""
    entries = gguf.read_entries(header)
    return next((e.array or [] for e in entries if e.key == "tokenizer.ggml.tokens"), [])


def _gguf(path: Path) -> PlannedModel:
    header = gguf.read_header(path)
    stored = {header.quantisation: header_tensors(header)}
    return PlannedModel(header.name, header_shape(header), stored, header=header.size)


def _bundle(path: Path) -> PlannedModel:
    bundle = bundles.find_bundle(path)
    headers = _headers(bundle)
    if not headers:
        source = bundle.manifest.source.id
        raise BadInput(f"{path} contains no GGUF artifact", f"use its checkpoint instead: {source}")
    return _planned(bundle, headers)


def _planned(bundle: Bundle, headers: Mapping[str, gguf.Header]) -> PlannedModel:
    """Return the model of a bundle, whose GGUFs have these headers by quantisation."""
    first = _first(headers)
    return PlannedModel(
        bundle.manifest.name,
        header_shape(first),
        {name: header_tensors(header) for name, header in headers.items()},
        {a.quantisation: a.certificate for a in bundle.manifest.artifacts if a.certificate},
        header=first.size,
        caches={a.quantisation: a.caches for a in bundle.manifest.artifacts if a.caches},
    )


def _first(headers: Mapping[str, gguf.Header]) -> gguf.Header:
    return next(iter(headers.values()))


def _headers(bundle: Bundle) -> dict[str, gguf.Header]:
    """Return the headers of a bundle's GGUFs by quantisation."""
    return {
        a.quantisation: gguf.read_header(bundle.path / a.files[0].path)
        for a in bundle.manifest.artifacts
        if find_format(a.format).planned_by_header
    }
