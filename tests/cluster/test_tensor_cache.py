"""The tensors on a board: only whole ones are there when a server starts."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from pitool.cluster.tensor_cache import LIST, TensorCache

A, B, C = "00000000000000aa", "00000000000000bb", "00000000000000cc"


def write(folder: Path, name: str, size: int, used: int | None = None) -> None:
    path = folder / name
    path.write_bytes(bytes(size))
    if used is not None:
        os.utime(path, (used, used))


@pytest.fixture
def cache(tmp_path: Path) -> TensorCache:
    made = TensorCache(tmp_path / "tensors", limit=100)
    made.prepare()
    return made


def names(cache: TensorCache) -> set[str]:
    return {path.name for path in cache.folder.iterdir()} - {LIST}


def test_what_was_whole_when_a_client_left_is_there_at_the_next_start(cache: TensorCache) -> None:
    write(cache.folder, A, 30)
    cache.settle(time.time_ns())
    cache.prepare()
    assert names(cache) == {A}
    assert cache.bytes == 30


def test_what_was_being_written_at_a_power_cut_is_deleted(cache: TensorCache) -> None:
    write(cache.folder, A, 30)
    cache.settle(time.time_ns())
    write(cache.folder, B, 10)  # nobody left after it
    write(cache.folder, A, 12)  # it was whole once
    TensorCache(cache.folder).prepare()
    assert names(cache) == set()


def test_what_another_client_is_writing_is_not_called_whole(cache: TensorCache) -> None:
    left = time.time_ns()
    write(cache.folder, A, 30, used=left // 10**9 + 60)
    cache.settle(left)
    cache.prepare()
    assert names(cache) == set()


def test_the_limit_is_kept_and_the_longest_unused_goes(cache: TensorCache) -> None:
    now = int(time.time()) - 1000
    for age, name in ((300, A), (100, B), (200, C)):
        write(cache.folder, name, 45, used=now - age)
    cache.settle(time.time_ns())
    assert names(cache) == {B, C}


def test_other_files_are_left_alone_and_a_damaged_list_lists_nothing(cache: TensorCache) -> None:
    write(cache.folder, A, 30)
    cache.settle(time.time_ns())
    (cache.folder / "notes.txt").write_text("mine")
    (cache.folder / LIST).write_text("{")
    cache.prepare()
    assert names(cache) == {"notes.txt"}


def test_the_disk_must_hold_a_model_more(cache: TensorCache) -> None:
    assert cache.has_room(0) or os.statvfs(cache.folder).f_bavail < 1 << 18
    assert not cache.has_room(1 << 60)
