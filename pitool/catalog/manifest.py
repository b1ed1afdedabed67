"""The manifest of a bundle: what is in it, where it came from and how good it is.

Owns the schema ``pitool.schema/1``, its checks, and reading and writing ``manifest.json``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pitool.catalog import reading, tables
from pitool.catalog.files import write_atomically
from pitool.catalog.kv_types import CacheTypes
from pitool.errors import BadInput

SCHEMA = "pitool.schema/1"
FILE_NAME = "manifest.json"
# Of a file, in bytes: what Linux and macOS allow.
LONGEST_NAME = 255


def _check_inside(text: str) -> None:
    """Raise ValueError for a path that is none below the bundle's folder."""
    path = PurePosixPath(text)
    if not path.name or path.is_absolute() or ".." in path.parts or "\\" in text:
        raise ValueError(f"the path {text!r} points outside the folder")
    if "\0" in text or any(len(part.encode()) > LONGEST_NAME for part in path.parts):
        raise ValueError(f"{text!r} is not the name of a file")


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file by its path relative to the bundle, bytes, and sha256 in hexadecimal."""

    path: str
    bytes: int
    sha256: str

    def __post_init__(self) -> None:
        _check_inside(self.path)


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA: the name of its folder, the factor of its change, and its files."""

    name: str
    scale: float
    files: tuple[FileEntry, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """The checkpoint: hub id or folder name, revision (None for a folder), and its files.

    ``adapters``: the LoRAs that are merged into it, in order; ``apart``: those beside it.
    """

    id: str
    revision: str | None
    files: tuple[FileEntry, ...]
    adapters: tuple[Adapter, ...] = ()
    apart: tuple[Adapter, ...] = ()


@dataclass(frozen=True, slots=True)
class MemoryLine:
    """One line of a memory plan, in bytes."""

    name: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Speed:
    """Predicted tokens per second on a board."""

    board: str
    prefill: float
    decode: float


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A vocabulary that was cut: ``kept`` of ``whole`` tokens are left.

    ``chosen_by``: by which languages and texts, and where these are from, in words. ``changed`` of
    the ``tokens`` that the whole vocabulary makes of ``text`` are not left and become others.
    ``to_bytes``: the scripts that are written in bytes now, which takes several tokens a letter.
    """

    kept: int
    whole: int
    chosen_by: str
    text: str
    tokens: int
    changed: int
    to_bytes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.kept <= self.whole or not 0 <= self.changed <= self.tokens:
            raise ValueError(f"{self.kept} of {self.whole} tokens are not a part of a vocabulary")


@dataclass(frozen=True, slots=True)
class KindQuality:
    """Measured quality on one kind of text: its figures are those of a ``Certificate``."""

    name: str
    tokens: int
    mean_kl: float
    median_kl: float
    p99_kl: float
    top1: float


@dataclass(frozen=True, slots=True)
class Certificate:
    """Measured quality of an artifact against its checkpoint.

    ``tokens`` predictions on ``text`` were compared with a float32 forward pass of the
    checkpoint: ``mean_kl`` and ``max_kl`` in nats per token (llama-perplexity's definition),
    ``top1`` the share of equal most likely tokens, perplexities of the checkpoint and artifact.
    ``compact_kl``: the mean against the compact reference of the bundle, which a board repeats.
    ``verified``: False where nothing ran the checkpoint, and a float artifact stood in for it.
    ``logit_error``: root mean square of the logits' difference as a share of their spread.
    ``unseen``: what of the model the texts were too short for, in words; empty for nothing.
    ``kinds``: chat, prose and code apart, read beside ``text``; none in older bundles.
    ``vocabulary``: what is left of one that was cut, over which the divergence then is;
    ``bytes_saved`` of the files and ``memory_saved`` in use by that, None where nothing was planned
    with the whole one.
    """

    reference: str
    text: str
    tokens: int
    mean_kl: float
    max_kl: float
    top1: float
    perplexity: float
    reference_perplexity: float
    median_kl: float | None = None
    p99_kl: float | None = None
    compact_kl: float | None = None
    verified: bool = True
    logit_error: float | None = None
    unseen: str = ""
    kinds: tuple[KindQuality, ...] = ()
    vocabulary: Vocabulary | None = None
    bytes_saved: int | None = None
    memory_saved: int | None = None


@dataclass(frozen=True, slots=True)
class Tokenization:
    """How an artifact's engine turns text into tokens, and which of them end an answer.

    ``ends``: their ids. ``nfc``: a text is put into Unicode's composed form first. ``folder``: the
    folder in the bundle whose tokenizer.json makes the tokens, None where the artifact's own
    vocabulary does.
    """

    ends: tuple[int, ...]
    nfc: bool = False
    folder: str | None = None

    def __post_init__(self) -> None:
        if self.folder is not None:
            _check_inside(self.folder)
        if any(not 0 <= end < 2**31 for end in self.ends):
            raise ValueError("a token id is out of range")


@dataclass(frozen=True, slots=True)
class CacheQuality:
    """What types of the KV cache cost an artifact, against itself with keys and values in f32.

    ``mean_kl`` in nats a token, ``top1`` the share of equal most likely tokens.
    """

    keys: str
    values: str
    tokens: int
    mean_kl: float
    top1: float


@dataclass(frozen=True, slots=True)
class FitPoint:
    """What could be made as well: a file's bytes, its predicted mean KL divergence and speeds."""

    bytes: int
    mean_kl: float
    speed: tuple[Speed, ...]


@dataclass(frozen=True, slots=True)
class Fit:
    """How the types of an artifact were chosen: what was made and why, a line each.

    ``mean_kl``: the loss that was predicted, None where no text was read that tells it. ``front``:
    sizes and speeds with the least loss that each allows, the smallest first.
    """

    made: str
    why: str
    mean_kl: float | None = None
    front: tuple[FitPoint, ...] = ()


@dataclass(frozen=True, slots=True)
class Artifact:
    """One runnable file set; ``context`` in tokens, ``parameters`` a count of weights.

    ``kv_type``, ``value_type`` (of the KV cache's values, None for that of the keys) and
    ``micro_batch`` are what the memory is planned with. ``adapters``: LoRAs that
    the engine loads with it, by the paths of their ``files``. ``tokenization``: None in bundles
    of older versions, whose engines go by the artifact alone. ``weights``: which of them equal the
    checkpoint's although they have few bits, in words; empty where they were rounded. ``cosine``:
    of an encoder, the least between vectors of texts and the checkpoint's; None for a model that
    writes, and for one that was not compared. ``caches``: what types of the KV cache were measured
    to cost; ``fit``: how its types were chosen, None where it has those of a usual quantisation.
    """

    format: str
    quantisation: str
    files: tuple[FileEntry, ...]
    architecture: str
    parameters: int
    context: int
    bits_per_weight: float
    memory: tuple[MemoryLine, ...]
    speed: tuple[Speed, ...]
    certificate: Certificate | None = None
    kv_type: str = "f16"
    micro_batch: int = 512
    adapters: tuple[str, ...] = ()
    tokenization: Tokenization | None = None
    weights: str = ""
    cosine: float | None = None
    value_type: str | None = None
    caches: tuple[CacheQuality, ...] = ()
    fit: Fit | None = None

    def __post_init__(self) -> None:
        if not self.files:
            raise ValueError("no files are listed")
        if self.context <= 0:
            raise ValueError(f"the context is {self.context} tokens")
        CacheTypes(self.kv_type, self.value_type or self.kv_type)

    @property
    def cache(self) -> CacheTypes:
        """The types of the KV cache that the memory is planned with."""
        return CacheTypes(self.kv_type, self.value_type or self.kv_type)

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(file.bytes for file in self.files)


@dataclass(frozen=True, slots=True)
class Manifest:
    """A bundle. ``created`` is ISO 8601 in UTC; ``versions`` of pitool and what it used.

    ``reference``: the compact reference; ``extras``: other files that are no artifact, such as
    the importance matrix.
    """

    name: str
    source: Source
    tier: str
    board: str | None
    created: str
    versions: dict[str, str]
    artifacts: tuple[Artifact, ...]
    licence: str | None = None
    reference: FileEntry | None = None
    extras: tuple[FileEntry, ...] = ()
    schema: str = SCHEMA

    def __post_init__(self) -> None:
        if not self.artifacts:
            raise ValueError("no artifacts are listed")


def read(folder: Path) -> Manifest:
    """Return the manifest of a bundle folder; BadInput when it has none that is valid."""
    path = folder / FILE_NAME
    none = BadInput(f"{folder} is not a bundle: it has no {FILE_NAME}", _MAKE_ONE)
    data = reading.read_json(path, "convert the model again", missing=none)
    if not isinstance(data, Mapping) or "schema" not in data:
        raise BadInput(f"{path} is not a pitool manifest", _MAKE_ONE)
    if data["schema"] != SCHEMA:
        raise BadInput(
            f"{path} has schema {data['schema']!r}, and this pitool reads {SCHEMA!r}",
            "update pitool or convert the model again",
        )
    return tables.build(Manifest, data, path.name)


def write(folder: Path, manifest: Manifest) -> None:
    """Write the manifest into a bundle folder, whole or not at all."""
    text = json.dumps(to_json(manifest), indent=2, ensure_ascii=False) + "\n"
    write_atomically(folder / FILE_NAME, text.encode())


def to_json(manifest: Manifest) -> dict[str, Any]:
    """Return the manifest as JSON values, the schema first."""
    data = asdict(manifest)
    return {"schema": data.pop("schema"), **data}


def file_entry(path: Path, folder: Path) -> FileEntry:
    """Return the entry of a file that lies under ``folder``, its hash read from the disk."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileEntry(path.relative_to(folder).as_posix(), path.stat().st_size, digest)


_MAKE_ONE = "use the folder that pitool convert wrote"
