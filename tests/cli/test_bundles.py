"""``pitool list``, ``show`` and ``rm`` on bundles in a folder of their own."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pitool.catalog import manifest
from pitool.catalog.manifest import Artifact, Manifest, MemoryLine, Source, Speed
from pitool.cli.commands import cli
from pitool.errors import BadInput, UsageError


def pitool(*words: str | Path, answer: str | None = None) -> Result:
    return CliRunner().invoke(cli, [*map(str, words)], standalone_mode=False, input=answer)


@pytest.fixture
def bundles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PITOOL_HOME", str(tmp_path))
    for name, day in (("old", 1), ("new", 2)):
        folder = tmp_path / "bundles" / name
        folder.mkdir(parents=True)
        (folder / "m.gguf").write_bytes(b"x" * 1000)
        entry = manifest.file_entry(folder / "m.gguf", folder)
        lines = (MemoryLine("weights", 1000),)
        artifact = Artifact("gguf", "Q4_0", (entry,), "llama", 10, 512, 4.5, lines, ())
        created = f"2026-11-0{day}T00:00:00Z"
        made = Manifest(name, Source(name, None, ()), "1gb", None, created, {}, (artifact,))
        manifest.write(folder, made)
    return tmp_path / "bundles"


def test_the_newest_comes_first_and_a_broken_one_is_named(bundles: Path) -> None:
    (bundles / "broken").mkdir()
    done = pitool("list")
    head, _rule, *rows = [line.split()[0] for line in done.stdout.splitlines()]
    assert [head, *rows] == ["bundle", "new", "old"]
    assert "broken" in done.stderr
    document = json.loads(pitool("list", "--json").stdout)
    assert [b["name"] for b in document["bundles"]] == ["new", "old"]
    assert len(document["broken"]) == 1


def test_nothing_there_says_how_to_make_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PITOOL_HOME", str(tmp_path))
    done = pitool("list")
    assert (done.stdout, done.exception) == ("", None)
    assert "pitool convert" in done.stderr


@pytest.mark.usefixtures("bundles")
def test_show_names_the_newest_or_another() -> None:
    assert re.search(r"^gguf [A-Z]", pitool("show", "old").stdout, re.MULTILINE)
    document = json.loads(pitool("show", "--json").stdout)
    assert document["manifest"]["name"] == "new"
    assert isinstance(pitool("show", "nwe").exception, BadInput)


def test_rm_asks_and_keeps_without_a_yes(bundles: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = pitool("rm", "old", answer="y\n")
    assert isinstance(refused.exception, UsageError)
    assert "use --yes" in refused.exception.sentence
    assert (bundles / "old").is_dir()
    monkeypatch.setattr("pitool.cli.rm.can_answer", lambda: True)
    pitool("rm", "old", answer="n\n")
    assert (bundles / "old").is_dir()
    pitool("rm", "old", answer="y\n")
    assert [path.name for path in bundles.iterdir()] == ["new"]


def test_a_typing_error_in_the_last_name_deletes_nothing(bundles: Path) -> None:
    done = pitool("rm", "--yes", "old", "nwe")
    assert isinstance(done.exception, BadInput)
    assert (bundles / "old").is_dir()


def test_only_bundles_are_deleted(bundles: Path, tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    assert isinstance(pitool("rm", "--yes", tmp_path / "letters").exception, BadInput)
    (bundles / "link").symlink_to(bundles / "old")
    assert isinstance(pitool("rm", "--yes", "link").exception, UsageError)
    assert (bundles / "old" / "m.gguf").is_file()


def test_rename_changes_the_folder_and_the_name(bundles: Path) -> None:
    assert pitool("rename", "old", "little").exception is None
    assert sorted(path.name for path in bundles.iterdir()) == ["little", "new"]
    assert manifest.read(bundles / "little").name == "little"
    assert pitool("show", "little").exception is None


@pytest.mark.parametrize("name", ["new", "", ".", "..", "a/b", ".hidden", "a\nb"])
def test_what_is_taken_or_no_name_renames_nothing(bundles: Path, name: str) -> None:
    done = pitool("rename", "old", name)
    assert isinstance(done.exception, UsageError)
    assert sorted(path.name for path in bundles.iterdir()) == ["new", "old"]


def test_a_link_is_not_renamed(bundles: Path) -> None:
    (bundles / "link").symlink_to(bundles / "old")
    assert isinstance(pitool("rename", "link", "other").exception, UsageError)
    assert (bundles / "link").is_symlink()


def test_list_is_sorted_by_what_fits_and_by_speed(bundles: Path) -> None:
    for name, size, rate in (("old", 10, 9.0), ("new", 2000, 3.0), ("third", 10**15, 30.0)):
        folder = bundles / name
        folder.mkdir(exist_ok=True)
        (folder / "m.gguf").write_bytes(b"x")
        made = Manifest(
            name, Source(name, None, ()), "1gb", None, "2026-11-01T00:00:00Z", {},
            (Artifact("gguf", "Q4_0", (manifest.file_entry(folder / "m.gguf", folder),), "llama",
                      10, 512, 4.5, (MemoryLine("weights", size),), (Speed("pi5", 50.0, rate),)),),
        )  # fmt: skip
        manifest.write(folder, made)

    def listed(order: str) -> list[str]:
        lines = pitool("list", "--sort", order).stdout.splitlines()
        return [line.split()[0] for line in lines[2:5]]

    assert listed("fit") == ["old", "new", "third"]
    # No speed counts of what does not fit.
    assert listed("speed") == ["old", "new", "third"]
    text = pitool("list").stdout
    (third,) = [line for line in text.splitlines() if line.startswith("third")]
    assert "30" not in third.split("does not fit")[0].split("512")[1]
    assert "t/s: predicted decode" in text
