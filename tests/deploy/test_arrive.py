"""On the board: releases that are whole, one switch, and a way back."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pitool.catalog import bundles
from pitool.catalog.bundles import Bundle
from pitool.catalog.manifest import Artifact, FileEntry, Manifest, Source
from pitool.deploy import archive, arrive
from pitool.errors import BadInput, MissingPart, PitoolError
from tests.deploy import archives

ARTIFACTS = (
    Artifact("gguf", "Q4_0", (FileEntry("a.gguf", 1, ""),), "llama", 10, 512, 4.5, (), ()),
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "home"
    path.mkdir()
    monkeypatch.setenv("HOME", str(path))
    monkeypatch.delenv("PITOOL_HOME", raising=False)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    return path


def installed(tmp_path: Path, name: str, model: bytes, runtime: bool = True) -> str:
    archives.make(tmp_path / f"{name}.pi", model, runtime=runtime)
    archive.unpack(tmp_path / f"{name}.pi", tmp_path / name)
    return arrive.install(tmp_path / name)


def model(home: Path) -> bytes:
    return (home / ".local/share/pitool/bundles/tiny/a.gguf").read_bytes()


@pytest.mark.thorough
def test_install_switch_rollback_and_uninstall(tmp_path: Path, home: Path) -> None:
    top, launcher = home / ".local/share/pitool", home / ".local/bin/pitool"
    first = installed(tmp_path, "first", b"one")
    code = "import pitool; print(pitool.__file__)"
    python = top / "current/runtime/bin/python"
    said = subprocess.run(
        [python, "-I", "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert Path(said.strip()).is_relative_to(top)
    assert str(top) in launcher.read_text()
    assert model(home) == b"one"

    second = installed(tmp_path, "second", b"two", runtime=False)  # the runtime stays in use
    assert second != first
    assert model(home) == b"two"
    assert (top / "current/runtime").resolve() == (top / "releases" / first / "runtime").resolve()

    assert arrive.rollback() == first
    assert model(home) == b"one"
    assert arrive.rollback() == second

    installed(tmp_path, "third", b"three", runtime=False)
    assert len(list((top / "releases").iterdir())) == arrive.KEEP
    assert sorted(p.name[:5] for p in (top / "store").iterdir()) == ["tiny-"] * arrive.KEEP
    assert arrive.rollback() == second  # the first was the oldest

    arrive.uninstall()
    assert not launcher.exists()
    assert not (top / "runtimes").exists()
    assert model(home) == b"two"  # a model is the user's
    arrive.uninstall(models=True)
    assert not list((top / "bundles").iterdir())
    assert not (top / "store").exists()


@pytest.mark.thorough
def test_a_bundle_that_uninstall_kept_outlives_the_next_install(tmp_path: Path, home: Path) -> None:
    installed(tmp_path, "first", b"one")
    (home / ".local/share/pitool/bundles/tiny").rename(home / ".local/share/pitool/bundles/kept")
    arrive.uninstall()
    installed(tmp_path, "second", b"two")
    assert model(home) == b"two"
    assert (home / ".local/share/pitool/bundles/kept/a.gguf").read_bytes() == b"one"


@pytest.mark.thorough
def test_a_pushed_bundle_is_deleted_from_every_release(tmp_path: Path, home: Path) -> None:
    top = home / ".local/share/pitool"
    for name, weights in (("first", b"one"), ("second", b"two")):
        installed(tmp_path, name, weights)
    other = top / "store" / "tiny-1gb-0123456789ab"
    other.mkdir()
    known = Manifest("tiny", Source("tiny", None, ()), "1gb", None, "2026-11-01", {}, ARTIFACTS)
    bundles.delete(Bundle(top / "bundles/tiny", known))
    assert list((top / "store").iterdir()) == [other]
    assert not list(top.glob("bundles/*"))
    assert not list(top.glob("releases/*/bundles/*"))
    arrive.rollback()
    assert installed(tmp_path, "third", b"three")
    assert model(home) == b"three"


def test_a_running_service_takes_what_is_new(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tools, said = tmp_path / "tools", tmp_path / "said"
    tools.mkdir()
    systemctl = tools / "systemctl"
    systemctl.write_text(
        f'#!/bin/sh\necho "$* $(readlink {home}/.local/share/pitool/current)" >>{said}\n'
    )
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", str(tools), prepend=os.pathsep)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    installed(tmp_path, "first", b"one")
    assert not said.exists()  # there is no service

    unit = home / ".config/systemd/user/pitool.service"
    unit.parent.mkdir(parents=True)
    unit.touch()
    second = installed(tmp_path, "second", b"two")
    first = arrive.rollback()
    assert said.read_text().splitlines() == [
        f"--user try-restart pitool.service releases/{name}" for name in (second, first)
    ]
    systemctl.write_text("#!/bin/sh\nexit 1\n")
    assert arrive.rollback() == second
    assert "restart the service" in capsys.readouterr().err


def test_a_failed_install_leaves_the_old_release(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = installed(tmp_path, "first", b"one")
    for harm in ("_store", "_switch"):
        with monkeypatch.context() as patch:
            patch.setattr(arrive, harm, fails)
            with pytest.raises(OSError, match="No space"):
                installed(tmp_path, harm, harm.encode(), runtime=False)
        assert (home / ".local/share/pitool/current").resolve().name == first
        assert model(home) == b"one"


def fails(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_damaged_folder_installs_nothing(tmp_path: Path, home: Path) -> None:
    archives.make(tmp_path / "a.pi")
    archive.unpack(tmp_path / "a.pi", tmp_path / "a")
    (tmp_path / "a/bundles/tiny/a.gguf").write_bytes(b"other")
    with pytest.raises(BadInput, match="missing or damaged"):
        arrive.install(tmp_path / "a")
    assert not (home / ".local").exists()


def test_what_is_missing_is_named(tmp_path: Path, home: Path) -> None:
    with pytest.raises(MissingPart, match="no runtime"):
        installed(tmp_path, "model", b"m", runtime=False)
    archives.make(tmp_path / "old.pi", python="3.9")
    archive.unpack(tmp_path / "old.pi", tmp_path / "old")
    with pytest.raises(MissingPart, match=r"archive is for 3\.9"):
        arrive.install(tmp_path / "old")
    with pytest.raises(BadInput, match="no earlier release"):
        arrive.rollback()


def test_a_runtime_that_does_not_start_is_not_used(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrive, "SMOKE", "raise SystemExit('SIGILL')")
    with pytest.raises(PitoolError, match="SIGILL"):
        installed(tmp_path, "first", b"one")
    assert not (home / ".local/share/pitool/current").exists()


def test_one_sentence_and_an_exit_code(
    tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert arrive.main(["rollback"]) == 4
    assert arrive.main(["install", str(tmp_path / "none")]) == 4
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert all(line.startswith("pitool: ") for line in said)


def test_all_is_on_the_disk_before_the_switch(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut after the switch finds the release, its runtime and its bundle whole."""
    top, synced, switched = home / ".local/share/pitool", set[Path](), list[Path]()
    fsync, link = os.fsync, arrive._link

    def on_sync(descriptor: int) -> None:
        synced.add(Path(f"/proc/self/fd/{descriptor}").readlink())
        fsync(descriptor)

    def on_link(path: Path, target: Path) -> None:
        if path.name == "current":
            switched.append(target)
            seen = {path.name for path in synced}
            assert {"a.gguf", "manifest.json", "errors.py", "launcher", archive.MANIFEST} <= seen
            assert {top / "store", top / "runtimes", top / "releases"} <= synced
        link(path, target)

    if not Path("/proc/self/fd").exists():
        pytest.skip("descriptors have no names here")
    monkeypatch.setattr(os, "fsync", on_sync)
    monkeypatch.setattr(arrive, "_link", on_link)
    installed(tmp_path, "first", b"one")
    assert len(switched) == 1


