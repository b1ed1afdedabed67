"""A model of the hub becomes a bundle: ``pull`` is the spine.

The files are fetched next to the bundles, so that they only get new names; the bundle appears when
it is complete. It has no certificate: nobody compared it with its checkpoint here.
"""

from __future__ import annotations

import datetime
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pitool.catalog import gguf, manifest, onnx
from pitool.catalog.bundles import Bundle, open_bundle
from pitool.catalog.files import path_kind
from pitool.catalog.manifest import Artifact, FileEntry, Manifest, MemoryLine, Source
from pitool.catalog.staging import Staging, check_disk, check_target
from pitool.errors import Interrupted, PitoolError
from pitool.planning.entries import artifact, versions
from pitool.planning.formats import GGUF
from pitool.planning.memory import CHAT, CHAT_BYTES, KV_CACHE
from pitool.planning.places import tier_of
from pitool.pull.choice import Candidate, Choice, plan_header
from pitool.pull.download import PART, download, key_of, missing_bytes
from pitool.pull.hub import RemoteFile, Repository
from pitool.report.numbers import format_part
from pitool.report.progress import Progress

DOWNLOADS = ".downloads"


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file that has arrived, and its entry with the path that it gets in the bundle."""

    path: Path
    entry: FileEntry


def pull(
    choice: Choice,
    candidate: Candidate,
    target: Path,
    progress: Progress,
    *,
    replace: bool = False,
    licence: str | None = None,
) -> Bundle:
    """Return the bundle of what was chosen; what is fetched of it is kept until it is complete."""
    check_target(target, replace=replace)
    folder = target.parent / DOWNLOADS
    folder.mkdir(parents=True, exist_ok=True)
    repository, files = choice.repository, candidate.variant.files
    missing = [missing_bytes(repository, file, folder) for file in files]
    check_disk([(target.parent, sum(missing))])
    fetched = fetch(choice, candidate, folder, progress)
    with Staging(target, replace=replace) as staging:
        for each in fetched:
            _place(each.path, staging.folder / each.entry.path)
        made = describe(choice, candidate, staging.folder, [f.entry for f in fetched], licence)
        manifest.write(staging.folder, made)
        staging.publish()
    clear(folder, repository, files)
    return Bundle(target, made)


def already(target: Path, choice: Choice, candidate: Candidate) -> Bundle | None:
    """Return the bundle at the target where it is what would be pulled."""
    if path_kind(target) is None:
        return None
    try:
        found = open_bundle(target)
    except PitoolError:
        return None
    source = found.manifest.source
    names = {file.name for file in candidate.variant.files}
    same = names == {PurePosixPath(file.path).name for file in source.files}
    return found if same and source.revision == choice.repository.commit else None


def fetch(choice: Choice, candidate: Candidate, folder: Path, progress: Progress) -> list[Fetched]:
    """Return the files of what was chosen, on this machine and checked."""
    files, done = candidate.variant.files, 0
    total = candidate.variant.bytes
    progress.stage(f"downloading {target_name(choice, candidate)}", total, bytes_=True)

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress.advance(count)

    try:
        made = [
            Fetched(path, _entry(path, file, candidate))
            for file in files
            for path in [download(choice.hub, choice.repository, file, folder, advance)]
        ]
    except KeyboardInterrupt:
        raise Interrupted(
            f"interrupted after {format_part(done, total)}",
            "what arrived is kept: run the same command again to go on",
        ) from None
    progress.close()
    return made


def _entry(path: Path, file: RemoteFile, candidate: Candidate) -> FileEntry:
    """Return a file's entry: a GGUF lies in the bundle itself, a graph in a folder of its own."""
    flat = candidate.variant.format == GGUF.name
    place = file.name if flat else f"{_folder_name(candidate)}/{file.name}"
    if file.sha256:
        return FileEntry(place, file.bytes, file.sha256)
    known = manifest.file_entry(path, path.parent)
    return FileEntry(place, known.bytes, known.sha256)


def _folder_name(candidate: Candidate) -> str:
    return f"onnx-{candidate.variant.quantisation.lower()}"


def _place(source: Path, target: Path) -> None:
    """Give a file its name in the bundle; it stays a download too, until the bundle is complete."""
    target.parent.mkdir(exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # a disk without hard links
        shutil.move(source, target)


def clear(folder: Path, repository: Repository, files: Sequence[RemoteFile]) -> None:
    """Remove downloads that have become a bundle."""
    for file in files:
        key = key_of(repository, file)
        (folder / key).unlink(missing_ok=True)
        (folder / f"{key}{PART}").unlink(missing_ok=True)
    if not any(folder.iterdir()):
        folder.rmdir()


def describe(
    choice: Choice,
    candidate: Candidate,
    folder: Path,
    entries: Sequence[FileEntry],
    licence: str | None,
) -> Manifest:
    """Return the manifest of the bundle in ``folder``."""
    is_gguf = candidate.variant.format == GGUF.name
    made = _gguf(choice, folder, entries) if is_gguf else _onnx(choice, candidate, folder, entries)
    repository = choice.repository
    return Manifest(
        name=model_name(repository),
        source=Source(repository.id, repository.commit, tuple(entries)),
        tier=tier_of(choice.place),
        board=next(iter(choice.place.boards)) if len(choice.place.boards) == 1 else None,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        versions=versions(),
        artifacts=(made,),
        licence=licence or repository.licence,
    )


def _gguf(choice: Choice, folder: Path, entries: Sequence[FileEntry]) -> Artifact:
    header = gguf.read_header(folder / entries[0].path)
    planner, kind = choice.planner_of(header)
    plan = plan_header(choice, header).artifact
    return artifact(
        folder,
        entries,
        planner.model.shape,
        None,
        format_name=plan.format,
        quantisation=kind.name,
        context=plan.context,
        bits_per_weight=plan.bits_per_weight,
        memory=plan.memory,
        load=plan.load,
        speed=plan.speeds,
    )


def _onnx(
    choice: Choice, candidate: Candidate, folder: Path, entries: Sequence[FileEntry]
) -> Artifact:
    """Return the entry of a graph that others exported; its weights are counted by its files."""
    config = onnx.read_folder(folder / _folder_name(candidate))
    size = sum(path.stat().st_size for path in config.files)
    context = min(choice.context or choice.profile.context, config.context)
    row = 2 * config.layers * config.kv_heads * config.head_dim * 4
    bits = {"INT4": 4.5, "INT8": 8.5, "FP16": 16.0}.get(candidate.variant.quantisation, 32.0)
    return Artifact(
        format=candidate.variant.format,
        quantisation=candidate.variant.quantisation,
        files=tuple(entries),
        architecture=config.architecture,
        parameters=round(size * 8 / bits),
        context=context,
        bits_per_weight=bits,
        memory=(
            MemoryLine("weights", size),
            MemoryLine(KV_CACHE, row * context),
            MemoryLine(CHAT, CHAT_BYTES),
        ),
        speed=(),
    )


def model_name(repository: Repository) -> str:
    """Return the model's name by its repository's, without what says that it holds GGUFs."""
    name = repository.id.rpartition("/")[2]
    return re.sub(r"[-_.](gguf|onnx)$", "", name, flags=re.IGNORECASE) or name


def target_name(choice: Choice, candidate: Candidate) -> str:
    """Return the name of the bundle."""
    kind = PurePosixPath(candidate.variant.quantisation.lower()).name
    name = model_name(choice.repository)
    return name if name.lower().endswith(f"-{kind}") else f"{name}-{kind}"
