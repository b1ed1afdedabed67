"""Archives: written alike, unpacked whole, and refused before anything is written."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pitool.catalog.manifest import FileEntry
from pitool.deploy import archive
from pitool.errors import BadInput

DATA = b"weights" * 1000


def entry(name: str, data: bytes) -> FileEntry:
    return FileEntry(name, len(data), hashlib.sha256(data).hexdigest())


def contents(**changes: Any) -> archive.Contents:
    values: dict[str, Any] = {
        "name": "tiny", "board": "pi5", "pitool": "0.1.0", "pythons": {}, "bundles": ("tiny",),
        "memory": 0, "files": (entry("bundles/tiny/a.gguf", DATA),),
    }  # fmt: skip
    return archive.Contents(**(values | changes))


@pytest.fixture
def good(tmp_path: Path) -> Path:
    (tmp_path / "a.gguf").write_bytes(DATA)
    return written(tmp_path / "good.pi", tmp_path / "a.gguf")


def written(path: Path, model: Path) -> Path:
    with path.open("wb") as file:
        size = archive.write(file, contents(), {"bundles/tiny/a.gguf": model})
    assert size == path.stat().st_size
    return path


def test_same_files_are_same_bytes(good: Path, tmp_path: Path) -> None:
    source = tmp_path / "a.gguf"
    source.touch()
    source.chmod(0o600)
    assert written(tmp_path / "again.pi", source).read_bytes() == good.read_bytes()


def test_tar_unpacks_it_like_we_do(good: Path, tmp_path: Path) -> None:
    made = archive.unpack(good, tmp_path / "ours")
    (tmp_path / "theirs").mkdir()
    subprocess.run(["tar", "-xf", good, "-C", tmp_path / "theirs"], check=True)
    for name in ("pi.json", "bundles/tiny/a.gguf"):
        assert (tmp_path / "ours" / name).read_bytes() == (tmp_path / "theirs" / name).read_bytes()
    assert made == contents() == archive.read_folder(tmp_path / "ours")


def tar_of(
    path: Path,
    *members: tuple[tarfile.TarInfo, bytes],
    manifest: bytes | None = None,
    format_: int = tarfile.PAX_FORMAT,
) -> None:
    data = archive.encode(contents()) if manifest is None else manifest
    with tarfile.open(path, "w", format=format_) as tar:
        for info, content in ((named("pi.json", data)), *members):
            tar.addfile(info, io.BytesIO(content))


def named(name: str, data: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


WHOLE = named("bundles/tiny/a.gguf", DATA)


def changed(**values: Any) -> bytes:
    return json.dumps(json.loads(archive.encode(contents())) | values).encode()


def listed(path: str) -> bytes:
    """A manifest that lists ``path`` with a right hash: lying together with the archive."""
    files = [{"path": path, "bytes": len(DATA), "sha256": hashlib.sha256(DATA).hexdigest()}]
    return changed(files=files)


def cut(path: Path) -> None:
    tar_of(path, WHOLE)
    path.write_bytes(path.read_bytes()[:-9000])


def flipped(path: Path) -> None:
    tar_of(path, WHOLE)
    data = bytearray(path.read_bytes())
    data[data.index(b"weightsweights") + 100] ^= 1
    path.write_bytes(data)


def link(kind: bytes, target: str) -> Callable[[Path], None]:
    return lambda path: tar_of(
        path, named("bundles/tiny/a.gguf", type=kind, linkname=target), WHOLE
    )


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "path up": (lambda p: tar_of(p, named("../evil", DATA)), "points outside the folder"),
    "listed path up": (
        lambda p: tar_of(p, named("../evil", DATA), manifest=listed("../evil")), "points outside",
    ),
    "absolute path": (lambda p: tar_of(p, named("/tmp/evil", DATA)), "points outside the folder"),
    "path up inside": (lambda p: tar_of(p, named("bundles/../../evil", DATA)), "points outside"),
    "backslashes": (lambda p: tar_of(p, named("..\\evil", DATA)), "points outside the folder"),
    "odd name": (
        lambda p: tar_of(p, named("./bundles/tiny/a.gguf", DATA)), "invalid name",
    ),
    "symbolic link": (link(tarfile.SYMTYPE, "/etc/passwd"), "not a regular file"),
    "hard link": (link(tarfile.LNKTYPE, "/etc/passwd"), "not a regular file"),
    "device": (link(tarfile.CHRTYPE, ""), "not a regular file"),
    "pipe": (link(tarfile.FIFOTYPE, ""), "not a regular file"),
    "folder": (link(tarfile.DIRTYPE, ""), "not a regular file"),
    "file not listed": (lambda p: tar_of(p, WHOLE, named("extra", b"x")), "not listed"),
    "file twice": (lambda p: tar_of(p, WHOLE, WHOLE), "not listed"),
    "file missing": (lambda p: tar_of(p), "does not contain"),
    "wrong size": (lambda p: tar_of(p, named("bundles/tiny/a.gguf", DATA[:-1])), "does not match"),
    "one bit flipped": (flipped, "does not match"),
    "cut short": (cut, "does not contain"),
    "newer schema": (
        lambda p: tar_of(p, WHOLE, manifest=changed(schema="pitool.pi/2")), "update pitool",
    ),
    "unknown key": (lambda p: tar_of(p, WHOLE, manifest=changed(exec="rm")), "exec"),
    "manifest no JSON": (lambda p: tar_of(p, WHOLE, manifest=b"{"), "cannot read"),
    "manifest nested": (lambda p: tar_of(p, WHOLE, manifest=b"[" * 100_000), "cannot read"),
    "manifest huge": (
        lambda p: tar_of(p, WHOLE, manifest=b" " * (archive.MANIFEST_BYTES + 1)), "begin with",
    ),
    "no archive": (lambda p: p.write_bytes(b"PK\x03\x04" * 500), "damaged or not a .pi"),
    "empty": (lambda p: p.write_bytes(b""), "damaged or not a .pi"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused_before_anything_is_written(name: str, tmp_path: Path) -> None:
    make, reason = HOSTILE[name]
    folder = tmp_path / "inside" / "here"
    folder.mkdir(parents=True)
    make(folder / "bad.pi")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(BadInput) as refused:
        archive.unpack(folder / "bad.pi", folder / "out")
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_is_never_overwritten(good: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(BadInput, match="already exists"):
        archive.unpack(good, tmp_path / "out")


@pytest.mark.parametrize("harm", ["missing", "changed", "link"])
def test_an_unpacked_folder_is_checked_again(good: Path, tmp_path: Path, harm: str) -> None:
    archive.unpack(good, tmp_path / "out")
    path = tmp_path / "out/bundles/tiny/a.gguf"
    path.unlink()
    if harm == "changed":
        path.write_bytes(DATA[:-1] + b"!")
    elif harm == "link":
        path.symlink_to(tmp_path / "a.gguf")
    with pytest.raises(BadInput, match="missing or damaged"):
        archive.read_folder(tmp_path / "out")


@pytest.mark.parametrize("text", ['{"schema": "pitool.pi/2"}', "[]", "{", "[" * 100_000])
def test_an_unpacked_folder_with_another_manifest_is_refused(
    good: Path, tmp_path: Path, text: str
) -> None:
    archive.unpack(good, tmp_path / "out")
    (tmp_path / "out" / archive.MANIFEST).write_text(text)
    with pytest.raises(BadInput):
        archive.read_folder(tmp_path / "out")


def pax(records: dict[str, str], *, global_: bool = False) -> bytes:
    """Return an extended header as POSIX has it (pax(1)): a length, a keyword, a value a line."""
    data = b""
    for keyword, value in records.items():
        rest = f" {keyword}={value}\n".encode()
        length = len(rest) + len(str(len(rest)))
        length += len(str(length)) - len(str(len(rest)))
        data += str(length).encode() + rest
    return raw(data, tarfile.XGLTYPE if global_ else tarfile.XHDTYPE)


def raw(data: bytes, kind: bytes, name: str = "x", size: int | None = None) -> bytes:
    """Return a member with its head and padding."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(data) if size is None else size
    head = info.tobuf(tarfile.GNU_FORMAT)
    return head + data + bytes(-len(data) % 512)


