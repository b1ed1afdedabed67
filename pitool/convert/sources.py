"""The files that a conversion starts from, looked at before hours are spent on them.

By the headers alone: whether all tensors are there. In one pass over the files: their hashes for
the manifest, and whether an artifact can hold their values.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from pitool.architectures.base import Wanted
from pitool.catalog import manifest
from pitool.catalog.manifest import FileEntry
from pitool.checkpoint import hub, tokenizer
from pitool.checkpoint.config import Config
from pitool.checkpoint.lora import Adapter
from pitool.checkpoint.source import Checkpoint, Source, with_adapters
from pitool.checkpoint.tensors import Tensor, read_header
from pitool.checkpoint.values import read_through
from pitool.checkpoint.weights import has_weights, is_weight, read_index, weight_files
from pitool.convert.gguf.model import Model, find_model
from pitool.convert.gguf.stored import Stored
from pitool.convert.gguf.writer import match_tensors
from pitool.convert.plan import ConvertPlan
from pitool.errors import BadInput
from pitool.planning.formats.gguf import GgufPlan
from pitool.planning.formats.onnx import OnnxPlan
from pitool.report.progress import Progress

Matched = list[tuple[Wanted, tuple[Tensor, ...]]]


def check_tensors(checkpoint: Checkpoint) -> None:
    """Raise BadInput for a tensor that is missing, misshapen or of a type that cannot be read."""
    _matched(checkpoint, find_model(checkpoint.config, convertible=False))


def check_headers(source: Source, config: Config) -> None:
    """Raise BadInput where a folder's weights or adapters cannot be what its settings say.

    A folder without weights can be planned too; nothing is fetched for a model on the hub.
    """
    folder = source.folder
    if folder is None or source.revision is not None or folder.is_file() or not has_weights(folder):
        return
    everything = replace(source, adapters=(*source.adapters, *source.apart))
    check_tensors(with_adapters(Checkpoint.of(everything, config, read_index(folder))))


def hash_sources(
    checkpoint: Checkpoint, progress: Progress, plan: ConvertPlan | None = None
) -> manifest.Source:
    """Return the files that artifacts are made from, with their hashes.

    BadInput for a download that is damaged, and for a value that no artifact can hold, or that
    one of the ``plan`` cannot.
    """
    source, folder = checkpoint.source, checkpoint.folder
    adapters = (*source.adapters, *source.apart)
    matched = _matched(checkpoint, find_model(checkpoint.config, convertible=False))
    parts = [stored for _, parts in matched for part in parts for stored in part.parts]
    used = [stored for stored in parts if stored.is_float]
    halves = _halves(matched, plan) if plan else frozenset[str]()
    root, paths = _files(folder)
    progress.stage("hashing the checkpoint", len(paths) + sum(len(_all_files(a)) for a in adapters))
    return manifest.Source(
        source.id,
        source.revision,
        tuple(_read(path, root, used, halves, progress) for path in paths),
        tuple(_adapter(adapter, progress) for adapter in source.adapters),
        tuple(_adapter(adapter, progress) for adapter in source.apart),
    )


def _files(folder: Path) -> tuple[Path, list[Path]]:
    """Return the folder of a checkpoint, or of a GGUF, and the files that count."""
    if folder.is_file():
        return folder.parent, [folder]
    names = ("config.json", "generation_config.json", *tokenizer.FILES)
    settings = [path for name in names if (path := folder / name).is_file()]
    return folder, [*settings, *weight_files(folder)]


def _matched(checkpoint: Checkpoint, model: Model) -> Matched:
    """Return the tensors of the GGUF with those of the checkpoint that they are made of.

    Those of a GGUF that is converted are its own, where they are floats.
    """
    wanted = model.wanted()
    if not isinstance(model, Stored):
        return list(zip(wanted, match_tensors(checkpoint, wanted), strict=True))
    own = [
        Tensor(t.name, t.type.name, t.shape, model.path, t.start, t.start + t.bytes)
        for t in model.header.tensors
    ]
    pairs = zip(wanted, own, strict=True)
    return [(want, (tensor,)) for want, tensor in pairs if tensor.is_float]


def _halves(matched: Matched, plan: ConvertPlan) -> frozenset[str]:
    """Return the names of tensors in the checkpoint that a plan's artifacts store in F16."""
    stored = {
        typed.tensor.name
        for artifact in plan.of(GgufPlan)
        for typed in artifact.tensors
        if typed.type.name == "F16"
    }
    every = any(artifact.quantisation.bits == 16 for artifact in plan.of(OnnxPlan))
    return frozenset(
        part.name
        for want, parts in matched
        if every or want.target.name in stored
        for part in parts
    )


def _adapter(adapter: Adapter, progress: Progress) -> manifest.Adapter:
    factors = [tensor for tensor in read_header(adapter.files[1]) if is_weight(tensor)]
    return manifest.Adapter(
        adapter.folder.resolve().name,
        adapter.scale,
        tuple(_read(p, adapter.folder, factors, (), progress) for p in _all_files(adapter)),
    )


def _all_files(adapter: Adapter) -> tuple[Path, ...]:
    """Return the files of an adapter, and those of a tokenizer that it may bring."""
    own = (adapter.folder / name for name in tokenizer.FILES)
    return (*adapter.files, *(path for path in own if path.is_file()))


def _read(
    path: Path,
    folder: Path,
    tensors: Sequence[Tensor],
    halves: Collection[str],
    progress: Progress,
) -> FileEntry:
    """Return the entry of a file under ``folder``; BadInput where it is damaged, or a value is."""
    read = read_through(path, [tensor for tensor in tensors if tensor.path == path], halves)
    if hub.expected_sha256(path) not in (None, read.sha256):
        path.resolve().unlink()
        path.unlink()
        raise BadInput(
            f"the download of {path.name} was damaged", "run the command again to download it again"
        )
    if read.wrong:
        raise read.wrong
    progress.advance(1)
    return FileEntry(path.relative_to(folder).as_posix(), read.bytes, read.sha256)
