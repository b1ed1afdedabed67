"""The commands that are killed: what each needs, and what must hold whenever it was killed.

To add a command: one row in ``COMMANDS``.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pitool.catalog import bundles, integrity, manifest
from pitool.catalog.gguf import read_header
from pitool.catalog.manifest import Artifact, Manifest, MemoryLine, Source
from pitool.deploy import archive
from tests.tiny import write_checkpoint


@dataclass(frozen=True, slots=True)
class Command:
    """``words``: a module and its arguments; ``check`` holds after each kill.

    ``typed``: what is written into its terminal again and again; nothing for no terminal.
    """

    prepare: Callable[[Path], None]
    words: Callable[[Path], Sequence[str]]
    check: Callable[[Path], None]
    typed: bytes = b""


def home(folder: Path) -> Path:
    """Return the ``PITOOL_HOME`` of a command's folder."""
    return folder / "home"


def scripted(folder: Path) -> Path:
    """Write a bundle whose model is a script, and return its folder."""
    place = home(folder) / "bundles" / "toy"
    place.mkdir(parents=True)
    (place / "script.json").write_text(json.dumps({"answers": ["one two three four " * 8]}))
    artifact = Artifact(
        "script", "Q4_0", (manifest.file_entry(place / "script.json", place),), "script", 1000,
        512, 4.5, (MemoryLine("weights", 4096), MemoryLine("KV cache", 1024)), (),
    )  # fmt: skip
    manifest.write(
        place, Manifest("toy", Source("toy", None, ()), "1gb", None, "2026", {}, (artifact,))
    )
    return place


def hidden(folder: Path) -> list[Path]:
    """Return what lies in a folder under the names of unfinished things."""
    return [p for p in folder.rglob("*") if p.name.startswith(".") or p.suffix == ".partial"]


def left(folder: Path) -> list[Path]:
    """Return what a run that ended well has no business to leave anywhere below its folder."""
    usual = {folder / ".local", folder / ".cache", folder / ".config"}
    return [*(set(hidden(folder)) - usual), *temporary(folder).iterdir()]


def temporary(folder: Path) -> Path:
    """Return the ``TMPDIR`` of a command's folder."""
    return folder / "tmp"


# -- convert -----------------------------------------------------------------------------------


def _checkpoint(folder: Path) -> None:
    sizes: dict[str, Any] = {
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "vocab_size": 300,
    }
    write_checkpoint(folder / "tiny", **sizes)
    (folder / "notes.txt").write_text("A Raspberry Pi has 4 cores. " * 10)


def _convert(folder: Path) -> Sequence[str]:
    return (
        "pitool", "convert", str(folder / "tiny"), "--ram", "1gb", "--quant", "Q4_0,Q8_0",
        "--calibration", str(folder / "notes.txt"), "--force",
    )  # fmt: skip


def _converted(folder: Path) -> None:
    """Whole bundles, and whole intermediates: another conversion takes them as they are."""
    _whole_bundles(folder)
    kept = folder / "cache" / "intermediate"
    for path in kept.glob("[!.]*") if kept.exists() else []:
        assert read_header(path).tensors
        path.unlink()  # the next one makes it again, to be killed in the middle of that


def _whole_bundles(folder: Path) -> None:
    place = home(folder) / "bundles"
    found, broken = bundles.list_bundles(place)
    assert not broken, broken
    assert not [damage for bundle in found for damage in integrity.damaged_files(bundle)]
    visible = [p for p in place.glob("*") if not p.name.startswith(".")] if place.exists() else []
    assert len(found) == len(visible) <= 1


# -- pull --------------------------------------------------------------------------------------


