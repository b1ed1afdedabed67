"""Bundles on this machine: where they lie, which there are, and an artifact of one to run."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from pitool.catalog import manifest, tables
from pitool.catalog.files import expand, path_kind
from pitool.catalog.manifest import Artifact, Manifest
from pitool.catalog.recipes import find_recipe
from pitool.catalog.scratch import remove
from pitool.catalog.unicode import clean
from pitool.errors import BadInput, PitoolError, UsageError, cannot_write

# Tokens of context for a model that was not planned: more is asked for by --context.
LOOSE_CONTEXT = 4096
GET_ONE = (
    "get one: pitool pull NAME, of those that pitool models lists, or make one: pitool convert"
    " sample --ram 1gb"
)
# Below ``home``: the folders of pushed bundles, and the releases that link to them.
STORE, RELEASES = "store", "releases"


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle folder with its manifest."""

    path: Path
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Runnable:
    """One artifact ready for an engine; ``entry`` is the file or folder the engine opens.

    ``context``: tokens that the artifact is planned for, or was trained for. ``adapters``: LoRA
    files that the engine loads with it. ``tokenizer``: the folder of the tokenizer that it uses
    in place of the artifact's own. ``bundle``: the folder of the bundle that it is of.
    """

    name: str
    format: str
    quantisation: str
    entry: Path
    bytes: int
    context: int
    artifact: Artifact | None = None
    adapters: tuple[str, ...] = ()
    tokenizer: str | None = None
    bundle: Path | None = None

    def __post_init__(self) -> None:
        clean(self, "name")

    @property
    def planned(self) -> int | None:
        """Bytes that the manifest plans for; None without a plan."""
        if self.artifact is None:
            return None
        return sum(line.bytes for line in self.artifact.memory) or None


def home() -> Path:
    """Return the folder of everything that pitool keeps: ``PITOOL_HOME``, or the user's data."""
    if chosen := os.environ.get("PITOOL_HOME"):
        return expand(chosen, "PITOOL_HOME")
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return expand(data, "the data folder") / "pitool"


def default_folder() -> Path:
    """Return the folder that convert writes bundles to and run looks in."""
    return home() / "bundles"


def list_bundles(folder: Path | None = None) -> tuple[list[Bundle], list[PitoolError]]:
    """Return the bundles in a folder, newest first, and why others cannot be read."""
    folder = folder or default_folder()
    found, broken = [], []
    for path in sorted(folder.glob("*/")) if folder.is_dir() else []:
        if path.name.startswith("."):
            continue
        try:
            found.append(Bundle(path, manifest.read(path)))
        except PitoolError as error:
            broken.append(error)
    return sorted(found, key=lambda b: b.manifest.created, reverse=True), broken


def open_bundle(path: Path) -> Bundle:
    """Return the bundle at ``path``, or of that name in the default folder."""
    if path_kind(path) is None and is_name(path):
        path = default_folder() / path
    if path_kind(path) is None:
        known = [b.path.name for b in list_bundles()[0]]
        hint = tables.nearest(path.name, known) if known else GET_ONE
        raise BadInput(f"{path} does not exist", hint)
    if path_kind(path) == "file":
        raise BadInput(
            f"{path} is a file, not a bundle", "use the folder that pitool convert wrote"
        )
    return Bundle(path, manifest.read(path))


def find_bundle(path: Path) -> Bundle:
    """Return the bundle at ``path``, or of that name, else the newest of the model of that name.

    So what was pulled or converted by the name of a recipe is found by it, whatever its
    quantisation has added to the folder's name.
    """
    if path_kind(path) is None and len(path.parts) == 1 and not is_name(path):
        for bundle in list_bundles()[0]:
            if _is_of(bundle.manifest, path.name):
                return bundle
    return open_bundle(path)


def _is_of(known: Manifest, name: str) -> bool:
    """Tell whether a bundle holds the model of this name, or that of a recipe so called."""
    if known.name.casefold() == name.casefold():
        return True
    recipe = find_recipe(name)
    published = recipe.gguf.repository if recipe and recipe.gguf else None
    return recipe is not None and known.source.id in (recipe.source, published)


