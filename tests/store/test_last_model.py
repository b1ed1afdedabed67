"""Which model was loaded last: found again by the bundle it is of, gone with it."""

from __future__ import annotations

from pathlib import Path

from pitool.catalog.bundles import choose, delete
from pitool.store import last_model
from pitool.tui import demo


def test_found_again_until_it_is_deleted(tmp_path: Path) -> None:
    first, second = demo.write_bundles(tmp_path / "bundles")
    assert last_model.find(tmp_path) is None
    for bundle, kind in ((first, "Q8_0"), (second, "Q4_0")):
        runnable = choose(bundle, kind)
        last_model.remember(tmp_path, runnable)
        assert last_model.find(tmp_path) == runnable
    delete(second)
    assert last_model.find(tmp_path) is None


def test_damage_is_as_nothing(tmp_path: Path) -> None:
    for text in ("", "[]", "{}", '{"entry": 3, "quantisation": 4}', '{"entry": "/no"}'):
        (tmp_path / last_model.FILE_NAME).write_text(text)
        assert last_model.find(tmp_path) is None
    assert last_model.find(None) is None