def _cached_model(folder: Path) -> None:
    """Write the cache of another client of the hub, which is all that is pulled from offline."""
    import gguf
    import numpy as np

    model = Path(os.environ["HF_HOME"]) / "hub" / "models--some--Tiny-GGUF"
    snapshot = model / "snapshots" / ("c" * 40)
    snapshot.mkdir(parents=True, exist_ok=True)
    (model / "refs").mkdir(exist_ok=True)
    (model / "refs" / "main").write_text("c" * 40)
    writer = gguf.GGUFWriter(snapshot / "tiny-F16.gguf", "llama")
    writer.add_block_count(1)
    writer.add_embedding_length(32)
    writer.add_head_count(4)
    writer.add_tensor("token_embd.weight", np.ones((30_000, 32), np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _pull(_folder: Path) -> Sequence[str]:
    return "pitool", "pull", "some/Tiny-GGUF", "--ram", "1gb", "--force"


# -- pack and install --------------------------------------------------------------------------


def _packed(folder: Path) -> Sequence[str]:
    out = str(folder / "toy.pi")
    bundle = str(home(folder) / "bundles" / "toy")
    return "pitool", "pack", bundle, "--board", "pi5", "--model-only", "-o", out


def _whole_archive(folder: Path) -> None:
    if (folder / "toy.pi").exists():
        archive.check(folder / "toy.pi")


def _two_releases(folder: Path) -> None:
    """Install a release by hand, and unpack the archive of the next one."""
    from tests.deploy import archives

    archives.make(folder / "old.pi", b"old", runtime=False)
    archives.make(folder / "new.pi", b"new" * 1000, runtime=False)
    for name in ("old", "new"):
        archive.unpack(folder / f"{name}.pi", folder / name)
    release = home(folder) / "releases" / "first"
    (release / "bundles").mkdir(parents=True)
    (release / "runtime").mkdir()
    (release / "runtime" / "launcher").write_text("#!/bin/sh\n# @HOME@\n")
    (home(folder) / "current").symlink_to("releases/first")


def _install(folder: Path) -> Sequence[str]:
    return "pitool.deploy.arrive", "install", str(folder / "new")


def _one_release(folder: Path) -> None:
    release = (home(folder) / "current").resolve(strict=True)
    assert (release / "runtime" / "launcher").is_file()
    for bundle in (release / "bundles").iterdir():
        assert (bundle / "a.gguf").read_bytes() == b"new" * 1000
    shown = home(folder) / "bundles" / "tiny"
    assert not os.path.lexists(shown) or (shown / "a.gguf").read_bytes() == b"new" * 1000


# -- run, chat, bench, tune --------------------------------------------------------------------


def _scripted(folder: Path) -> None:
    scripted(folder)


def _run(folder: Path) -> Sequence[str]:
    return "pitool", "run", str(home(folder) / "bundles" / "toy"), "What is it?"


def _chat(folder: Path) -> Sequence[str]:
    return "pitool", "chat", str(home(folder) / "bundles" / "toy")


def _rename(folder: Path) -> Sequence[str]:
    bundles = home(folder) / "bundles"
    now, then = ("toy", "little") if (bundles / "toy").exists() else ("little", "toy")
    return "pitool", "rename", str(bundles / now), then


def _bench(folder: Path) -> Sequence[str]:
    toy = str(home(folder) / "bundles" / "toy")
    return "pitool", "bench", toy, "-p", "16", "-n", "4", "-r", "2"


def _tune(folder: Path) -> Sequence[str]:
    return "pitool", "tune", str(home(folder) / "bundles" / "toy"), "--force"


def _nothing_damaged(folder: Path) -> None:
    for path in (home(folder) / "conversations.db", home(folder) / "bench.sqlite"):
        if path.exists():
            with closing(sqlite3.connect(path)) as connection:
                assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    for name in ("tuned.json", "residuals.json"):
        if (home(folder) / name).exists():
            json.loads((home(folder) / name).read_text())
    _whole_bundles(folder)


def _conversations_open(folder: Path) -> None:
    from pitool.store.database import FILE_NAME, Database

    _nothing_damaged(folder)
    if (home(folder) / FILE_NAME).exists():
        with closing(Database(home(folder) / FILE_NAME)) as database:
            for summary in database.list():
                assert database.open(summary.key).rows


def _history_reads(folder: Path) -> None:
    from pitool.bench.history import FILE_NAME, History

    _nothing_damaged(folder)
    if (home(folder) / FILE_NAME).exists():
        with closing(History(home(folder) / FILE_NAME)) as history:
            history.rows()
            assert history.damaged == 0


# -- cluster -----------------------------------------------------------------------------------


def _one_cluster(folder: Path) -> None:
    from pitool.cluster.members import FILE_NAME, Cluster, Member, keep

    keep(Cluster("attic", (Member("pi@attic"),)), home(folder) / FILE_NAME)


def _add(folder: Path) -> Sequence[str]:
    del folder
    return "pitool", "cluster", "add", "pi@one", "pi@two"


def _whole_clusters(folder: Path) -> None:
    from pitool.cluster.members import FILE_NAME, clusters

    known = clusters(home(folder) / FILE_NAME)
    assert len(known["attic"].members) == 1
    assert "boards" not in known or len(known["boards"].members) == 2


COMMANDS: dict[str, Command] = {
    "cluster": Command(_one_cluster, _add, _whole_clusters),
    "convert": Command(_checkpoint, _convert, _converted),
    "pull": Command(_cached_model, _pull, _whole_bundles),
    "pack": Command(_scripted, _packed, _whole_archive),
    "install": Command(_two_releases, _install, _one_release),
    "run": Command(_scripted, _run, _nothing_damaged),
    "chat": Command(_scripted, _chat, _conversations_open, b"Hello?\r"),
    "rename": Command(_scripted, _rename, _whole_bundles),
    "bench": Command(_scripted, _bench, _history_reads),
    "tune": Command(_scripted, _tune, _nothing_damaged),
}
