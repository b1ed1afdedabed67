"""Wheels: equal content is equal bytes, and a shared object is read as binutils reads it."""

from __future__ import annotations

import base64
import csv
import hashlib
import re
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pitool.deploy import pack, wheelfile
from pitool.errors import PitoolError


def library(machine: int = wheelfile.AARCH64, alignment: int = 65536, glibc: str = "2.34") -> bytes:
    """A shared object of one loaded segment, after the System V ABI."""
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header += struct.pack("<HHIQQQIHHHHHH", 3, machine, 1, 0, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, 120, 120, alignment)
    return header + segment + f"\0GLIBC_2.17\0GLIBC_{glibc}\0".encode()


def raw_wheel(path: Path, shared: bytes, *, backwards: bool = False) -> Path:
    files = {
        "tiny/lib.so": shared,
        "tiny/__init__.py": b"",
        "tiny-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
        "tiny-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nTag: py3-none-linux_x86_64\n",
        "tiny-1.0.dist-info/RECORD": b"",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name in sorted(files, reverse=backwards):
            archive.writestr(name, files[name])
    return path


def test_order_and_dates_do_not_matter(tmp_path: Path) -> None:
    made = []
    for backwards in (False, True):
        folder = tmp_path / str(backwards)
        folder.mkdir()
        wheel = raw_wheel(folder / "raw.whl", library(), backwards=backwards)
        made.append(wheelfile.normalise(wheel, folder))
    assert made[0].name == "tiny-1.0-py3-none-manylinux_2_34_aarch64.whl"
    assert made[0].read_bytes() == made[1].read_bytes()


def test_the_record_is_what_pip_checks(tmp_path: Path) -> None:
    wheel = wheelfile.normalise(raw_wheel(tmp_path / "raw.whl", library()), tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        assert b"Tag: py3-none-manylinux_2_34_aarch64\n" in archive.read("tiny-1.0.dist-info/WHEEL")
        rows = list(csv.reader(archive.read("tiny-1.0.dist-info/RECORD").decode().splitlines()))
        assert sorted(row[0] for row in rows) == archive.namelist()
        for name, digest, size in rows:
            if digest:
                data = archive.read(name)
                encoded = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode()
                assert digest == "sha256=" + encoded.rstrip("=")
                assert int(size) == len(data)


@pytest.mark.parametrize(
    ("shared", "reason"),
    [
        (library(alignment=4096), "aligned to 4096 bytes"),
        (library(machine=62), "not for aarch64"),
        (b"\x7fELF", "not for aarch64"),
    ],
)
def test_what_no_pi_5_loads_is_refused(tmp_path: Path, shared: bytes, reason: str) -> None:
    with pytest.raises(PitoolError, match=reason):
        wheelfile.normalise(raw_wheel(tmp_path / "raw.whl", shared), tmp_path)


@pytest.mark.skipif(shutil.which("readelf") is None, reason="binutils is not installed")
def test_a_real_library_is_read_as_readelf_reads_it() -> None:
    import numpy.linalg._umath_linalg as module

    path = Path(module.__file__ or "")
    words = ["readelf", "-lVW", str(path)]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    aligned = [int(line.split()[-1], 16) for line in said.splitlines() if "  LOAD " in line]
    data = path.read_bytes()
    assert wheelfile.alignment(data) == min(aligned)
    assert wheelfile.machine(data) in (62, wheelfile.AARCH64)
    assert wheelfile.glibc(data) == max(int(minor) for minor in re.findall(r"GLIBC_2\.(\d+)", said))


@pytest.mark.thorough
def test_pip_installs_the_wheel_that_is_made_of_this_pitool(tmp_path: Path) -> None:
    wheel = pack.own_wheel(tmp_path)
    words = ["install", "-q", "--no-deps", "--no-index", "--target"]
    words += [str(tmp_path / "site"), str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True, capture_output=True)
    code = f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); import pitool\n"
    code += "from pitool.catalog.boards import boards; print(pitool.__file__, len(boards()))"
    said = subprocess.run(
        [sys.executable, "-I", "-c", code],
        check=True, capture_output=True, text=True,
    ).stdout.split()  # fmt: skip
    assert Path(said[0]).is_relative_to(tmp_path / "site")
    assert int(said[1]) > 5
    again = tmp_path / "again"
    again.mkdir()
    assert pack.own_wheel(again).read_bytes() == wheel.read_bytes()
