"""A hint that is broken is ignored, with a word; nothing of it reaches an engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pitool.catalog.bundles import Runnable
from pitool.device import tuned
from pitool.device.detect import detect
from pitool.errors import BadInput

RUNNABLE = Runnable("m", "gguf", "Q4_0", Path("m.gguf"), 7, 128)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("decode_threads", 100_000), ("decode_threads", "4"), ("decode_threads", True),
        ("batch", 0), ("batch", -1), ("micro_batch", 1 << 40), ("kv_type", "q9"), ("kv_type", []),
        ("load_mode", None), ("repack", 1), ("flash_attention", True), ("context", 4096),
        ("polling", True), ("polling", 7), ("pinned", 1), ("priority", "urgent"),
    ],
)  # fmt: skip
def test_a_broken_hint_is_ignored_with_a_word(tmp_path: Path, name: str, value: Any) -> None:
    path = tmp_path / "tuned.json"
    entry = {"changes": {name: value}, "date": "2026", "prefill_gain": 1.0, "decode_gain": 1.0}
    path.write_text(json.dumps({tuned.key(RUNNABLE, detect()): entry}))
    assert tuned.find(RUNNABLE, detect(), path) is None
    said = tuned.words(RUNNABLE, detect(), path)
    assert said.startswith("tuned settings are ignored") and f"{name} is" in said
    with pytest.raises(BadInput, match="delete it and tune again"):
        tuned.keep(tuned.Tuned({}, "2026", 1.0, 1.0), RUNNABLE, detect(), path)


def test_no_hints_are_no_word(tmp_path: Path) -> None:
    assert tuned.words(RUNNABLE, detect(), tmp_path / "none.json") == ""
