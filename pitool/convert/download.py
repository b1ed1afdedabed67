"""Brings a source to this machine: its settings for a plan, then its weights.

Owns what must hold before weights are fetched: they can be converted, and the disk has room for
them. How files are fetched is ``checkpoint.hub``'s.
"""

from __future__ import annotations

from dataclasses import replace

from pitool.architectures.table import TABLE, describe
from pitool.catalog.model_argument import ModelArgument, ModelKind
from pitool.catalog.staging import check_disk
from pitool.checkpoint import hub
from pitool.checkpoint.config import GGUF, Config, read_config
from pitool.checkpoint.source import Checkpoint, Source, check_tokenizer
from pitool.checkpoint.weights import has_weights, read_index
from pitool.convert.gguf import grids, quantise
from pitool.convert.gguf.grids import Found
from pitool.convert.gguf.model import find_model
from pitool.convert.gguf.origins import find_origin
from pitool.convert.onnx.fused import supported
from pitool.convert.scope import text_alone
from pitool.convert.sources import check_headers, check_tensors
from pitool.errors import PitoolError
from pitool.planning.formats import GGUF as GGUF_FORMAT
from pitool.planning.formats.base import PlannedModel
from pitool.planning.models import planned_model
from pitool.planning.type_mixture import assign_types, keep_grids
from pitool.report.progress import Progress


def read_settings(source: Source) -> Config:
    """Return the settings of a source whose folder is known.

    The settings of a native family determine its tensors, but for layers that predict further
    tokens. For these, and for any other model, they are read from the headers of the weights, by
    range requests if the weights are still on the hub.
    """
    if source.trim:
        return _trimmed_settings(source)
    assert source.folder
    config = read_config(source.folder)
    if config.model_type != GGUF:
        check_tokenizer(source.folder, needed=False)
    told = config.model_type in TABLE and not describe(config).predictors
    if source.revision is not None and not told:
        return config.with_tensors(hub.read_headers(source).tensors)
    return config


def _trimmed_settings(source: Source) -> Config:
    """Return the settings with new ids; which tensors there are, the whole checkpoint says."""
    config = read_config(source.settings_folder)
    if config.model_type == GGUF:
        return config
    assert source.folder
    index = read_settings(source.whole).tensors
    if index is None and has_weights(source.folder):
        index = read_index(source.folder)
    return config if index is None else config.with_tensors(index)


def planned_checkpoint(source: Source) -> PlannedModel:
    """Return the model of a plan for a source whose settings are on this machine."""
    whole = read_settings(source.whole)
    check_headers(source, whole)
    found = find_grids(source, whole) or {}
    config = read_settings(source) if source.trim else whole
    model = find_model(config)
    said = tuple(filter(None, (model.remark, text_alone(config))))
    planned = PlannedModel(
        source.id,
        model.shape,
        header=_header_bytes(source, config),
        grids=grids.types_of(found),
        remarks=said,
        expressible=supported(config),
    )
    if kind := GGUF_FORMAT.grid_of(planned):
        typed = keep_grids(assign_types(model.shape, kind), kind, planned.grids)
        return replace(planned, remarks=(*said, grids.describe(found, typed)))
    return planned


def planned_trimmed(source: Source) -> PlannedModel:
    """Return the model of a plan for a source whose vocabulary is cut, beside the whole one."""
    assert source.trim
    plan = _planned_gguf if source.trim.folder.is_file() else planned_checkpoint
    before, after = plan(source.whole), plan(source)
    return replace(after, vocabulary=source.trim.said, whole=before)


def _planned_gguf(source: Source) -> PlannedModel:
    return planned_model(ModelArgument(source.id, ModelKind.GGUF, source.settings_folder))


def find_grids(source: Source, config: Config) -> Found | None:
    """Return the matrices that seem to lie on grids; None where the weights are not at hand.

    With a LoRA to be merged, none. What is wrong with weights is said by who reads all of them.
    """
    folder = source.folder
    assert folder
    here = folder.is_file() or (source.revision is None and has_weights(folder))
    if not here or source.adapters:
        return {} if here else None
    try:
        model = find_model(config, convertible=False)
        index = {} if folder.is_file() else read_index(folder)
        checkpoint = Checkpoint.of(source, config, index)
        own = find_origin(checkpoint).quantise is quantise.quantise
        return grids.guess(checkpoint, model) if own else {}
    except (PitoolError, OSError):
        return {}


def _header_bytes(source: Source, config: Config) -> int | None:
    """Return the bytes of a GGUF before its tensors; None where no vocabulary can be read.

    A plan needs only settings, so what is wrong with a tokenizer is for ``convert`` to say.
    """
    if config.model_type not in TABLE:
        return None
    try:
        return find_origin(Checkpoint(source, source.settings_folder, config, {})).header_bytes()
    except PitoolError:
        return None


def download(source: Source, progress: Progress, *, for_gguf: bool) -> Source:
    """Return the source with all its files on this machine; local sources are returned as is.

    Nothing is fetched if the disk is too small, if the headers of the weights are not what the
    settings say, or if a GGUF is wanted and cannot be made.
    """
    if source.revision is None:
        return source
    source = source if source.folder else hub.fetch_settings(source)
    headers = hub.read_headers(source)
    if headers.missing_bytes:
        assert source.folder
        config = read_config(source.folder).with_tensors(headers.tensors)
        checkpoint = Checkpoint.of(source, config, headers.tensors)
        check_tensors(checkpoint)
        if for_gguf:
            find_origin(checkpoint)
        check_disk([(hub.cache_folder(), headers.missing_bytes)])
        progress.stage(f"downloading {source.id}", headers.missing_bytes, bytes_=True)
    return hub.fetch_weights(source, progress.advance)
