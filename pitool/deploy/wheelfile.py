"""Writes a wheel again so that the same content is the same bytes, tagged for what it needs.

Sorted names, one date, one compression, a fresh RECORD (PyPA's binary distribution format). What a
shared object needs (machine, page alignment, glibc) is read from its program headers: 64-bit
little-endian ELF, by the System V ABI and its AArch64 supplement.
"""

from __future__ import annotations

import base64
import hashlib
import re
import struct
import zipfile
from pathlib import Path

from pitool.catalog.boards import boards
from pitool.errors import PitoolError

# SOURCE_DATE_EPOCH of everything that is built: 1980-01-01, the first date that zip knows.
EPOCH = (1980, 1, 1, 0, 0, 0)
SOURCE_DATE_EPOCH = 315532800
AARCH64 = 183
PT_LOAD = 1


def normalise(wheel: Path, folder: Path) -> Path:
    """Write ``wheel`` into ``folder`` for manylinux on aarch64, and return the new file.

    The platform tag follows from the glibc symbols of its shared objects. Raises PitoolError
    when one of them is for another machine or not aligned for the largest pages of a board.
    """
    with zipfile.ZipFile(wheel) as archive:
        files = {n: archive.read(n) for n in sorted(archive.namelist()) if not n.endswith("/")}
    libraries = {name: data for name, data in files.items() if name.endswith(".so")}
    for name, data in libraries.items():
        check(name, data)
    minor = max((glibc(data) for data in libraries.values()), default=17)
    tag = f"py3-none-manylinux_2_{minor}_aarch64"
    info = next(n.partition("/")[0] for n in files if n.endswith(".dist-info/WHEEL"))
    # The version of the builder is no content.
    for key, value in (("Tag", tag), ("Generator", "pitool")):
        files[f"{info}/WHEEL"] = re.sub(
            rb"(?m)^%s: .*$" % key.encode(), f"{key}: {value}".encode(), files[f"{info}/WHEEL"]
        )
    files[f"{info}/RECORD"] = record(files, f"{info}/RECORD")
    target = folder / f"{info.removesuffix('.dist-info')}-{tag}.whl"
    write_zip(target, files)
    return target


def check(name: str, data: bytes) -> None:
    """Raise PitoolError when a shared object would not load on every board."""
    if machine(data) != AARCH64:
        raise PitoolError(f"{name} is not for aarch64", "clear the cache and build again")
    page_kib = max(board.page_kib for board in boards().values())
    if alignment(data) % (page_kib * 1024) or not alignment(data):
        raise PitoolError(
            f"{name} is aligned to {alignment(data)} bytes, and some boards have pages of"
            f" {page_kib} KiB",
            "link with -Wl,-z,max-page-size=65536",
        )


def write_zip(path: Path, files: dict[str, bytes]) -> None:
    """Write ``files`` (name to content) so that equal files are equal bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o100755 if name.endswith(".so") else 0o100644) << 16
            archive.writestr(entry, files[name])


def record(files: dict[str, bytes], own: str) -> bytes:
    """Return the RECORD of a wheel: each name with hash and size, its ``own`` without."""
    lines = []
    for name, data in files.items():
        if name != own:
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            lines.append(f"{name},sha256={digest},{len(data)}")
    return "\n".join([*lines, f"{own},,", ""]).encode()


def machine(data: bytes) -> int | None:
    """Return ``e_machine`` of a 64-bit ELF file; None for anything else."""
    if data[:6] != b"\x7fELF\x02\x01" or len(data) < 64:
        return None
    number: int = struct.unpack_from("<H", data, 18)[0]
    return number


def alignment(data: bytes) -> int:
    """Return the smallest alignment of its loaded segments in bytes."""
    (offset,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    headers = (struct.unpack_from("<IIQQQQQQ", data, offset + i * size) for i in range(count))
    return min((header[7] for header in headers if header[0] == PT_LOAD), default=0)


def glibc(data: bytes) -> int:
    """Return the minor version of the newest ``GLIBC_2.x`` symbols that it asks for."""
    return max((int(minor) for minor in re.findall(rb"GLIBC_2\.(\d+)\0", data)), default=17)