def test_what_a_killed_installation_left_is_removed(tmp_path: Path, home: Path) -> None:
    top = home / ".local/share/pitool"
    for name in ("releases/.0123.partial", "store/.other-0123.partial", "runtimes/0123"):
        (top / name).mkdir(parents=True)
        (top / name / "half").touch()
    installed(tmp_path, "first", b"one")
    assert not list(top.rglob("half"))


def test_an_archive_without_pip_is_told_in_a_sentence(
    tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archives.make(tmp_path / "a.pi")
    archive.unpack(tmp_path / "a.pi", tmp_path / "a")
    (pip,) = (tmp_path / "a/wheels").glob("pip-*")
    known = json.loads((tmp_path / "a/pi.json").read_text())
    known["files"] = [file for file in known["files"] if "pip-" not in file["path"]]
    (tmp_path / "a/pi.json").write_text(json.dumps(known))
    pip.unlink()
    assert arrive.main(["install", str(tmp_path / "a")]) == 4
    assert "contains no pip" in capsys.readouterr().err


def test_a_release_in_use_is_never_taken_away(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut in the middle of a second install of the same archive leaves what runs."""
    release = installed(tmp_path, "first", b"one")
    top = home / ".local/share/pitool"
    removed: list[Path] = []
    remove = shutil.rmtree

    def note(path: Path, **options: Any) -> None:
        removed.append(Path(path))
        remove(path, **options)

    monkeypatch.setattr(shutil, "rmtree", note)
    assert arrive.install(tmp_path / "first") == release
    assert top / "releases" / release not in removed
    assert model(home) == b"one"
