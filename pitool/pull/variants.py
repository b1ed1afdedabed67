"""The models that a repository holds ready to run: GGUF files, split ones too, and ONNX folders.

Goes by names and sizes alone; what a file holds is ``headers``' and ``choice``'s. Files that are no
language model by themselves (image encoders, importance matrices, adapters, drafts) are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from pitool.catalog import gguf, onnx
from pitool.catalog.tables import nearest
from pitool.errors import BadInput, UsageError
from pitool.planning.formats import GGUF, ONNX
from pitool.pull.hub import RemoteFile, Repository

# What a file's name says of its quantisation, such as Q4_K_M, UD-Q4_K_XL, IQ4_XS, MXFP4_MOE, BF16.
_LABEL = re.compile(
    r"(?:^|[-._ ])"
    r"((?:UD[-_])?(?:[IP]?Q\d+_[A-Z0-9_]+|I?Q\d+|P?TQ\d_\d|MXFP4(?:_MOE)?|NVFP4"
    r"|BF16|F?P?16|F32|FP32))"
    r"(?=$|[-._ ])",
    re.IGNORECASE,
)
_PLAIN = {"FP16": "F16", "FP32": "F32", "16": "F16"}
_NO_MODEL = re.compile(r"mmproj|imatrix|(^|[-._/])(lora|adapter|draft|vocab|mtp)([-._]|$)", re.I)
# Files of a folder that onnxruntime-genai's builder writes, beside graphs and their data.
_TEXTS = (".json", ".jinja", ".model", ".txt")


@dataclass(frozen=True, slots=True)
class Variant:
    """One model ready to run; ``quantisation`` as its name says it, in capitals."""

    format: str
    quantisation: str
    files: tuple[RemoteFile, ...]

    @property
    def bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.bytes for file in self.files)

    @property
    def name(self) -> str:
        """Its first file, or its folder."""
        path = PurePosixPath(self.files[0].path)
        return str(path) if self.format == GGUF.name else f"{path.parent}/"


def find_variants(repository: Repository) -> list[Variant]:
    """Return what a repository holds, the largest first; BadInput where it holds nothing ready."""
    found = [*_ggufs(repository.files), *_onnx_folders(repository.files)]
    if found:
        return sorted(found, key=lambda v: (-v.bytes, v.name))
    if any(file.name.endswith(".safetensors") for file in repository.files):
        raise BadInput(
            f"{repository.id} has no GGUF file and no ONNX folder",
            "choose a repository that has one (often the same name with -GGUF), or convert it on a"
            f" laptop: pitool convert {repository.id} --ram 4gb",
        )
    raise BadInput(
        f"{repository.id} has no GGUF file and no ONNX folder", "choose another repository"
    )


def named_variants(variants: Iterable[Variant], name: str) -> list[Variant]:
    """Return those of a quantisation, also without a maker's prefix; UsageError names the nearest.

    A file's name names it too.
    """
    variants = list(variants)
    wanted = name.upper()
    for matches in (
        [v for v in variants if v.quantisation == wanted or v.name == name],
        [v for v in variants if v.quantisation.endswith(f"-{wanted}")],
        [v for v in variants if v.format.upper() == wanted],
    ):
        if matches:
            return matches
    known = dict.fromkeys(v.quantisation for v in variants)
    raise UsageError(f"there is no {name} in this repository", nearest(wanted, known))


def _ggufs(files: Iterable[RemoteFile]) -> Iterator[Variant]:
    by_path = {file.path: file for file in files if file.name.lower().endswith(gguf.SUFFIX)}
    for path, file in by_path.items():
        if _NO_MODEL.search(path):
            continue
        folder = PurePosixPath(path).parent
        names = gguf.part_names(file.name)
        if file.name != names[0]:
            continue
        parts = [by_path.get(str(folder / name)) for name in names]
        if all(parts):
            whole = tuple(part for part in parts if part)
            yield Variant(GGUF.name, label(path), whole)


def label(path: str) -> str:
    """Return the quantisation that a GGUF's name, or else its folder's, says; ``GGUF`` for none."""
    parts = PurePosixPath(path)
    part = gguf.PART.fullmatch(parts.name)
    stem = part["stem"] if part else parts.stem
    for text in (stem, parts.parent.name):
        if found := _LABEL.findall(text):
            said = str(found[-1]).upper().replace("UD_", "UD-")
            return _PLAIN.get(said, said)
    return "GGUF"


def _onnx_folders(files: Iterable[RemoteFile]) -> Iterator[Variant]:
    files = list(files)
    for config in files:
        if config.name != onnx.CONFIG:
            continue
        folder = PurePosixPath(config.path).parent
        inside = [f for f in files if PurePosixPath(f.path).parent == folder]
        kept = tuple(
            sorted(
                (f for f in inside if ".onnx" in f.name or f.name.endswith(_TEXTS)),
                key=lambda f: (not f.name.endswith(".onnx"), f.path),
            )
        )
        words = re.findall(r"int4|int8|fp16|fp32", str(folder).lower())
        yield Variant(ONNX.name, words[-1].upper() if words else "ONNX", kept)
