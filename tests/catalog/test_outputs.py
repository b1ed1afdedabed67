"""A file that a user names: what a shell would write to stays what it is, and nothing is halved."""

from __future__ import annotations

import os
import resource
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pitool.catalog.outputs import AlreadyThere, check_output, open_new, output, write_output
from pitool.errors import DoesNotFit, PitoolError, UsageError

CODE = """
import sys
from pathlib import Path
from pitool.catalog.outputs import write_output
print("before", flush=True)
write_output(Path(sys.argv[1]), b"drawn\\n")
print("after")
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_new_file_has_the_rights_of_every_new_file(tmp_path: Path) -> None:
    write_output(tmp_path / "ours", b"x")
    (tmp_path / "theirs").write_bytes(b"x")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "theirs").stat().st_mode
    assert names(tmp_path) == ["ours", "theirs"]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o755, 0o666])
def test_a_replaced_file_keeps_its_rights(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old, and longer")
    path.chmod(mode)
    write_output(path, b"new")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert names(tmp_path) == ["f"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_replaced_file_keeps_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    os.chown(path, 1234, 4321)
    write_output(path, b"new")
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 4321)


def test_a_file_keeps_its_other_names(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"old, and longer")
    (tmp_path / "two").hardlink_to(tmp_path / "one")
    write_output(tmp_path / "two", b"new")
    assert (tmp_path / "one").read_bytes() == b"new"
    assert (tmp_path / "one").samefile(tmp_path / "two")


@pytest.mark.parametrize("there", [True, False])
def test_a_link_is_followed(tmp_path: Path, there: bool) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    if there:
        (folder / "real").write_bytes(b"old")
    (tmp_path / "middle").symlink_to("folder/real")
    (tmp_path / "link").symlink_to(tmp_path / "middle")
    write_output(tmp_path / "link", b"new")
    assert (folder / "real").read_bytes() == b"new"
    assert (tmp_path / "link").is_symlink() and (tmp_path / "middle").is_symlink()
    assert names(folder) == ["real"]


def test_a_link_to_itself_is_said(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("link")
    with pytest.raises(PitoolError, match=r"cannot write to .*symbolic links"):
        write_output(tmp_path / "link", b"new")


def test_a_device_stays_a_device_and_is_full() -> None:
    with pytest.raises(DoesNotFit, match=r"/dev/full \(No space left on device\): free some space"):
        write_output(Path("/dev/full"), b"new")
    assert Path("/dev/full").is_char_device()
    write_output(Path("/dev/null"), b"new")
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("replace", [True, False])
def test_a_pipe_is_written_through(tmp_path: Path, replace: bool) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    heard: list[bytes] = []
    reader = threading.Thread(target=lambda: heard.append(path.read_bytes()))
    reader.start()
    write_output(path, b"new", replace=replace)
    reader.join()
    assert heard == [b"new"]
    assert names(tmp_path) == ["fifo"]


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "link"])
@pytest.mark.parametrize("to", ["pipe", "file"])
def test_standard_output_by_its_name(tmp_path: Path, name: str, to: str) -> None:
    if name.startswith("/proc") and not Path(name).exists():
        pytest.skip("there is no /proc here")
    (tmp_path / "link").symlink_to("/dev/stdout")
    words = [sys.executable, "-c", CODE, name if name.startswith("/") else tmp_path / name]
    if to == "pipe":
        said = subprocess.run(words, check=True, capture_output=True).stdout
    else:
        with (tmp_path / "said").open("wb") as file:
            subprocess.run(words, check=True, stdout=file)
        said = (tmp_path / "said").read_bytes()
    assert said == b"before\ndrawn\nafter\n"


def test_a_process_substitution(tmp_path: Path) -> None:
    if not Path("/bin/bash").exists():
        pytest.skip("bash is not installed")
    line = f"'{sys.executable}' -c '{CODE}' >(cat >{tmp_path}/copy) >/dev/null; wait $!"
    subprocess.run(["/bin/bash", "-c", line], check=True)
    assert (tmp_path / "copy").read_bytes() == b"drawn\n"


def test_a_file_that_must_not_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "f"
    write_output(path, b"old", replace=False)
    (tmp_path / "link").symlink_to(path)
    for name in (path, tmp_path / "link"):
        with pytest.raises(AlreadyThere, match="already exists: choose another file"):
            write_output(name, b"new", replace=False)
        with pytest.raises(FileExistsError):
            open_new(name)
    assert path.read_bytes() == b"old"
    open_new(Path("/dev/null")).close()


@pytest.mark.parametrize("replace", [True, False])
@pytest.mark.parametrize("error", [OSError(28, "No space left"), KeyboardInterrupt()])
def test_what_breaks_off_leaves_what_was_there(
    tmp_path: Path, replace: bool, error: BaseException
) -> None:
    path = tmp_path / "f"
    if replace:
        path.write_bytes(b"old")
    expected = DoesNotFit if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected), output(path, replace=replace) as file:
        file.write(b"half")
        raise error
    assert [p.read_bytes() for p in tmp_path.iterdir()] == ([b"old"] if replace else [])


def test_a_limit_on_the_size_of_files(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, before[1]))
    try:
        with pytest.raises(DoesNotFit, match="ulimit -f"):
            write_output(path, bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["f"]


def test_a_protected_file_is_not_replaced(tmp_path: Path, as_user: None) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    path.chmod(0o444)
    with pytest.raises(PitoolError, match="Permission denied"):
        write_output(path, b"new")
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("harm", ["create", "chown"])
def test_where_no_other_file_can_take_its_place_it_is_written_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old, and longer")
    inode = path.stat().st_ino

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    if harm == "create":
        monkeypatch.setattr("pitool.catalog.temporary._create", refuse)
    else:
        monkeypatch.setattr(os, "fchmod", refuse)
    write_output(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_ino == inode
    assert names(tmp_path) == ["f"]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: folder, "is a folder; choose another --plot"),
        (lambda folder: folder / "none" / "f.svg", "none is not a folder; create it"),
        (lambda folder: folder / "file" / "f.svg", "file is not a folder"),
    ],
)
def test_where_nothing_can_be_written_is_seen_before(
    tmp_path: Path, make: Callable[[Path], Path], said: str
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError) as caught:
        check_output(make(tmp_path), "--plot")
    assert said in caught.value.sentence


@pytest.mark.parametrize("name", ["x" * 300, "a/b", "nul\0"])
def test_names_that_no_file_can_have(tmp_path: Path, name: str) -> None:
    with pytest.raises(PitoolError, match="cannot write to"):
        write_output(tmp_path / name, b"x")
