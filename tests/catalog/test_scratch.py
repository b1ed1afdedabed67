"""What a killed process leaves is removed by the next; what a living one holds never is."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pitool.catalog import cache
from pitool.catalog.scratch import hold, in_use, leftovers, scratch
from pitool.errors import UsageError

WORK = """
import sys
from pathlib import Path
from pitool.catalog.scratch import scratch
with scratch(Path(sys.argv[1]), "work") as folder:
    (folder / "half").write_bytes(b"x")
    print(folder, flush=True)
    sys.stdin.read()
"""
TAKE = """
import sys
from pathlib import Path
from pitool.catalog import cache
print(cache.take(Path(sys.argv[1])), flush=True)
sys.stdin.read()
"""


@contextmanager
def running(code: str, path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run code in another process that waits; yield it and the line that it said."""
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout
        yield process, process.stdout.readline().strip()
        process.kill()


def test_it_is_gone_at_the_end(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), scratch(tmp_path, "work") as folder:
        assert folder.is_dir()
        (folder / "half").touch()
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_two_in_one_process(tmp_path: Path) -> None:
    with scratch(tmp_path, "work") as one, scratch(tmp_path, "work") as two:
        assert one != two
        assert one.is_dir()


@pytest.mark.parametrize("name", ["work", "other"])
def test_the_next_run_removes_what_a_killed_one_left(tmp_path: Path, name: str) -> None:
    with running(WORK, tmp_path) as (process, folder):
        with scratch(tmp_path, name):
            assert (Path(folder) / "half").exists()  # it lives
        process.kill()
        process.wait()
        assert (Path(folder) / "half").exists()
        with scratch(tmp_path, name) as mine:
            assert list(tmp_path.iterdir()) == [mine]


@pytest.mark.parametrize(
    "name", [".work.12345678", ".work.123.partial", ".works.0123abcd.partial", ".work.old.partial"]
)
def test_what_nobody_of_ours_made_stays(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    assert leftovers(tmp_path, "work", "partial") == []


def test_a_link_in_the_place_of_a_leftover_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "dear").mkdir()
    (tmp_path / ".work.0123abcd.partial").symlink_to("dear")
    assert leftovers(tmp_path, "work", "partial") == []


def test_what_is_held_is_in_use(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    assert not in_use(tmp_path / "f")
    hold(tmp_path / "f")
    assert in_use(tmp_path / "f")


# -- the cache -----------------------------------------------------------------------------


def entry(name: str, size: int) -> Path:
    path = cache.root() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if name.startswith("board"):
        path.mkdir()
        (path / "part").write_bytes(bytes(size))
    else:
        path.write_bytes(bytes(size))
    return path


def left() -> set[str]:
    found = [path for pattern in cache.ENTRIES for path in cache.root().glob(pattern)]
    return {str(path.relative_to(cache.root())) for path in found}


def test_one_limit_for_all_kinds(
    monkeypatch: pytest.MonkeyPatch, set_age: Callable[[Path, int], None]
) -> None:
    monkeypatch.setenv("PITOOL_CACHE_GB", "0.00000003")  # 30 bytes
    names = ["intermediate/a.gguf", "board-wheels/b", "board-packages/c", "board-sources/d"]
    for age, name in enumerate(names):
        set_age(entry(name, 10), age)
    cache.trim()
    assert left() == set(names[:3])
    assert cache.take(cache.root() / names[2])
    set_age(entry("intermediate/new.gguf", 20), 0)
    cache.trim()
    assert left() == {"board-packages/c", "intermediate/new.gguf"}


@pytest.fixture
def set_age() -> Callable[[Path, int], None]:
    return lambda path, age: os.utime(path, (10_000 - age, 10_000 - age))


def test_what_another_process_uses_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PITOOL_CACHE_GB", "0")
    path = entry("intermediate/a.gguf", 10)
    with running(TAKE, path) as (process, said):
        assert said == "True"
        cache.trim()
        assert path.exists()
        process.kill()
        process.wait()
        cache.trim()
    assert not path.exists()
    assert not cache.take(path)


@pytest.mark.parametrize("text", ["much", "-1", "1e400", "nan", "20GB"])
def test_a_limit_that_is_no_number(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("PITOOL_CACHE_GB", text)
    with pytest.raises(UsageError, match=r"PITOOL_CACHE_GB=.* is not a size"):
        cache.limit()


def test_the_folder_is_the_users_choice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PITOOL_CACHE", str(tmp_path / "chosen"))
    assert cache.root() == tmp_path / "chosen"
    monkeypatch.delenv("PITOOL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.root() == tmp_path / "xdg" / "pitool"
