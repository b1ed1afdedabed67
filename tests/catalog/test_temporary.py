"""What a killed writer leaves goes with the next write; what a living one writes is never taken."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pitool.catalog import temporary as module
from pitool.catalog.files import write_atomically
from pitool.catalog.outputs import write_output
from pitool.catalog.scratch import hidden_name, in_use, taken
from pitool.catalog.temporary import temporary

WRITE = """
import sys
from pathlib import Path
from pitool.catalog.temporary import temporary
with temporary(Path(sys.argv[1])) as made:
    made.file.write(b"half")
    made.file.flush()
    print(made.path, flush=True)
    sys.stdin.read()
"""
HAMMER = """
import sys
from pathlib import Path
from pitool.catalog.files import write_atomically
from pitool.catalog.outputs import write_output
target = Path(sys.argv[1])
print("ready", flush=True)
sys.stdin.read(1)
for number in range(400):
    (write_atomically if number % 2 else write_output)(target, b"%d" % number * 100)
    if target.read_bytes() != b"%d" % number * 100:
        raise SystemExit("another file has the name")
"""


def leftover(folder: Path) -> Path:
    path = hidden_name(folder, "pitool", "partial")
    path.write_bytes(b"half")
    return path


def started(code: str, path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.parametrize("write", [write_atomically, write_output])
def test_the_next_write_removes_what_a_killed_one_left(
    tmp_path: Path, write: Callable[[Path, bytes], None]
) -> None:
    with started(WRITE, tmp_path) as process:
        assert process.stdout
        left = Path(process.stdout.readline().strip())
        write(tmp_path / "f", b"one")
        assert left.read_bytes() == b"half"  # it lives
        process.kill()
        process.wait()
        assert left.exists()
    write(tmp_path / "f", b"two")
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_writers_side_by_side_take_nothing_from_each_other(tmp_path: Path) -> None:
    targets = [tmp_path / name for name in "ab"]
    writers = [started(HAMMER, target) for target in targets]
    for writer in writers:
        assert writer.stdout and writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin
        writer.stdin.write("x")
        writer.stdin.close()
    for number in range(100):  # and a third, of this process
        write_atomically(tmp_path / "c", b"%d" % number)
    for writer in writers:
        with writer:
            assert writer.wait() == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]


def test_one_that_is_taken_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cleaner comes between the open and the lock, as it can at any time."""
    lock = fcntl.flock
    seen: list[list[str]] = []

    def late(held: int, how: int) -> None:
        if not seen and Path(f"/proc/self/fd/{held}").readlink().suffix == ".partial":
            seen.append([path.name for path in tmp_path.iterdir()])
            module._remove_leftovers(tmp_path)
        lock(held, how)

    if not Path("/proc/self/fd").exists():
        pytest.skip("there is no /proc here")
    monkeypatch.setattr(fcntl, "flock", late)
    with temporary(tmp_path) as made:
        made.file.write(b"whole")
        assert seen and seen[0] != [made.path.name]
        assert [path.name for path in tmp_path.iterdir()] == [made.path.name]
        made.become(tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == b"whole"


def test_a_leftover_is_held_while_it_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a writer that locks it between the look and the removal would lose its file."""
    held, unlink = [], Path.unlink

    def looking(path: Path, missing_ok: bool = False) -> None:
        held.append((path, in_use(path)))
        unlink(path, missing_ok)

    left = leftover(tmp_path)
    monkeypatch.setattr(Path, "unlink", looking)
    module._remove_leftovers(tmp_path)
    assert held == [(left, True)]


def test_one_that_a_cleaner_holds_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = module._hold
    held: list[Any] = []

    def late(descriptor: int) -> bool:
        if not held:
            (path,) = tmp_path.iterdir()
            held.append(taken(path))
            assert held[0].__enter__()
        return create(descriptor)

    monkeypatch.setattr(module, "_hold", late)
    write_atomically(tmp_path / "f", b"whole")
    held[0].__exit__(None, None, None)
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EBADF])
def test_without_locks_it_is_written_and_nothing_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    left = leftover(tmp_path)
    write_atomically(tmp_path / "f", b"one")
    assert (tmp_path / "f").read_bytes() == b"one"
    assert sorted(tmp_path.iterdir()) == sorted([left, tmp_path / "f"])


@pytest.mark.parametrize(
    "name", [".pitool.12.0.partial", ".pitool.0123abcd.part", "pitool.0123abcd.partial",
             ".other.0123abcd.partial", ".pitool.0123abcd.partial.txt"],
)  # fmt: skip
def test_what_has_another_name_stays(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"dear")
    write_atomically(tmp_path / "f", b"x")
    assert (tmp_path / name).read_bytes() == b"dear"


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_what_is_no_file_stays(tmp_path: Path, kind: str) -> None:
    (tmp_path / "dear").write_bytes(b"dear")
    path = hidden_name(tmp_path, "pitool", "partial")
    if kind == "link":
        path.symlink_to("dear")
    elif kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    write_atomically(tmp_path / "f", b"x")
    assert os.path.lexists(path)
    assert (tmp_path / "dear").read_bytes() == b"dear"


def test_where_a_file_system_has_no_links_a_new_file_is_made_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    write_output(tmp_path / "f", b"new", replace=False)
    assert (tmp_path / "f").read_bytes() == b"new"
    with temporary(tmp_path) as made, pytest.raises(FileExistsError):
        made.become_new(tmp_path / "f")
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_a_name_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    with temporary(tmp_path) as made:
        made.file.write(b"new")
        (tmp_path / "f").write_bytes(b"theirs")
        with pytest.raises(FileExistsError):
            made.become_new(tmp_path / "f")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"theirs"]