def delete(bundle: Bundle) -> None:
    """Delete a bundle's folder, or one that a push brought with its links in every release.

    UsageError where the path is another link.
    """
    check_deletable(bundle)
    pushed = bundle.path.is_symlink()
    try:
        for folder in _unlink_pushed(bundle.path.name) if pushed else [bundle.path]:
            remove(folder)
    except OSError as error:
        raise PitoolError(
            f"cannot delete {bundle.path} ({error.strerror})", "check its permissions"
        ) from None


def check_deletable(bundle: Bundle) -> None:
    """Raise UsageError for a link that no push made."""
    pushed = default_folder() / bundle.path.name
    in_store = bundle.path.resolve().parent == (home() / STORE).resolve()
    if bundle.path.is_symlink() and not (in_store and bundle.path.absolute() == pushed.absolute()):
        raise UsageError(f"{bundle.path} is a symbolic link", "use the folder itself")


def rename(bundle: Bundle, name: str) -> Bundle:
    """Give a bundle's folder and its manifest another name; return it as it is then.

    UsageError for what is no name of a folder, for one that is taken, and for a link: a bundle
    that was pushed is replaced by its name.
    """
    if not name or name != Path(name).name or name.startswith(".") or not name.isprintable():
        raise UsageError(
            f"{name!r} is not a valid name for a bundle", "use a name such as my-model"
        )
    target = bundle.path.with_name(name)
    if bundle.path.is_symlink():
        raise UsageError(
            f"{bundle.path} is a symbolic link, as a pushed bundle is", "push it under another name"
        )
    if path_kind(target) is not None:
        raise UsageError(f"{target} already exists", "choose another name")
    named = replace(bundle.manifest, name=name)
    try:
        bundle.path.rename(target)
    except OSError as error:
        raise cannot_write(target, error, "check the permissions of the folder") from None
    manifest.write(target, named)
    return Bundle(target, named)


def _unlink_pushed(name: str) -> list[Path]:
    """Remove a pushed bundle's links, and return its folders, one for each version."""
    for links in (default_folder(), *(home() / RELEASES).glob("*/bundles")):
        (links / name).unlink(missing_ok=True)
    return [path for path in (home() / STORE).glob("*") if path.name.rpartition("-")[0] == name]


def is_name(path: Path) -> bool:
    """Tell whether ``path`` is no path but the name of a folder in the default one."""
    return len(path.parts) == 1 and path_kind(default_folder() / path) == "folder"


def newest() -> Bundle:
    """Return the newest bundle of the default folder."""
    bundles, broken = list_bundles()
    if not bundles and broken:
        raise broken[0]
    if not bundles:
        raise BadInput(
            f"there is no bundle in {default_folder()}",
            GET_ONE,
        )
    return bundles[0]


def choose(bundle: Bundle, quantisation: str | None = None) -> Runnable:
    """Return an artifact of a bundle, checked to be there and whole by its size."""
    artifact = _pick(bundle.manifest, quantisation)
    for file in artifact.files:
        path = bundle.path / file.path
        size = path.stat().st_size if path.is_file() else None
        if size is None:
            raise BadInput(f"{path} is missing", "convert or copy the bundle again")
        if size != file.bytes:
            raise BadInput(f"{path} has {size} bytes, not {file.bytes}", "copy the bundle again")
    tokens = artifact.tokenization
    return Runnable(
        name=bundle.manifest.name,
        format=artifact.format,
        quantisation=artifact.quantisation,
        entry=_entry(bundle.path, artifact),
        bytes=artifact.bytes,
        context=artifact.context,
        artifact=artifact,
        adapters=tuple(str(bundle.path / path) for path in artifact.adapters),
        tokenizer=str(bundle.path / tokens.folder) if tokens and tokens.folder else None,
        bundle=bundle.path,
    )


def _pick(known: Manifest, quantisation: str | None) -> Artifact:
    """Return the artifact of a quantisation, or the first of a format, or the first of all."""
    by_name: dict[str, Artifact] = {}
    for artifact in known.artifacts:
        by_name.setdefault(artifact.quantisation, artifact)
        by_name.setdefault(artifact.format.upper(), artifact)
    if quantisation is None:
        return known.artifacts[0]
    return tables.lookup(by_name, quantisation.upper(), "artifact", UsageError)


def _entry(folder: Path, artifact: Artifact) -> Path:
    """Return what the engine opens: the first file, or the folder in the bundle that it lies in."""
    first = PurePosixPath(artifact.files[0].path)
    return folder / (first.parent if len(first.parts) > 1 else first)
