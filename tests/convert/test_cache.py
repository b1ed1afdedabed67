"""The cache of intermediates: what stays, what goes, and that only whole files have a name."""

from __future__ import annotations

from pathlib import Path

import pytest

from pitool.catalog.manifest import Adapter, FileEntry, Source
from pitool.convert import cache
from tests.convert.helpers import names

FILES = (FileEntry("config.json", 3, "a" * 64), FileEntry("model.safetensors", 4, "b" * 64))


def put(name: str, size: int = 10) -> Path:
    return cache.get(name, lambda path: path.write_bytes(b"x" * size))


def never(_: Path) -> None:
    raise AssertionError("it was there")


def test_what_is_there_is_not_made_again() -> None:
    path = put("a")
    assert path.read_bytes() == b"x" * 10
    assert cache.get("a", never) == path


def test_what_fails_leaves_nothing() -> None:
    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.get("a", fail)
    assert names(cache.folder()) == set()


def test_what_is_in_use_stays_though_it_is_above_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PITOOL_CACHE_GB", "0")
    cache.folder().mkdir(parents=True)
    (cache.folder() / "unused.gguf").write_bytes(b"x")
    put("a")
    put("b")
    assert names(cache.folder()) == {"a.gguf", "b.gguf"}  # of this process


def test_what_a_killed_process_left_is_removed() -> None:
    left = cache.folder() / ".making.0123abcd.partial"
    left.mkdir(parents=True)
    (left / "x.gguf").touch()
    put("a")
    assert names(cache.folder()) == {"a.gguf"}


def test_the_key_knows_files_and_settings() -> None:
    other = FileEntry("config.json", 3, "c" * 64)
    source = Source("id", None, FILES)
    keys = [
        cache.key(source, "BF16"),
        cache.key(source, "F16"),
        cache.key(Source("id", None, FILES[:1]), "BF16"),
        cache.key(Source("id", None, (other, *FILES[1:])), "BF16"),
        cache.key(Source("id", None, FILES, (Adapter("a", 1.0, FILES),)), "BF16"),
        cache.key(Source("id", None, FILES, (Adapter("a", 0.5, FILES),)), "BF16"),
    ]
    assert len(set(keys)) == 6
    assert cache.key(Source("id", None, FILES), "BF16") == keys[0]
