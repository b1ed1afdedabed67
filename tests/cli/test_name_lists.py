"""Options of several names: commas, and the option again, mean the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Pitool
from tests.tiny import write_checkpoint


@pytest.mark.parametrize(
    "words",
    [("--quant", "Q4_0,Q8_0"), ("--quant", "Q4_0", "--quant", "Q8_0"),
     ("--quant", "Q4_0,", "--quant", " Q8_0")],
)  # fmt: skip
@pytest.mark.parametrize("command", ["convert", "plan"])
def test_names_add_up(call: Pitool, tmp_path: Path, command: str, words: tuple[str, ...]) -> None:
    """Nobody loses the first of two names without a word."""
    folder = write_checkpoint(tmp_path / "c")
    dry = ("--dry-run",) if command == "convert" else ()
    done = call(command, folder, "--ram", "1gb", *words, *dry, "--json")
    assert done.code == 0, done.err
    rows = json.loads(done.out)["artifacts" if dry else "rows"]
    assert [row["quantisation"] for row in rows] == ["Q4_0", "Q8_0"]
