"""Files that are something else than their names say: each is said for what it is."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pitool.catalog.contents import check_content, check_file, text_instead
from pitool.catalog.reading import read_object
from pitool.errors import BadInput

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'ab' * 32}\nsize 2471645608\n"


def archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("archive/data.pkl", "x")


CONTENTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a Git LFS pointer": (
        lambda p: p.write_text(POINTER), "is a pointer of Git LFS.*: run 'git lfs pull'",
    ),
    "a web page": (lambda p: p.write_text("\n<!DOCTYPE html><html>..."), "is a web page"),
    "a storage service's error": (lambda p: p.write_text("<?xml version='1.0'?>"), "a web page"),
    "an old pickle": (lambda p: p.write_bytes(b"\x80\x02}q\x00(X\x05\x00"), "is a pickle"),
    "a new pickle": (lambda p: p.write_bytes(b"\x80\x04\x95" + b"\0" * 20), "is a pickle"),
    "what torch.save writes": (archive, "a PyTorch checkpoint.*: save it as safetensors"),
    "a GGUF": (lambda p: p.write_bytes(b"GGUF" + b"\3\0\0\0" * 9), "is a GGUF file"),
    "a compressed archive": (lambda p: p.write_bytes(b"\x1f\x8b\x08\0"), "is a compressed archive"),
    "nothing": (lambda p: p.touch(), "is empty"),
    "a folder": (lambda p: p.mkdir(), "is a folder, not a file"),
    "a pipe": (lambda p: os.mkfifo(p), "is a device or a pipe"),
    "a dead link": (
        lambda p: p.symlink_to(p.parent / "gone"), "is a link to a file that does not exist",
    ),
    "not there": (lambda p: None, "does not exist"),
}  # fmt: skip


@pytest.mark.parametrize("case", CONTENTS)
def test_what_a_file_is_instead(tmp_path: Path, case: str) -> None:
    write, message = CONTENTS[case]
    path = tmp_path / "model.safetensors"
    write(path)
    with pytest.raises(BadInput, match=message) as caught:
        check_content(path)
    assert str(path) in caught.value.what
    assert caught.value.do


def test_a_file_that_may_not_be_read(tmp_path: Path, as_user: None) -> None:
    path = tmp_path / "x"
    path.write_text("x")
    path.chmod(0)
    with pytest.raises(BadInput, match=r"Permission denied\): check its permissions"):
        check_content(path)


@pytest.mark.parametrize("length", [0x0280, 0x0480])
def test_a_header_of_a_length_like_a_pickles_first_bytes(tmp_path: Path, length: int) -> None:
    path = tmp_path / "x"
    path.write_bytes(length.to_bytes(8, "little") + b'{"t": 1}')
    check_content(path)


def test_what_may_be_what_it_should(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for data in (b"{}", b"\x0c\0\0\0\0\0\0\0{", "é".encode(), b"\0\0\0"):
        path.write_bytes(data)
        check_content(path)
        check_file(path)


def test_a_servers_message_is_quoted(tmp_path: Path) -> None:
    found = text_instead(tmp_path / "x", b"Entry not found\nat all")
    assert "is a text file that begins with 'Entry not found'" in str(found)
    for data in (b"\x10\0\0\0\0\0\0\0", b"\xff\xfe{}", b"abc"):
        assert text_instead(tmp_path / "x", data) is None


@pytest.mark.parametrize("data", [b"{", b"\xff", b"[" * 100_000, b'{"a": 1'])
def test_json_that_is_none(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(data)
    with pytest.raises(BadInput, match=r"cannot read .*config\.json"):
        read_object(path)


def test_json_objects(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"a": 1}')
    assert read_object(path) == {"a": 1}
    path.write_text("[1]")
    with pytest.raises(BadInput, match="is not a JSON object"):
        read_object(path)
    path.write_text(POINTER)
    with pytest.raises(BadInput, match="is a pointer of Git LFS"):
        read_object(path)
