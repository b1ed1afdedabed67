"""A bundle appears at once or not at all, whatever was there and whatever happens."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pitool.catalog import staging
from pitool.catalog.staging import SPARE_BYTES, Staging, check_disk, check_target
from pitool.errors import DoesNotFit, PitoolError, UsageError
from tests.convert.helpers import names


def bundle(path: Path, text: str = "old") -> Path:
    """Write what counts as a bundle."""
    path.mkdir(parents=True)
    (path / "manifest.json").write_text(text)
    (path / f"{text}.gguf").write_text(text)
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "bundles" / "b"


# In the name of what a killed conversion left.
DEAD = "0123abcd"


def fill(folder: Path, text: str = "new") -> None:
    (folder / "manifest.json").write_text(text)
    (folder / f"{text}.gguf").write_text(text)


def test_it_appears_under_its_name_and_nothing_else_stays(target: Path) -> None:
    with Staging(target, replace=False) as stage:
        fill(stage.folder)
        assert not target.exists()
        assert stage.folder.parent == target.parent
        stage.publish()
    assert names(target) == {"manifest.json", "new.gguf"}
    assert names(target.parent) == {"b"}


def test_without_publishing_nothing_stays(target: Path) -> None:
    with Staging(target, replace=False) as stage:
        fill(stage.folder)
    assert names(target.parent) == set()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_nothing(target: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), Staging(target, replace=False) as stage:
        fill(stage.folder)
        raise error
    assert names(target.parent) == set()


def test_replacing(target: Path) -> None:
    bundle(target)
    with Staging(target, replace=True) as stage:
        fill(stage.folder)
        assert (target / "manifest.json").read_text() == "old"
        stage.publish()
    assert names(target) == {"manifest.json", "new.gguf"}
    assert names(target.parent) == {"b"}


def test_an_error_while_replacing_leaves_the_old(target: Path) -> None:
    bundle(target)
    with pytest.raises(RuntimeError), Staging(target, replace=True) as stage:
        fill(stage.folder)
        raise RuntimeError
    assert names(target) == {"manifest.json", "old.gguf"}
    assert names(target.parent) == {"b"}


def test_a_switch_that_fails_brings_the_old_back(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle(target)
    rename = Path.rename

    def refuse(path: Path, to: Path) -> Path:
        if path.name.endswith(".partial"):
            raise OSError(5, "Input/output error")
        return rename(path, to)

    with pytest.raises(OSError, match="Input/output"), Staging(target, replace=True) as stage:
        fill(stage.folder)
        monkeypatch.setattr(Path, "rename", refuse)
        stage.publish()
    assert names(target) == {"manifest.json", "old.gguf"}
    assert names(target.parent) == {"b"}


def test_files_are_flushed_before_the_switch(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[str] = []

    def sync(path: Path) -> None:
        flushed.append(path.name)
        assert target.exists() == (path == target.parent)

    monkeypatch.setattr(staging, "sync", sync)
    monkeypatch.setattr("pitool.catalog.files.sync", sync)
    with Staging(target, replace=False) as stage:
        fill(stage.folder)
        stage.publish()
    assert set(flushed[:2]) == {"manifest.json", "new.gguf"}
    assert flushed[2:] == [stage.folder.name, "bundles"]


# -- what is there already -----------------------------------------------------------------


@pytest.mark.parametrize("replace", [False, True])
def test_a_folder_that_is_no_bundle_is_never_replaced(target: Path, replace: bool) -> None:
    target.mkdir(parents=True)
    (target / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="exists and is not a bundle: choose another --out"):
        check_target(target, replace=replace)
    with pytest.raises(UsageError), Staging(target, replace=replace):
        pytest.fail("it was entered")  # pragma: no cover
    assert names(target) == {"thesis.tex"}
    assert names(target.parent) == {"b"}


@pytest.mark.parametrize("replace", [False, True])
def test_a_file_is_never_replaced(target: Path, replace: bool) -> None:
    target.parent.mkdir()
    target.write_text("x")
    with pytest.raises(UsageError, match="exists and is not a bundle"):
        check_target(target, replace=replace)


def test_a_bundle_is_replaced_only_when_told(target: Path) -> None:
    bundle(target)
    check_target(target, replace=True)
    with pytest.raises(UsageError, match="already exists: use --force to replace it"):
        check_target(target, replace=False)


def test_an_empty_folder_is_taken(target: Path) -> None:
    target.mkdir(parents=True)
    with Staging(target, replace=False) as stage:
        fill(stage.folder)
        stage.publish()
    assert names(target) == {"manifest.json", "new.gguf"}
    assert names(target.parent) == {"b"}


def test_what_appears_meanwhile_is_not_replaced(target: Path) -> None:
    with pytest.raises(UsageError, match="already exists"), Staging(target, replace=False) as stage:
        fill(stage.folder)
        bundle(target, "other")
        stage.publish()
    assert names(target) == {"manifest.json", "other.gguf"}
    assert names(target.parent) == {"b"}


@pytest.mark.parametrize("out", ["/", ".", ".."])
def test_folders_without_a_name_of_their_own(
    out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "x").write_text("")
    (tmp_path / "a" / "b" / "x").write_text("")
    monkeypatch.chdir(tmp_path / "a" / "b")
    with pytest.raises(UsageError, match="exists and is not a bundle"):
        check_target(Path(out), replace=True)


# -- leftovers of killed conversions -------------------------------------------------------


def enter(target: Path) -> set[str]:
    """Enter and leave without publishing; return what is beside the target then."""
    with Staging(target, replace=True):
        pass
    return names(target.parent)


@pytest.mark.parametrize("name", ["b", "c", "bb", "b.v2", "model[1]*"])
def test_the_folders_of_killed_conversions_are_removed(target: Path, name: str) -> None:
    fill_me = target.parent / f".{name}.{DEAD}.partial"
    fill_me.mkdir(parents=True)
    (fill_me / "m.gguf").write_text("half")
    assert enter(target) == set()


def test_the_folders_of_conversions_that_run_stay(target: Path) -> None:
    with Staging(target, replace=True) as other:
        assert enter(target) == {other.folder.name}


def test_the_folders_of_other_conversions_that_run_stay(target: Path) -> None:
    with Staging(target.with_name("c"), replace=True) as other:
        assert enter(target) == {other.folder.name}


def test_a_bundle_that_another_conversion_moved_aside_stays(target: Path) -> None:
    """``b`` is not ``b.v2``, though the one's pattern could match the other's folder."""
    moved = {f".b.v2.{DEAD}.old", f".c.{DEAD}.old"}
    for name in moved:
        (target.parent / name).mkdir(parents=True)
    assert enter(target) == moved


def test_names_with_signs_of_patterns(tmp_path: Path) -> None:
    target = tmp_path / "bundles" / "model[1]*"
    bundle(target.parent / f".model[1]*.{DEAD}.old")
    (target.parent / f".model1-x.{DEAD}.old").mkdir()
    assert enter(target) == {"model[1]*", f".model1-x.{DEAD}.old"}


def test_a_bundle_that_was_moved_aside_comes_back(target: Path) -> None:
    bundle(target.parent / f".b.{DEAD}.old")
    assert enter(target) == {"b"}
    assert names(target) == {"manifest.json", "old.gguf"}


def test_a_replaced_bundle_is_removed(target: Path) -> None:
    bundle(target, "new")
    bundle(target.parent / f".b.{DEAD}.old")
    assert enter(target) == {"b"}
    assert names(target) == {"manifest.json", "new.gguf"}


@pytest.mark.parametrize(
    "name", [".b.text.partial", ".b.-1.partial", ".b.0.partial", "b.0123abcd.partial"]
)
def test_what_nobody_of_ours_made_stays(target: Path, name: str) -> None:
    (target.parent / name).mkdir(parents=True)
    assert enter(target) == {name}


# -- disk ----------------------------------------------------------------------------------


def test_a_disk_that_is_too_small(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 1_000_000_000})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    check_disk([(target.parent, 1_000_000_000 - SPARE_BYTES)])
    with pytest.raises(
        DoesNotFit, match=r"2\.03 GB of disk space are needed, and .* has 1\.00 GB free: free"
    ):
        check_disk([(target.parent, 1_000_000_000), (target, 1_000_000_000)])


def test_the_disk_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    check_disk([(tmp_path / "a" / "b" / "c", 1)])


def test_a_place_where_nothing_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PitoolError, match="cannot write to"):
        Staging(tmp_path / "file" / "b", replace=False).__enter__()


def test_a_name_that_no_folder_can_have(tmp_path: Path) -> None:
    target = tmp_path / ("x" * 300)
    check_target(target, replace=False)
    with pytest.raises(PitoolError, match=r"cannot write to .* .File name too long."):
        Staging(target, replace=False).__enter__()


def test_a_folder_that_may_not_be_written(tmp_path: Path, as_user: None) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(PitoolError, match=r"cannot be written .Permission denied."):
        Staging(tmp_path / "b", replace=False).__enter__()
