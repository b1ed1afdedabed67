"""What a MODEL or BUNDLE on the command line is: one resolver, with one set of sentences.

Says what a word names and where that lies; the formats, the hub and the checkpoint's settings are
read by those who need them.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from pitool.catalog import gguf, manifest, onnx, tables
from pitool.catalog.bundles import (
    LOOSE_CONTEXT,
    Runnable,
    choose,
    default_folder,
    find_bundle,
    is_name,
    newest,
)
from pitool.catalog.files import expand, path_kind
from pitool.catalog.model_shape import loaded_within
from pitool.catalog.recipes import Recipe, find_recipe, recipes
from pitool.errors import BadInput, UsageError

SAMPLE = "sample"
# What looks like a file's name, not like a model's.
FILE_SUFFIXES = (".gguf", ".safetensors", ".bin", ".json")


class ModelKind(enum.StrEnum):
    """What a word can name, in words."""

    SAMPLE = "the sample model"
    FOLDER = "a checkpoint folder"
    BUNDLE = "a bundle"
    GGUF = "a GGUF file"
    ONNX = "an ONNX folder"
    RECIPE = "a recipe"
    SIZE = "a size"
    HUB = "a hub id"


CHECKPOINTS = (ModelKind.SAMPLE, ModelKind.FOLDER, ModelKind.RECIPE, ModelKind.HUB)
RUNNABLES = (ModelKind.BUNDLE, ModelKind.GGUF, ModelKind.ONNX)
# What to name instead of what a command does not take.
_INSTEAD = {
    ModelKind.BUNDLE: "use the checkpoint that it was converted from",
    ModelKind.GGUF: "use the checkpoint that it was converted from",
    ModelKind.ONNX: "use the checkpoint that it was converted from",
    ModelKind.SIZE: "use a folder, a hub id or a recipe",
}


@dataclass(frozen=True, slots=True)
class ModelArgument:
    """What a word names; ``path``: of what lies on this machine; ``recipe``: where it is one."""

    text: str
    kind: ModelKind
    path: Path
    recipe: Recipe | None = None


def resolve(text: str, accepted: Collection[ModelKind]) -> ModelArgument:
    """Return what a word names of what is ``accepted``; BadInput where it is nothing of that.

    What lies on this machine goes before a recipe, a size or a hub id of the same name.
    """
    path = expand(text)
    found = list(_kinds(text, path))
    kind = next((kind for kind in found if kind in accepted), None)
    if kind is None and ModelKind.FOLDER not in accepted:
        # Who opens it says what is wrong with it.
        kind = ModelKind.GGUF if path_kind(path) == "file" else ModelKind.BUNDLE
    if kind:
        if kind is ModelKind.BUNDLE and is_name(path):
            path = default_folder() / path
        return ModelArgument(text, kind, path, find_recipe(text))
    if found:
        raise BadInput(f"{text} is {found[0]}", _INSTEAD.get(found[0], "choose another model"))
    if path_kind(path) == "file":
        also = ", or a GGUF file" * (ModelKind.GGUF in accepted)
        raise BadInput(f"{path} is a file, not a checkpoint folder", f"use its folder{also}")
    if path.is_absolute() or text.startswith(".") or path.suffix in FILE_SUFFIXES:
        raise BadInput(f"{text!r} does not exist", "check the path")
    known = [*recipes(), SAMPLE]
    raise BadInput(f"{text!r} is not a folder, a hub id or a recipe", tables.nearest(text, known))


def _kinds(text: str, path: Path) -> Iterator[ModelKind]:
    """Yield everything that a word may be, what goes first first."""
    if text == SAMPLE:
        yield ModelKind.SAMPLE
    lies = path_kind(path) if text else None
    if lies == "file" and (path.suffix.lower() == gguf.SUFFIX or gguf.begins_as_gguf(path)):
        yield ModelKind.GGUF
    if lies == "folder":
        yield from _folder_kinds(path)
    if is_name(path) and lies is None:
        yield ModelKind.BUNDLE
    if find_recipe(text):
        yield ModelKind.RECIPE
    if lies is None and parse_size(text) is not None:
        yield ModelKind.SIZE
    if lies is None and re.fullmatch(r"[\w.-]+/[\w.-]+", text) and not text.startswith("."):
        yield ModelKind.HUB


def _folder_kinds(path: Path) -> Iterator[ModelKind]:
    bundle = path_kind(path / manifest.FILE_NAME) is not None
    if bundle:
        yield ModelKind.BUNDLE
    elif onnx.is_onnx_folder(path):
        yield ModelKind.ONNX
    if not bundle or path_kind(path / "config.json"):
        yield ModelKind.FOLDER


def parse_size(text: str) -> float | None:
    """Return the weights that ``14B``, ``1.5b`` or ``360M`` name; None for another text."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([mbMB])", text.strip())
    return float(match[1]) * {"m": 1e6, "b": 1e9}[match[2].lower()] if match else None


def find_runnable(where: Path | None, quantisation: str | None = None) -> Runnable:
    """Return what to run: of a bundle, a GGUF file, an ONNX folder, the newest bundle when None.

    ``quantisation`` picks an artifact, by a format's name the first of that format; the first of
    the manifest is the default.
    """
    if where is None:
        return choose(newest(), quantisation)
    found = resolve(str(where), RUNNABLES)
    if found.kind not in LOOSE:
        return choose(find_bundle(found.path), quantisation)
    runnable = LOOSE[found.kind](found.path)
    names = (runnable.quantisation, runnable.format.upper())
    if quantisation and quantisation.upper() not in names:
        raise UsageError(f"{where} is {runnable.quantisation}, not {quantisation}", "drop --quant")
    return runnable


def artifact_names(where: Path) -> list[str]:
    """Return the quantisations of a bundle's artifacts, or of a file or folder its own."""
    found = resolve(str(where), RUNNABLES)
    if found.kind in LOOSE:
        return [LOOSE[found.kind](found.path).quantisation]
    return [artifact.quantisation for artifact in find_bundle(found.path).manifest.artifacts]


def _loose_gguf(path: Path) -> Runnable:
    header = gguf.read_header(path)
    return Runnable(
        name=header.name,
        format="gguf",
        quantisation=header.quantisation,
        entry=path,
        bytes=header.bytes,
        context=min(
            loaded_within(header.short_context) or header.number("context_length", LOOSE_CONTEXT),
            LOOSE_CONTEXT,
        ),
    )


def _loose_onnx(path: Path) -> Runnable:
    folder = onnx.read_folder(path)
    return Runnable(
        name=folder.name,
        format="onnx",
        quantisation=folder.quantisation,
        entry=folder.path,
        bytes=folder.bytes,
        context=min(folder.context, LOOSE_CONTEXT),
    )


# What is run without a manifest, and how it is read.
LOOSE: dict[ModelKind, Callable[[Path], Runnable]] = {
    ModelKind.GGUF: _loose_gguf,
    ModelKind.ONNX: _loose_onnx,
}
