"""The kinds of text that speculation is measured on."""

from __future__ import annotations

from pathlib import Path

import pytest

from pitool.catalog.task_kinds import load_task_kinds, task_kinds
from pitool.engine.speculation.pass_costs import SIZES
from pitool.errors import BadInput


def test_each_kind_has_prompts_and_what_was_measured() -> None:
    kinds = task_kinds()
    assert list(kinds) == ["edit", "summary", "code", "chat"]
    for kind in kinds.values():
        assert len(kind.prompts) >= 2
        assert {int(size) for size in kind.tokens} <= set(SIZES)
        for size, (low, high) in kind.tokens.items():
            assert 1 <= low <= high <= int(size)


def test_a_kind_without_prompts_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "kinds.toml"
    path.write_text('[edit]\nsummary = "x"\nprompts = []\n')
    with pytest.raises(BadInput, match="no prompts"):
        load_task_kinds(path)
