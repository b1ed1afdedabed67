"""``pitool list``, ``show`` and ``rm`` on bundles in a folder of their own."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pitool.catalog import manifest
from pitool.catalog.manifest import Artifact, Manifest, MemoryLine, Source
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


def test_rm_asks_and_keeps_without_a_yes(bundles: Path) -> None:
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
