"""pack: what of a bundle goes into the archive, and what is refused before it is written."""

from __future__ import annotations

import dataclasses
import json
import os
import tarfile
import threading
from pathlib import Path
from typing import IO

import pytest

from pitool.catalog import cache, manifest
from pitool.catalog.boards import boards
from pitool.catalog.bundles import Bundle
from pitool.catalog.manifest import Artifact, Manifest, MemoryLine, Source
from pitool.deploy import archive, pack, wheel
from pitool.errors import DoesNotFit, MissingPart, PitoolError, UsageError
from tests.cli.conftest import Pitool, pitool  # noqa: F401 - a fixture
from tests.deploy import archives

GIB = 2**30
SIZES = {"F16": 20 * GIB, "Q8_0": 3 * GIB, "Q4_0": 300 * 2**20}  # bytes of memory that each needs


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    folder = tmp_path / "bundles" / "mine"
    folder.mkdir(parents=True)
    artifacts = []
    for name, needed in SIZES.items():
        (folder / f"{name}.gguf").write_bytes(name.encode())
        entry = manifest.file_entry(folder / f"{name}.gguf", folder)
        lines = (MemoryLine("weights", needed),)
        artifacts.append(Artifact("gguf", name, (entry,), "llama", 10, 512, 4.5, lines, ()))
    created = "2026-11-01T00:00:00Z"
    made = Manifest("m", Source("m", None, ()), "8gb", None, created, {}, tuple(artifacts))
    manifest.write(folder, made)
    return Bundle(folder, made)


def packed(bundle: Bundle, board: str, *names: str) -> tuple[pack.Packed, list[str]]:
    """Pack the model alone; return the artifacts that the archive's own manifest names."""
    target = bundle.path.parent / f"{board}.pi"
    made = pack.pack(bundle, board, boards()[board], target, runtime=False, quantisations=names)
    with tarfile.open(target) as tar:
        stored = tar.getnames()
        file = tar.extractfile("bundles/mine/manifest.json")
        assert file
        kinds = [artifact["quantisation"] for artifact in json.load(file)["artifacts"]]
    files = [f"bundles/mine/{kind}.gguf" for kind in kinds]
    assert sorted(stored) == sorted([*files, "bundles/mine/manifest.json", "pi.json"])
    return made, kinds


@pytest.mark.parametrize(
    ("board", "kinds"),
    [("zero2w", ["Q4_0"]), ("pi4b", ["Q8_0", "Q4_0"]), ("pi500", ["Q8_0", "Q4_0"])],
)
def test_what_fits_the_board_is_packed(bundle: Bundle, board: str, kinds: list[str]) -> None:
    made, found = packed(bundle, board)
    assert found == kinds
    contents = archive.check(made.path)
    assert (contents.board, contents.memory) == (board, SIZES["Q4_0"])
    assert made.bytes == made.path.stat().st_size
    assert (made.runtime_bytes, made.model_bytes) == (0, contents.bytes)


def test_one_artifact_by_its_name(bundle: Bundle) -> None:
    assert packed(bundle, "pi4b", "q8_0")[1] == ["Q8_0"]
    with pytest.raises(UsageError, match="Q4_0"):
        packed(bundle, "pi4b", "Q4_1")
    with pytest.raises(DoesNotFit):
        packed(bundle, "pi4b", "F16")


def test_a_bundle_too_large_for_the_board(bundle: Bundle) -> None:
    only = dataclasses.replace(bundle.manifest, artifacts=bundle.manifest.artifacts[:1])
    with pytest.raises(DoesNotFit, match="smaller --ram"):
        packed(Bundle(bundle.path, only), "zero2w")


def test_a_damaged_bundle_is_not_packed(bundle: Bundle) -> None:
    (bundle.path / "Q4_0.gguf").write_bytes(b"Q4_1")
    with pytest.raises(PitoolError, match="missing or damaged"):
        packed(bundle, "pi4b")
    assert [path.name for path in bundle.path.parent.iterdir()] == ["mine"]


def test_a_disk_that_fills_up_leaves_nothing(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: IO[bytes], *_: object) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archive, "write", full)
    with pytest.raises(DoesNotFit, match="No space left"):
        packed(bundle, "pi4b")
    assert [path.name for path in bundle.path.parent.iterdir()] == ["mine"]


def test_a_pipe_takes_an_archive(bundle: Bundle, tmp_path: Path) -> None:
    made, _ = packed(bundle, "pi4b")
    os.mkfifo(tmp_path / "pipe")
    heard: list[bytes] = []
    reader = threading.Thread(target=lambda: heard.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    pack.pack(bundle, "pi4b", boards()["pi4b"], tmp_path / "pipe", runtime=False)
    reader.join()
    assert heard == [made.path.read_bytes()]


def test_what_a_killed_run_left_is_removed(bundle: Bundle, private_home: Path) -> None:
    left = cache.folder("tmp") / ".pack.0123abcd.partial"
    left.mkdir()
    (left / "half.whl").touch()
    packed(bundle, "pi4b")
    assert not list(cache.folder("tmp").iterdir())


def test_downloads_are_there_whole_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    left = cache.folder("board-packages") / ".3.11-x.0123abcd.partial"
    left.mkdir()
    kept = cache.folder("board-packages") / "3.11-x"
    orders: list[tuple[str, ...]] = []

    def pip(_download: str, _d: str, folder: str, *words: str) -> None:
        Path(folder).mkdir(exist_ok=True)
        (Path(folder) / f"{words[0]}.whl").touch()
        orders.append(words)
        if words == ("fails",):
            raise MissingPart("pip download failed", "check the network")

    monkeypatch.setattr(wheel, "pip", pip)
    with pytest.raises(MissingPart):
        wheel.download(kept, [("one",), ("fails",)])
    assert not list(kept.parent.iterdir())
    wheel.download(kept, [("one",), ("two",)])
    assert sorted(path.name for path in kept.iterdir()) == ["one.whl", "two.whl"]
    assert list(kept.parent.iterdir()) == [kept]


def test_a_runtime_holds_all_that_its_installer_needs(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    llama, pip = archives.llama(tmp_path), archives.pip_wheel()
    built = wheel.Wheel(llama, 1, "", "gcc", cached=True)
    monkeypatch.setattr(wheel, "build", lambda _: built)
    monkeypatch.setattr(pack, "download", lambda _: [pip])
    made = pack.pack(None, "pi5", boards()["pi5"], tmp_path / "runtime.pi")
    contents = archive.check(made.path)
    assert contents.bundles == ()
    assert list(contents.pythons) == list(pack.PYTHONS)
    for wheels in contents.pythons.values():
        assert sorted(Path(name).name.partition("-")[0] for name in wheels) == [
            "llama_cpp_python",
            "pitool",
        ]
    names = {entry.path for entry in contents.files}
    assert {"install.sh", "pitool", f"wheels/{pip.name}"} <= names


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--board", "pi5", "--runtime-only"], 2, "cannot be combined with a bundle"),
        (["--board", "pi6"], 2, "did you mean"),
        ([], 2, "--board is required"),
        (["--board", "pi5", "-o", "/nowhere/at/all.pi"], 2, "/nowhere/at is not a folder"),
        (["--board", "pi5", "-o", "/proc/all.pi"], 1, "cannot write"),
    ],
)
def test_what_cannot_be_packed(
    bundle: Bundle,
    pitool: Pitool,  # noqa: F811
    words: list[str],
    code: int,
    said: str,
) -> None:
    done = pitool("pack", bundle.path, "--model-only", *words)
    assert done.code == code
    assert said in done.sentence