REAL = raw(DATA, tarfile.REGTYPE, "bundles/tiny/a.gguf")
SPARSE_1 = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "../evil"}
EXTENSIONS: dict[str, tuple[bytes, str]] = {
    "another name": (pax({"path": "../evil"}) + REAL, "points outside the folder"),
    "an absolute name": (pax({"path": "/tmp/evil"}) + REAL, "points outside the folder"),
    "the name of another file": (pax({"path": "pi.json"}) + REAL, "not listed"),
    "a name for all": (pax({"path": "../evil"}, global_=True) + REAL, "points outside"),
    "a link": (pax({"linkpath": "/etc/passwd"}) + REAL, "unknown property 'linkpath'"),
    "an owner": (pax({"uid": "0", "uname": "root"}) + REAL, "unknown property 'uid'"),
    "rights": (pax({"SCHILY.acl.access": "user::rwx"}) + REAL, "unknown property 'SCHILY"),
    "a character set": (pax({"hdrcharset": "BINARY"}) + REAL, "unknown property 'hdrcharset'"),
    "a smaller size": (pax({"size": "512"}) + REAL, "does not match"),
    "a larger size": (pax({"size": str(1 << 40)}) + REAL, "does not match"),
    "a negative size": (pax({"size": "-1024"}) + REAL, "does not match"),
    "a size beyond all": (pax({"size": "9" * 3000}) + REAL, "does not match"),
    "a negative size in the head": (
        raw(b"", tarfile.REGTYPE, "bundles/tiny/a.gguf", -1024), "a size is negative",
    ),
    "gigabytes of it": (raw(b"", tarfile.XHDTYPE, size=4 << 30) + REAL, "4294967296 bytes"),
    "a long value": (pax({"path": "a" * 5000}) + REAL, "an extended header has"),
    "a length of many digits": (raw(b"9" * 4000 + b" a=b", tarfile.XHDTYPE) + REAL, "damaged"),
    "a chain": (pax({"path": "a"}) * 2000 + REAL, "not that of a file"),
    "one before a link": (
        pax({"path": "bundles/tiny/a.gguf"}) + raw(b"", tarfile.SYMTYPE), "not that of a file",
    ),
    "a long name of GNU": (
        raw(b"../evil\0", tarfile.GNUTYPE_LONGNAME) + REAL, "points outside the folder",
    ),
    "gigabytes of a long name": (
        raw(b"", tarfile.GNUTYPE_LONGNAME, size=4 << 30) + REAL, "4294967296 bytes",
    ),
    "sparse 0.0": (
        pax({"GNU.sparse.size": "9", "GNU.sparse.offset": "0", "GNU.sparse.numbytes": "9"}) + REAL,
        "not a regular file",
    ),
    "sparse 0.1": (pax({"GNU.sparse.map": "0,9", "GNU.sparse.size": "9"}) + REAL, "not a regular"),
    "sparse 0.1 of no numbers": (pax({"GNU.sparse.map": "x"}) + REAL, "damaged"),
    "sparse 1.0": (pax(SPARSE_1) + REAL, "damaged"),
    "sparse of old": (
        raw(b"", tarfile.GNUTYPE_SPARSE, "bundles/tiny/a.gguf"), "not a regular file",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EXTENSIONS)
def test_an_extended_header_is_refused_or_harmless(name: str, tmp_path: Path) -> None:
    members, reason = EXTENSIONS[name]
    manifest = raw(archive.encode(contents()), tarfile.REGTYPE, "pi.json")
    path = tmp_path / "bad.pi"
    for padding in (b"", bytes(10240)):
        path.write_bytes(manifest + members + padding)
        with pytest.raises(BadInput) as refused:
            archive.unpack(path, tmp_path / "out")
        assert reason in str(refused.value)
        assert [each.name for each in tmp_path.iterdir()] == ["bad.pi"]


def test_an_extended_header_that_says_what_is_so_is_taken(tmp_path: Path) -> None:
    """As other programs write one, for names that are long or no ASCII."""
    manifest = raw(archive.encode(contents()), tarfile.REGTYPE, "pi.json")
    said = {"path": "bundles/tiny/a.gguf", "size": str(len(DATA))}
    for head in (pax(said), raw(b"bundles/tiny/a.gguf\0", tarfile.GNUTYPE_LONGNAME)):
        other = raw(DATA, tarfile.REGTYPE, "short")
        (tmp_path / "good.pi").write_bytes(manifest + head + other + bytes(10240))
        assert archive.check(tmp_path / "good.pi") == contents()


SAFE = {"pythons": {"3.11": []}, "bundles": ["größe 1"], "name": "größe 1", "files": []}


@pytest.mark.parametrize(
    "values",
    [
        {"pythons": {"3.11; rm -rf ~": []}},
        {"pythons": {"$(id)": []}},
        {"pythons": {"": []}},
        {"pythons": {"3.11\n": []}},
        {"bundles": [".."]},
        {"bundles": ["a/b"]},
        {"bundles": ["/etc"]},
        {"bundles": ["-rf"]},
        {"bundles": [".hidden"]},
        {"bundles": [""]},
        {"bundles": ["a\nb"]},
        {"bundles": ["\x1b[2J"]},
        {"bundles": ["x" * 300]},
        {"board": "../pi5"},
        {"board": "pi5; id"},
        {"pitool": "0.1 $(id)"},
        {"name": "\x1b]0;owned\x07"},
        {"memory": -1},
    ],
    ids=repr,
)
def test_a_text_that_could_be_misread_is_refused(tmp_path: Path, values: dict[str, Any]) -> None:
    path = tmp_path / "bad.pi"
    tar_of(path, manifest=changed(**SAFE))
    assert archive.check(path).bundles == ("größe 1",)
    tar_of(path, manifest=changed(**(SAFE | values)))
    with pytest.raises(BadInput):
        archive.check(path)


@pytest.mark.parametrize(
    "place",
    ["extra", ".bashrc", "wheels/a b.whl", "wheels/-a.whl", "wheels/a.py", "wheels/x/a.whl",
     "bundles/other/a", "bundles/tiny", "bundles/tiny/a\nb", "site/x.py", "pi.json"],
)  # fmt: skip
def test_a_file_that_lies_where_an_archive_has_none(tmp_path: Path, place: str) -> None:
    tar_of(tmp_path / "bad.pi", named(place, DATA), manifest=listed(place))
    with pytest.raises(BadInput, match="no place in an archive"):
        archive.check(tmp_path / "bad.pi")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.pi"]
