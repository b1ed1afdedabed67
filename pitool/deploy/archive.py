"""The archive that goes to a board: a plain tar, its manifest ``pi.json`` first.

Owns the schema ``pitool.pi/1``, writing, checking and unpacking. Every name, size and hash is
checked before a byte is written. Standard library only: a fresh board runs it from pitool's wheel.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Self

from pitool.catalog import reading, tables
from pitool.catalog.files import sync, sync_tree
from pitool.catalog.manifest import FileEntry
from pitool.errors import BadInput

SCHEMA = "pitool.pi/1"
MANIFEST = "pi.json"
MANIFEST_BYTES = 4 * 1024**2
CHUNK = 1024**2
# What an extended header may say (PAX, pax(1)): a name that is long or no ASCII, a size of 8 GiB.
EXTENDED = {"path", "size"}
EXTENDED_BYTES = 4096
# The heads that say something of the next member; where a head has its type.
_EXTENSIONS = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)  # fmt: skip
_TYPE = slice(156, 157)
SCRIPTS = ("install.sh", "pitool")  # what is executable
INSTALLER = (*SCRIPTS, "pitool.service")  # the unit only in archives of older versions
WHEEL = r"[0-9A-Za-z][0-9A-Za-z._+!-]*\.whl"
AGAIN = "create it again with pitool pack, or copy it again"


@dataclass(frozen=True, slots=True)
class Contents:
    """What an archive holds.

    ``pythons``: for each Python, such as ``3.11``, the wheels to install, empty without a runtime;
    ``bundles``: names of the folders below ``bundles/``; ``memory``: bytes that the smallest
    artifact will hold, 0 without a model.
    """

    name: str
    board: str
    pitool: str
    pythons: dict[str, tuple[str, ...]]
    bundles: tuple[str, ...]
    memory: int
    files: tuple[FileEntry, ...]
    schema: str = SCHEMA

    def __post_init__(self) -> None:
        names = [entry.path for entry in self.files]
        if len(set(names)) != len(names):
            raise ValueError("a file is listed twice")
        self._check_texts()
        for name in names:
            _check_place(name, self.bundles)
        missing = {w for wheels in self.pythons.values() for w in wheels} - set(names)
        if missing:
            raise ValueError(f"{min(missing)} is required but not listed")

    def _check_texts(self) -> None:
        """Raise ValueError for a text that a shell, a path or a terminal could misread."""
        for kind, pattern, texts in (
            ("Python", r"3\.\d{1,2}", tuple(self.pythons)),
            ("board", r"[a-z0-9][a-z0-9_-]{0,40}", (self.board,)),
            ("version", r"[0-9A-Za-z.+!-]{1,60}", (self.pitool,)),
            ("bundle", r"[^\s./-][^/\\]{0,200}", self.bundles),
        ):
            for text in texts:
                if not re.fullmatch(pattern, text, re.ASCII) or not text.isprintable():
                    raise ValueError(f"{text!r} is not the name of a {kind}")
        if not self.name.isprintable() or self.memory < 0:
            raise ValueError("its name or its memory is invalid")

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(entry.bytes for entry in self.files)

    @property
    def id(self) -> str:
        """A short name of exactly this content."""
        return hashlib.sha256(encode(self)).hexdigest()[:12]


def _check_place(name: str, bundles: tuple[str, ...]) -> None:
    """Raise ValueError for a file that lies where an archive has none."""
    top, _, rest = name.partition("/")
    place = {
        "wheels": re.fullmatch(WHEEL, rest) is not None,
        "bundles": rest.partition("/")[0] in bundles and "/" in rest,
    }
    if not (place.get(top) or name in INSTALLER) or not name.isprintable():
        raise ValueError(f"{name!r} is no place in an archive")


def encode(contents: Contents) -> bytes:
    """Return the manifest as it stands in the archive."""
    return (json.dumps(asdict(contents), indent=1, sort_keys=True) + "\n").encode()


def write(target: IO[bytes], contents: Contents, sources: dict[str, Path]) -> int:
    """Write an archive and return its size; same files, same bytes.

    ``sources`` says where each listed file lies. ``target`` is written from its start to its end,
    so that it may be a pipe.
    """
    with tarfile.open(fileobj=target, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        data = encode(contents)
        tar.addfile(_member(MANIFEST, len(data)), io.BytesIO(data))
        for entry in contents.files:
            with sources[entry.path].open("rb") as file:
                tar.addfile(_member(entry.path, entry.bytes), file)
        end = tar.offset + 2 * tarfile.BLOCKSIZE
    return end + -end % tarfile.RECORDSIZE


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size
    member.mtime = 315532800  # 1980-01-01
    member.mode = 0o755 if name in SCRIPTS else 0o644
    return member


class _Member(tarfile.TarInfo):
    """A member whose head is looked at before tarfile reads what it announces into memory."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> Self:
        """Return the next member; ReadError for an extended header that no file needs."""
        file = tar.fileobj
        assert file is not None
        place = file.tell()
        head = cls.frombuf(file.read(tarfile.BLOCKSIZE), tar.encoding or "utf-8", tar.errors or "")
        if head.size < 0:
            raise tarfile.ReadError("a size is negative")
        if head.type in _EXTENSIONS:
            if head.size > EXTENDED_BYTES:
                raise tarfile.ReadError(f"an extended header has {head.size} bytes")
            file.read(-(-head.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE)
            if file.read(tarfile.BLOCKSIZE)[_TYPE] not in (tarfile.REGTYPE, tarfile.AREGTYPE):
                raise tarfile.ReadError("an extended header is not that of a file")
        file.seek(place)
        return super().fromtarfile(tar)


def _opened(path: Path) -> tarfile.TarFile:
    return tarfile.open(path, "r:", tarinfo=_Member)


def check(path: Path) -> Contents:
    """Return what an archive holds after reading all of it; writes nothing.

    Raises BadInput for anything but whole plain files, each listed with this size and hash.
    """
    try:
        with _opened(path) as tar:
            return _check(path, tar)
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        raise BadInput(f"{path.name} is damaged or not a .pi archive ({error})", AGAIN) from None
    except OSError as error:
        raise BadInput(f"cannot read {path} ({error.strerror or error})", AGAIN) from None


def _check(path: Path, tar: tarfile.TarFile) -> Contents:
    members = _members(path, tar)
    contents = _manifest(path, tar, next(members, None))
    expected = {entry.path: entry for entry in contents.files}
    for member in members:
        entry = expected.pop(member.name, None)
        if entry is None:
            raise BadInput(f"{path.name} contains {member.name!r}, which is not listed", AGAIN)
        if member.size != entry.bytes or _digest(tar, member) != entry.sha256:
            raise BadInput(f"{member.name} in {path.name} does not match the manifest", AGAIN)
    if expected:
        raise BadInput(f"{path.name} does not contain {min(expected)}", AGAIN)
    return contents


def _members(path: Path, tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the members, each a plain file whose name stays inside the folder."""
    for member in tar:
        if not member.isreg() or member.issparse():
            raise BadInput(f"{member.name!r} in {path.name} is not a regular file", AGAIN)
        if strange := set(member.pax_headers) - EXTENDED:
            raise BadInput(
                f"{member.name!r} in {path.name} has the unknown property {min(strange)!r}", AGAIN
            )
        try:
            entry = FileEntry(member.name, member.size, "")
        except ValueError as error:
            raise BadInput(f"{path.name} is unsafe: {error}", "do not use it") from None
        if Path(entry.path).as_posix() != entry.path:
            raise BadInput(f"{path.name} contains the invalid name {entry.path!r}", AGAIN)
        yield member


def _manifest(path: Path, tar: tarfile.TarFile, member: tarfile.TarInfo | None) -> Contents:
    if member is None or member.name != MANIFEST or member.size > MANIFEST_BYTES:
        raise BadInput(
            f"{path.name} is not a .pi archive: it does not begin with {MANIFEST}", AGAIN
        )
    try:
        data: Any = reading.parse_json(_open(tar, member).read())
    except ValueError as error:
        raise BadInput(f"cannot read {MANIFEST} in {path.name} ({error})", AGAIN) from None
    return _decode(path, data)


def _decode(path: Path, data: object) -> Contents:
    """Return the manifest that was read from ``path``; BadInput for another schema."""
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        found = data.get("schema") if isinstance(data, dict) else None
        raise BadInput(
            f"{path.name} has schema {found!r}, and this pitool reads {SCHEMA!r}", "update pitool"
        )
    return tables.build(Contents, data, MANIFEST)


def _open(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    file = tar.extractfile(member)
    assert file is not None  # it is a plain file
    return file


def _digest(tar: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    digest, file = hashlib.sha256(), _open(tar, member)
    while chunk := file.read(CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def unpack(path: Path, folder: Path) -> Contents:
    """Unpack a checked archive as ``folder``, which must not exist; it appears whole or not."""
    contents = check(path)
    if folder.exists():
        raise BadInput(f"{folder} already exists", "choose another folder or delete it")
    staging = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        staging.mkdir(parents=True)
        with _opened(path) as tar:
            tar.extractall(staging, filter="data")
        sync_tree(staging)
        staging.rename(folder)
        sync(folder.parent)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return contents


def read_folder(folder: Path) -> Contents:
    """Return the manifest of an unpacked archive after checking every file by its hash."""
    contents = read_manifest(folder)
    for entry in contents.files:
        if not whole(folder, [entry]):
            raise BadInput(
                f"{folder / entry.path} is missing or damaged", "unpack the archive again"
            )
    return contents


def read_manifest(folder: Path) -> Contents:
    """Return the manifest that lies in a folder."""
    none = BadInput(
        f"{folder} is not an unpacked .pi archive: it has no {MANIFEST}", "unpack it again"
    )
    return _decode(folder, reading.read_json(folder / MANIFEST, "unpack it again", missing=none))


def whole(folder: Path, files: Iterable[FileEntry]) -> bool:
    """Tell whether these files lie in a folder as the manifest lists them."""
    paths = ((folder / entry.path, entry.sha256) for entry in files)
    return all(
        path.is_file() and not path.is_symlink() and file_digest(path) == digest
        for path, digest in paths
    )


def file_digest(path: Path) -> str:
    """Return the sha256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
