"""Which saved prefills are found, and which go."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from pitool.catalog.bundles import Runnable
from pitool.engine.base import Settings
from pitool.store.prefills import Prefills, key_of, system_name


def test_found_until_dropped(tmp_path: Path) -> None:
    prefills = Prefills(tmp_path / "p")
    assert prefills.find("a-1") is None
    prefills.save("a-1", lambda path: path.write_text("x"))
    found = prefills.find("a-1")
    assert found is not None
    assert found.read_text() == "x"
    prefills.save("a-2", lambda path: path.write_text("y"))
    prefills.drop_conversation("a")
    assert list((tmp_path / "p").iterdir()) == []


def test_the_least_recently_used_go(tmp_path: Path) -> None:
    prefills = Prefills(tmp_path, limit=250)
    for age, name in enumerate(("old", "middle")):
        prefills.save(name, lambda path: path.write_bytes(bytes(100)))
        os.utime(tmp_path / name, (age, age))
    assert prefills.find("old")  # used: now the youngest
    prefills.save("new", lambda path: path.write_bytes(bytes(100)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "old"]
    prefills.save("huge", lambda path: path.write_bytes(bytes(300)))
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_the_old_one(tmp_path: Path) -> None:
    prefills = Prefills(tmp_path)
    prefills.save("a", lambda path: path.write_text("whole"))

    def half(path: Path) -> None:
        path.write_text("ha")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        prefills.save("a", half)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a", "whole")]


def test_the_key_is_of_weights_and_settings(tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(b"12")
    runnable = Runnable("m", "gguf", "Q4_0", file, 2, 512)
    settings = Settings(512, decode_threads=2, prefill_threads=4)
    key = key_of("c", runnable, settings)
    assert key == key_of("c", runnable, dataclasses.replace(settings, decode_threads=4))
    assert key != key_of("c", runnable, dataclasses.replace(settings, context=1024))
    assert key != key_of("c", runnable, dataclasses.replace(settings, kv_type="q8_0"))
    assert key != key_of("d", runnable, settings)
    os.utime(file, (1, 1))
    assert key != key_of("c", runnable, settings)
    assert system_name("a") != system_name("b")
