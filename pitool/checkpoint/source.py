"""The checkpoint that a user names, and its folder opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path

from pitool.catalog import gguf, tables
from pitool.catalog.model_argument import (
    CHECKPOINTS,
    SAMPLE,
    ModelArgument,
    ModelKind,
    resolve,
)
from pitool.catalog.recipes import Recipe, default_recipe
from pitool.checkpoint.config import GGUF, Config, read_config
from pitool.checkpoint.lora import Adapter, merge
from pitool.checkpoint.tensors import Tensor, read_index
from pitool.checkpoint.tokenizer import Choice, choose
from pitool.errors import BadInput, UsageError

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

    @property
    def tokenizer_folder(self) -> Path:
        """The folder whose tokenizer counts: that of an adapter that brings one, else its own."""
        return choose_tokenizer(self.source, self.folder).folder


def find_source(model: str | None, tier: str, *, gguf_too: bool = False) -> Source:
    """Return the source for what the user typed; None asks the tier's recipe.

    ``gguf_too``: a GGUF file is a source as well.
    """
    if model is None:
        _, default = default_recipe(tier)
        return Source(default.source, default.revision, None, default)
    accepted = (*CHECKPOINTS, ModelKind.GGUF) if gguf_too else CHECKPOINTS
    return source_of(resolve(model, accepted))


def source_of(found: ModelArgument) -> Source:
    """Return the source that a word names."""
    match found.kind:
        case ModelKind.SAMPLE:
            folder = _sample_folder()
            return Source(SAMPLE, None, folder, text=folder.parent / "heldout.txt")
        case ModelKind.RECIPE:
            assert found.recipe
            return Source(found.recipe.source, found.recipe.revision, None, found.recipe)
        case ModelKind.HUB:
            return Source(found.text, "main", None)
        case ModelKind.GGUF:
            return Source(gguf.model_name(found.path), None, found.path)
        case _:
            return Source(found.path.resolve().name, None, found.path)


def with_revision(source: Source, revision: str | None) -> Source:
    """Return the source at a branch, tag or commit; UsageError for a folder, which has none."""
    if revision is None:
        return source
    if source.revision is None:
        raise UsageError(f"{source.id} is a local model and has no revisions", "drop --revision")
    return replace(source, revision=revision)


def find_adapters(folders: Sequence[Path], scales: Sequence[float]) -> tuple[Adapter, ...]:
    """Return the adapters with their scales, 1 where none is given."""
    if len(scales) > len(folders):
        raise UsageError(
            f"{len(scales)} scales were given for {len(folders)} adapters",
            "use one --lora-scale per --lora, in the same order",
        )
    if not all(isfinite(scale) for scale in scales):
        raise UsageError("an adapter scale is not a finite number", "use a number such as 0.8")
    padded = (*scales, *(1.0,) * (len(folders) - len(scales)))
    return tuple(Adapter(folder, scale) for folder, scale in zip(folders, padded, strict=True))


def choose_tokenizer(source: Source, folder: Path) -> Choice:
    """Return whose tokenizer counts: that of the checkpoint, or of an adapter that brings one."""
    return choose(folder, tuple(each.folder for each in (*source.adapters, *source.apart)))


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
