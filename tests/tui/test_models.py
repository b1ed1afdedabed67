"""The list of models: what it says of each, the check of its files, and deleting."""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace
from pathlib import Path

import pytest
from textual.widgets import DataTable

from pitool.catalog import bundles, integrity
from pitool.catalog.bundles import Bundle
from pitool.catalog.manifest import FileEntry, Speed
from pitool.chat.status import Phase
from pitool.device import memory
from pitool.device.forecast import Forecast, Judge
from pitool.errors import Interrupted, PitoolError, UsageError
from pitool.tui import demo, details
from pitool.tui.app import PitoolApp
from pitool.tui.screens.chat import ChatScreen
from pitool.tui.screens.dialogs import Confirm
from pitool.tui.screens.models import ModelsScreen
from tests.chat.helpers import Loader, Tracked, until

from .helpers import said, shown

BOARD = Path(__file__).parents[1] / "device" / "fixtures" / "pi5"


def small_bundle(folder: Path, data: bytes = b"weights") -> Bundle:
    """Return a bundle whose one file is what its manifest says."""
    made = demo.write_bundles(folder)[1]
    artifact = made.manifest.artifacts[0]
    (made.path / "model.gguf").write_bytes(data)
    entry = FileEntry("model.gguf", len(data), hashlib.sha256(data).hexdigest())
    manifest = replace(made.manifest, artifacts=(replace(artifact, files=(entry,)),))
    return Bundle(made.path, manifest)


def app_of(*made: Bundle) -> PitoolApp:
    listed = list(made)
    return PitoolApp(
        load=Loader(Tracked()),
        bundles=lambda: ([b for b in listed if b.path.exists()], []),
        memory=lambda _: demo.MEMORY,
        judge=demo.judge,
    )


async def test_says_what_fits_here_and_how_fast(tmp_path: Path) -> None:
    app = app_of(*demo.write_bundles(tmp_path))
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: "tight" in shown(app))
        text = shown(app)
        lines = [" ".join(line.split()) for line in text.splitlines()]
        assert "Raspberry-1.7B gguf Q4_K_M 1.05 GB 4096 8.8 1.27 GB ! tight" in lines
        assert "Raspberry-1.7B gguf Q8_0 1.83 GB 4096 5.1 2.04 GB ✗ no" in lines
        assert "Leaf-360M gguf Q4_0 208 MB 4096 44.7 423 MB ✓ fits" in lines
        assert "here: prefill 64.9, decode 8.8 t/s" in text
        assert "perplexity 9.10 (checkpoint 9.00) · KL 0.0129 nats · top-1 97.1%" in text
        await pilot.press("down")
        await until(lambda: "does not fit now" in shown(app))


async def test_verify_says_whole_or_what_is_damaged(tmp_path: Path) -> None:
    bundle = small_bundle(tmp_path)
    app = app_of(bundle)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: "Leaf-360M" in shown(app))
        await pilot.press("v")
        await until(lambda: "leaf-360m: all checksums match the manifest" in shown(app))
        (bundle.path / "model.gguf").write_bytes(b"w3ights")
        await pilot.press("v")
        await until(lambda: "model.gguf has a different sha256; convert or copy" in shown(app))


@pytest.mark.thorough
async def test_verify_moves_and_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slowly(bundle: Bundle, progress: integrity.OnBytes) -> list[integrity.Damage]:
        for done in range(1, 10_000):
            progress(min(done, 50), 100)
            time.sleep(0.001)
        raise AssertionError("the check was not stopped")

    monkeypatch.setattr("pitool.tui.screens.models.damaged_files", slowly)
    monkeypatch.setattr("pitool.tui.widgets.work.LOOK_SECONDS", 0)
    app = app_of(small_bundle(tmp_path))
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: "Leaf-360M" in shown(app))
        await pilot.press("v")
        await until(lambda: "Verifying leaf-360m" in shown(app) and " 50% of 100 B" in shown(app))
        await pilot.press("escape")
        await until(lambda: "Verifying leaf-360m was stopped." in shown(app))
        assert isinstance(app.screen, ModelsScreen)


