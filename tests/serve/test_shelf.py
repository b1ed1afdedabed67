"""Which models are served, by which names."""

from __future__ import annotations

from pathlib import Path

import pytest

from pitool.catalog import manifest
from pitool.catalog.bundles import Runnable
from pitool.catalog.manifest import Artifact, FileEntry, Manifest, MemoryLine, Source
from pitool.errors import BadInput
from pitool.serve.failures import NoSuchModel
from pitool.serve.shelf import AllBundles, OneModel


def bundle(folder: Path, name: str, created: str, *quantisations: str) -> Path:
    """Write a bundle whose artifacts are files of four bytes."""
    folder.mkdir(parents=True)
    artifacts = []
    for quantisation in quantisations:
        (folder / f"{quantisation}.gguf").write_bytes(b"GGUF")
        entry = FileEntry(f"{quantisation}.gguf", 4, "0" * 64)
        memory = (MemoryLine("weights", 4),)
        artifacts.append(
            Artifact("gguf", quantisation, (entry,), "llama", 10**6, 512, 8.0, memory, ())
        )
    source = Source("x/y", None, ())
    manifest.write(folder, Manifest(name, source, "1gb", None, created, {}, tuple(artifacts)))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    bundle(tmp_path / "old-1gb", "Old", "2026-01-01T00:00:00+00:00", "Q8_0")
    bundle(tmp_path / "new-1gb", "New", "2026-02-01T00:00:00+00:00", "Q4_K_M", "F16")
    return tmp_path


def test_all_bundles_the_newest_first(folder: Path) -> None:
    offers = AllBundles(folder).offers()
    assert [offer.id for offer in offers] == ["new-1gb", "new-1gb:F16", "old-1gb"]
    assert [offer.tag for offer in offers] == ["new-1gb:Q4_K_M", "new-1gb:F16", "old-1gb:Q8_0"]
    assert offers[0].created == 1769904000


NAMES = {
    "new-1gb": "Q4_K_M", "new-1gb:Q4_K_M": "Q4_K_M", "NEW-1GB:q4_k_m": "Q4_K_M", "New": "Q4_K_M",
    "new-1gb:latest": "Q4_K_M", "new:f16": "F16", "new-1gb:F16": "F16", "new-1gb-F16": "F16",
    "old-1gb": "Q8_0", "Old:Q8_0": "Q8_0",
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_the_names_of_a_model(folder: Path, name: str) -> None:
    runnable = AllBundles(folder).find(name).open()
    assert runnable.quantisation == NAMES[name]
    assert runnable.entry.is_file()


def test_the_first_is_taken_where_none_is_named(folder: Path) -> None:
    assert AllBundles(folder).find(None).id == "new-1gb"
    assert AllBundles(folder).find("").id == "new-1gb"


def test_an_unknown_name_gets_the_nearest(folder: Path) -> None:
    with pytest.raises(NoSuchModel, match="did you mean 'new-1gb'"):
        AllBundles(folder).find("new-2gb")
    with pytest.raises(NoSuchModel, match="no bundle"):
        AllBundles(folder / "none").find(None)


def test_bundles_come_and_go(folder: Path) -> None:
    shelf = AllBundles(folder)
    assert len(shelf.offers()) == 3
    bundle(folder / "third", "Third", "2026-03-01T00:00:00+00:00", "Q4_0")
    assert shelf.find("third").quantisation == "Q4_0"
    (folder / "third" / "Q4_0.gguf").unlink()
    with pytest.raises(BadInput, match="is missing"):
        shelf.find("third").open()


def test_one_model_has_every_name(folder: Path) -> None:
    entry = folder / "new-1gb" / "F16.gguf"
    artifact = manifest.read(folder / "new-1gb").artifacts[1]
    shelf = OneModel(Runnable("New", "gguf", "F16", entry, 4, 512, artifact))
    (offer,) = shelf.offers()
    assert (offer.id, offer.tag) == ("new-1gb:F16", "new-1gb:F16")
    assert shelf.find("gpt-4o") is shelf.find(None) is offer
    loose = folder / "loose.gguf"
    loose.write_bytes(b"GGUF")
    (offer,) = OneModel(Runnable("Loose", "gguf", "Q8_0", loose, 4, 512)).offers()
    assert (offer.id, offer.tag) == ("Loose", "Loose:Q8_0")
