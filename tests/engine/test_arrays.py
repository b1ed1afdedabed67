"""Archives of arrays against numpy's own writer, and heads that lie."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pitool.engine.arrays import open_arrays

MOST = 1 << 20


def write(path: Path, head: bytes, data: bytes = b"") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + data)
    return path


def read(path: Path, kind: str = "<f4", dimensions: int = 1) -> Any:
    with open_arrays(path, MOST) as arrays:
        return arrays.read("a", kind, dimensions)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (np.arange(6, dtype=np.float32).reshape(2, 3), "<f4"),
        (np.ones((1, 2, 3, 4), np.float16), "<f2"),
        (np.arange(5, dtype=np.int64), "<i8"),
        (np.array("the model"), "U"),
        (np.zeros((0, 4), np.float32), "<f4"),
    ],
)
def test_what_numpy_wrote(tmp_path: Path, save: Any, array: Any, kind: str) -> None:
    save(tmp_path / "a.npz", a=array)
    found = read(tmp_path / "a.npz", kind, array.ndim)
    assert found.dtype == array.dtype
    assert np.array_equal(found, array)


@pytest.mark.parametrize(
    ("array", "why"),
    [
        (np.zeros(3, np.float64), "an array of <f8"),
        (np.zeros((3, 1), np.float32), r"shape \(3, 1\)"),
        (np.array([{}], object), "not an array of numbers"),
        (np.zeros(3, ">f4"), "not an array of numbers"),
        (np.asfortranarray(np.ones((2, 3), np.float32)), "not an array of numbers"),
        (np.zeros(1 << 19, np.float32), "larger than"),
    ],
)
def test_another_array_is_refused(tmp_path: Path, array: Any, why: str) -> None:
    np.savez_compressed(tmp_path / "a.npz", a=array)
    with pytest.raises(ValueError, match=why):
        read(tmp_path / "a.npz")


@pytest.mark.parametrize("shape", ["1000000000000,", "9" * 400 + ",", "-1,", "2,"])
def test_a_size_that_the_archive_does_not_hold(tmp_path: Path, shape: str) -> None:
    head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({shape}), }}\n".encode()
    with pytest.raises(ValueError, match=r"another size|not an array"):
        read(write(tmp_path / "a.npz", head, bytes(4)))


def test_a_head_is_not_evaluated(tmp_path: Path) -> None:
    head = b"{'descr': '<f4', 'fortran_order': False, 'shape': (print(1),), }\n"
    with pytest.raises(ValueError, match="not an array of numbers"):
        read(write(tmp_path / "a.npz", head))


def test_a_changed_byte_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, a=np.arange(64, dtype=np.float32))
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="CRC"):
        read(path)
