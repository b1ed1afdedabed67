"""Finds the checkpoint that a user means: a folder, the sample, a recipe, or a hub id."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path

from pitool.catalog import tables
from pitool.catalog.files import what_is
from pitool.catalog.recipes import Recipe, default_recipe, find_recipe, recipes
from pitool.checkpoint.config import GGUF, Config, read_config
from pitool.checkpoint.lora import Adapter, merge
from pitool.checkpoint.tensors import Tensor, read_index
from pitool.errors import BadInput, UsageError

SAMPLE = "sample"
# What looks like a file's name, not like a model's.
FILE_SUFFIXES = (".gguf", ".safetensors", ".bin", ".json")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model")


@dataclass(frozen=True, slots=True)
class Source:
    """What to convert: ``folder`` once it is on this machine, else the hub's ``id``.

    A GGUF file stands for a folder. ``text``: a held-out text of the model's own kind, where there
    is one. ``adapters``: LoRAs to merge into it, in order; ``apart``: those that stay files of
    their own.
    """

    id: str
    revision: str | None
    folder: Path | None
    recipe: Recipe | None = None
    text: Path | None = None
    adapters: tuple[Adapter, ...] = ()
    apart: tuple[Adapter, ...] = ()


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint folder with its settings and the index of its tensors."""

    source: Source
    folder: Path
    config: Config
    tensors: dict[str, Tensor]


def find_source(model: str | None, tier: str) -> Source:
    """Return the source for what the user typed; None asks the tier's recipe."""
    if model is None:
        _, default = default_recipe(tier)
        return Source(default.source, default.revision, None, default)
    if model == SAMPLE:
        folder = _sample_folder()
        return Source(SAMPLE, None, folder, text=folder.parent / "heldout.txt")
    path = Path(model).expanduser()
    if model and what_is(path) == "folder":
        return Source(path.resolve().name, None, path)
    if what_is(path) == "file":
        raise BadInput(f"{path} is a file, not a checkpoint folder", "name its folder")
    if recipe := find_recipe(model):
        return Source(recipe.source, recipe.revision, None, recipe)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", model) and not model.startswith("."):
        return Source(model, "main", None)
    if path.is_absolute() or model.startswith(".") or path.suffix in FILE_SUFFIXES:
        raise BadInput(f"there is no folder or file {model!r}", "check the path")
    raise BadInput(
        f"there is no folder {model!r}, and it is no hub id or recipe",
        tables.nearest(model, [*recipes(), SAMPLE]),
    )


def with_revision(source: Source, revision: str | None) -> Source:
    """Return the source at a branch, tag or commit; UsageError for a folder, which has none."""
    if revision is None:
        return source
    if source.revision is None:
        raise UsageError(
            f"{source.id} is on this machine and has no revisions", "leave out --revision"
        )
    return replace(source, revision=revision)


def find_adapters(folders: Sequence[Path], scales: Sequence[float]) -> tuple[Adapter, ...]:
    """Return the adapters with their scales, 1 where none is given."""
    if len(scales) > len(folders):
        raise UsageError(
            f"{len(scales)} scales are given for {len(folders)} adapters",
            "give one --lora-scale for each --lora, in the same order",
        )
    if not all(isfinite(scale) for scale in scales):
        raise UsageError("a scale of an adapter is not a finite number", "give one such as 0.8")
    padded = (*scales, *(1.0,) * (len(folders) - len(scales)))
    return tuple(Adapter(folder, scale) for folder, scale in zip(folders, padded, strict=True))


def _sample_folder() -> Path:
    folder = tables.recipes_folder() / "sample" / "checkpoint"
    if not folder.is_dir():
        raise BadInput(
            "the sample model is not part of an installed package", "run pitool from a clone"
        )
    return folder


def open_checkpoint(source: Source) -> Checkpoint:
    """Return the checkpoint of a source that is on this machine; BadInput when it is unfit."""
    assert source.folder is not None
    config = read_config(source.folder)
    if config.model_type == GGUF:
        return Checkpoint(source, source.folder, config, {})
    if not any((source.folder / name).is_file() for name in TOKENIZER_FILES):
        raise BadInput(
            f"{source.folder} has no tokenizer (tokenizer.json or tokenizer.model)",
            "copy it from the original model",
        )
    tensors = read_index(source.folder)
    tied = config.flag("tie_word_embeddings", default=False)
    for adapter in source.adapters:
        tensors = merge(tensors, adapter, tied=tied)
    return Checkpoint(source, source.folder, config, tensors)
