"""Which saved prefills are found, and which go."""

from __future__ import annotations

import dataclasses
import os
import stat
from pathlib import Path

import pytest

from pitool.catalog.bundles import Runnable
from pitool.engine.base import Settings
from pitool.engine.prefills.files import Prefills
from pitool.engine.prefills.keys import key_of, system_name


def names(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.iterdir())


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
        (path,) = tmp_path.glob(f"{name}.*")
        os.utime(path, (age, age))
    assert prefills.find("old")  # used: now the youngest
    prefills.save("new", lambda path: path.write_bytes(bytes(100)))
    assert names(tmp_path) == ["new", "old"]
    prefills.save("huge", lambda path: path.write_bytes(bytes(300)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("harm", ["a bit", "its end", "more"])
def test_a_damaged_one_is_dropped_with_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, harm: str
) -> None:
    prefills = Prefills(tmp_path)
    for name in ("whole", "damaged"):
        prefills.save(name, lambda path: path.write_bytes(bytes(3_000_000)))
    (path,) = tmp_path.glob("damaged.*")
    data = bytearray(path.read_bytes())
    if harm == "a bit":
        data[2_000_000] ^= 0x10
    path.write_bytes({"a bit": data, "its end": data[:-1], "more": data + b"\0"}[harm])
    assert prefills.find("damaged") is None
    assert prefills.find("whole")
    assert names(tmp_path) == ["whole"]
    assert caplog.messages == ["dropped a saved prefill: it is damaged"]


def test_the_checksum_in_the_name_is_that_of_other_programs(tmp_path: Path) -> None:
    prefills = Prefills(tmp_path)
    prefills.save("a", lambda path: path.write_bytes(b"123456789"))
    # The check value of CRC-32 in every catalogue of such sums.
    assert [path.name for path in tmp_path.iterdir()] == ["a.cbf43926"]


def test_one_that_a_kill_left_beside_its_successor_goes_with_the_next(tmp_path: Path) -> None:
    prefills = Prefills(tmp_path)
    prefills.save("a", lambda path: path.write_text("old"))
    (old,) = tmp_path.iterdir()
    prefills.save("a", lambda path: path.write_text("new"))
    old.write_text("old")
    prefills.save("a", lambda path: path.write_text("newest"))
    found = prefills.find("a")
    assert found is not None
    assert [path.name for path in tmp_path.iterdir()] == [found.name]
    assert found.read_text() == "newest"


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_one_is_readable_by_its_user_alone(tmp_path: Path, umask: int) -> None:
    """What an engine puts in place of the file too, as the one of ONNX does."""
    np = pytest.importorskip("numpy")
    from pitool.engine.onnx import kv_cache

    before = os.umask(umask)
    try:
        prefills = Prefills(tmp_path / "p")
        prefills.save("plain", lambda path: path.write_bytes(b"x"))
        prefills.save("onnx", lambda path: kv_cache.write(path, "m", [1], [np.ones((1, 1, 1, 1))]))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "p").stat().st_mode) == 0o700
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "p").iterdir()}
    assert modes == {0o600}
    assert names(tmp_path / "p") == ["onnx", "plain"]


def test_a_failure_leaves_the_old_one(tmp_path: Path) -> None:
    prefills = Prefills(tmp_path)
    prefills.save("a", lambda path: path.write_text("whole"))

    def half(path: Path) -> None:
        path.write_text("ha")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        prefills.save("a", half)
    assert [(p.stem, p.read_text()) for p in tmp_path.iterdir()] == [("a", "whole")]


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