async def test_delete_asks_first(tmp_path: Path) -> None:
    first, second = demo.write_bundles(tmp_path)
    app = app_of(first, second)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: "Leaf-360M" in shown(app))
        await pilot.press("d")
        await until(lambda: isinstance(app.screen, Confirm))
        assert "with Q4_K_M, Q8_0 (2.88 GB)" in " ".join(shown(app).split())
        await pilot.press("enter")
        await until(lambda: isinstance(app.screen, ModelsScreen))
        assert first.path.is_dir()
        await pilot.press("d")
        await until(lambda: isinstance(app.screen, Confirm))
        await pilot.press("right", "enter")
        await until(lambda: "Deleted raspberry-1.7b." in shown(app))
        await until(lambda: app.screen.query_one(DataTable).row_count == 1)
        assert list(tmp_path.iterdir()) == [second.path]


async def test_what_is_loaded_is_not_deleted(tmp_path: Path) -> None:
    app = app_of(*demo.write_bundles(tmp_path))
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: "Leaf-360M" in shown(app))
        await pilot.press("enter")
        await until(lambda: app.session.status.phase is Phase.READY)
        await until(lambda: isinstance(app.screen, ChatScreen))
        await pilot.press("f2")
        await until(lambda: isinstance(app.screen, ModelsScreen))
        await pilot.press("d")
        words = "raspberry-1.7b is loaded; press F9 in the chat"
        await until(lambda: words in said(app))


def test_check_of_files(tmp_path: Path) -> None:
    bundle = small_bundle(tmp_path)
    seen: list[tuple[int, int]] = []
    assert integrity.damaged_files(bundle, lambda *now: seen.append(now)) == []
    assert seen[-1] == (7, 7)
    (bundle.path / "model.gguf").write_bytes(b"short")
    (damage,) = integrity.damaged_files(bundle)
    assert damage.why == "has 5 bytes, not 7"
    (bundle.path / "model.gguf").unlink()
    (damage,) = integrity.damaged_files(bundle)
    assert damage.why == "is missing"


def test_progress_that_raises_ends_the_check(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        integrity.damaged_files(small_bundle(tmp_path), stop)


def test_a_link_is_not_deleted(tmp_path: Path) -> None:
    bundle = small_bundle(tmp_path / "real")
    link = tmp_path / "link"
    link.symlink_to(bundle.path)
    with pytest.raises(UsageError, match="is a symbolic link"):
        bundles.delete(replace(bundle, path=link))
    with pytest.raises(PitoolError, match="cannot delete"):
        bundles.delete(replace(bundle, path=tmp_path / "gone"))
    assert bundle.path.is_dir()


@pytest.mark.parametrize(
    ("needed", "available", "words", "mark"),
    [
        (1, 100, "fits", "✓ fits"),
        (90, 100, "fits", "✓ fits"),
        (91, 100, "tight", "! tight"),
        (101, 100, "does not fit now", "✗ no"),
        (None, 100, "unknown", "–"),
        (1, None, "unknown", "–"),
    ],
)
def test_verdict(needed: int | None, available: int | None, words: str, mark: str) -> None:
    verdict = Forecast(needed, available, None, 10)
    assert verdict.words == words
    assert details.mark(verdict) == mark


def test_judge_knows_the_memory_and_the_board(tmp_path: Path) -> None:
    artifact = demo.write_bundles(tmp_path)[0].manifest.artifacts[0]
    verdict = Judge(BOARD)(artifact)
    assert verdict.available == memory.available(BOARD) is not None
    assert verdict.needed == sum(line.bytes for line in artifact.memory)
    pi5 = next(speed for speed in artifact.speed if speed.board == "pi5")
    assert verdict.speed == Speed("pi5", pi5.prefill, pi5.decode)


def test_boards_with_equal_speeds_are_named_together(tmp_path: Path) -> None:
    made = demo.write_bundles(tmp_path)[0].manifest.artifacts[0]
    speeds = (Speed("pi4b", 12.34, 3.21), Speed("pi5", 456.7, 98.7), Speed("cm4", 12.34, 3.21))
    line = details.speed_line(replace(made, speed=speeds), None)
    assert line == ("pi4b, cm4: prefill 12.3, decode 3.2 t/s · pi5: prefill 457, decode 98.7 t/s")
    here = Forecast(1, 2, Speed("pi5", 456.7, 98.7), 10)
    assert details.speed_line(made, here) == "here: prefill 457, decode 98.7 t/s"
