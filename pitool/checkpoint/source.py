"""The checkpoint that a user names, and its folder opened."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pitool.catalog import gguf, tables
from pitool.catalog.contents import check_content
from pitool.catalog.manifest import Vocabulary
from pitool.catalog.model_argument import (
    CHECKPOINTS,
    SAMPLE,
    ModelArgument,
    ModelKind,
    resolve,
)
from pitool.catalog.recipes import Recipe, default_recipe
from pitool.catalog.unicode import clean
from pitool.checkpoint.config import GGUF, HEAD, Config, read_config
from pitool.checkpoint.lora import Adapter, merge
from pitool.checkpoint.mxfp4 import packed
from pitool.checkpoint.scaled import scaled
from pitool.checkpoint.selected import select
from pitool.checkpoint.tensors import Tensor
from pitool.checkpoint.tokenizer import Choice, choose
from pitool.checkpoint.weights import find_name, is_buffer, is_weight, read_index
from pitool.errors import BadInput, UsageError

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model")


@dataclass(frozen=True, slots=True)
class Trim:
    """What is left of a vocabulary that is cut.

    ``kept``: the ids of its tokens, ascending; a token's new id is its place among them.
    ``folder``: settings and tokenizer with the new ids, or the path of a GGUF with them.
    ``matrices``: names of the tensors with a row for each token. ``said``: what a manifest says.
    """

    kept: NDArray[np.int64] = field(compare=False)
    folder: Path
    matrices: tuple[str, ...]
    said: Vocabulary

    @property
    def digest(self) -> str:
        """What tells this choice of tokens from any other."""
        return hashlib.sha256(self.kept.astype("<i8").tobytes()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Source:
    """What to convert: ``folder`` once it is on this machine, else the hub's ``id``.

    A GGUF file stands for a folder. ``text``: a held-out text of the model's own kind, where there
    is one. ``adapters``: LoRAs to merge into it, in order; ``apart``: those that stay files of
    their own. ``trim``: what is left of its vocabulary, None where that is whole.
    """

    id: str
    revision: str | None
    folder: Path | None
    recipe: Recipe | None = None
    text: Path | None = None
    adapters: tuple[Adapter, ...] = ()
    apart: tuple[Adapter, ...] = ()
    trim: Trim | None = None

    def __post_init__(self) -> None:
        clean(self, "id")

    @property
    def settings_folder(self) -> Path:
        """The folder of settings and tokenizer, or the GGUF, as they will be converted."""
        assert self.folder is not None
        return self.trim.folder if self.trim else self.folder

    @property
    def whole(self) -> Source:
        """The same source with all of its vocabulary."""
        return replace(self, trim=None)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint folder with its settings and the index of its weights.

    ``others``: what is stored beside them in a type that cannot be read, such as a mask of
    integers, or a quantised matrix. A weight that no family asks for by its name is left out, as
    transformers leaves it out. ``whole``: the same with all tokens, where the vocabulary is cut.
    """

    source: Source
    folder: Path
    config: Config
    tensors: dict[str, Tensor]
    others: Mapping[str, Tensor] = field(default_factory=dict)
    whole: Checkpoint | None = None

    @classmethod
    def of(cls, source: Source, config: Config, index: Mapping[str, Tensor]) -> Checkpoint:
        """Return the checkpoint of a source whose tensors are known, before any adapter."""
        assert source.folder is not None
        weights = {name: tensor for name, tensor in index.items() if is_weight(tensor)}
        weights |= packed(index)
        weights |= scaled(index, config.values)
        others = {
            name: tensor
            for name, tensor in index.items()
            if not (tensor.is_float or name in weights)
        }
        return cls(source, source.folder, config, weights, others)

    @property
    def tied(self) -> bool:
        """Whether one tensor is both embedding and head: as the settings say, or as there is."""
        heads = (HEAD, "embed_out.weight")
        there = any(name.endswith(heads) for name in self.tensors)
        return self.config.text_model().tied or not there

    def weight(self, names: Sequence[str], shape: tuple[int, ...]) -> Tensor:
        """Return the weight under the first of ``names`` that there is.

        BadInput where there is none, where it has another shape, or a type that cannot be read.
        """
        found = (find_name(self.tensors, name) for name in names)
        known = next((name for name in found if name), None)
        if known is None:
            raise self._without(names[0])
        tensor = self.tensors[known]
        if tensor.shape != shape:
            raise BadInput(
                f"{self.folder}: {tensor.name!r} has shape {tensor.shape}, but config.json implies"
                f" {shape}",
                "use weights and config.json from the same release",
            )
        return tensor

    def _without(self, name: str) -> BadInput:
        """Return the error of a weight that is missing, or is there in another form."""
        module = name.rpartition(".")[0]
        for other, tensor in self.others.items():
            if other.startswith(f"{module}.") and not is_buffer(other):
                return BadInput(
                    f"{tensor.path}: {tensor.name!r} is stored as {tensor.kind}; only F64, F32, F16"
                    " and BF16 are supported",
                    "use the checkpoint that is not quantised",
                )
        return BadInput(f"{self.folder} has no tensor {name!r}", "download it again")

    @property
    def tokenizer_folder(self) -> Path:
        """The folder whose tokenizer counts: that of an adapter that brings one, else its own."""
        return choose_tokenizer(self.source, self.folder).folder

    @property
    def whole_tokenizer(self) -> Path | None:
        """The folder of the tokenizer of which this one is a part; None where nothing was cut."""
        if self.source.trim is None:
            return None
        assert self.source.folder is not None
        return choose_tokenizer(self.source.whole, self.source.folder).folder


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
    if source.trim:
        return _trimmed(open_checkpoint(source.whole), source, source.trim)
    assert source.folder is not None
    config = read_config(source.folder)
    if config.model_type == GGUF:
        return Checkpoint(source, source.folder, config, {})
    check_tokenizer(source.folder)
    return with_adapters(Checkpoint.of(source, config, read_index(source.folder)))


def _trimmed(whole: Checkpoint, source: Source, trim: Trim) -> Checkpoint:
    """Return a checkpoint with the rows of the kept tokens alone."""
    tensors = dict(whole.tensors)
    for name in trim.matrices:
        if known := find_name(tensors, name):
            tensors[known] = select(whole.tensors[known], trim.kept)
    config = read_config(trim.folder)
    if config.model_type != GGUF:
        config = config.with_tensors(tensors)
    return Checkpoint(source, trim.folder, config, tensors, whole.others, whole)


def with_adapters(checkpoint: Checkpoint) -> Checkpoint:
    """Return a checkpoint with its source's adapters merged; BadInput where one does not belong."""
    for adapter in checkpoint.source.adapters:
        merged = merge(checkpoint.tensors, adapter, tied=checkpoint.tied)
        checkpoint = replace(checkpoint, tensors=merged)
    return checkpoint


def check_tokenizer(folder: Path, *, needed: bool = True) -> None:
    """Raise BadInput where a tokenizer's file is something else, or none is there if ``needed``."""
    found = [path for name in TOKENIZER_FILES if os.path.lexists(path := folder / name)]
    for path in found:
        check_content(path)
    if needed and not found:
        raise BadInput(
            f"{folder} has no tokenizer (tokenizer.json or tokenizer.model)",
            "copy it from the original model",
        )
