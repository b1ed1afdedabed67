"""What docs/reference has of the code is as the code is, and names every setting."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scripts import reference

ROOT = Path(__file__).parents[1]
SETTINGS = reference.FOLDER / "settings.md"
# Variables that the programs around pitool set for it, or that only its own processes read.
INTERNAL = {
    "PITOOL_LAUNCHER",  # what the board's launcher says of itself
    "PITOOL_COMPLETE",  # click's, in the text of pitool completion
    "PITOOL_SYSROOT",
}


@pytest.mark.parametrize("page", reference.pages(), ids=lambda page: str(page.name))
def test_a_page_is_as_the_code_is(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert reference.updated(text) == text, "run: python -m scripts.reference"


def test_every_part_is_on_a_page_once() -> None:
    texts = (page.read_text(encoding="utf-8") for page in reference.pages())
    used = [found[2] for text in texts for found in reference.PART.finditer(text)]
    assert sorted(used) == sorted(reference.PARTS)


def test_another_page_would_be_found() -> None:
    text = "# A\n<!-- generated: presets -->\n| old |\n<!-- end of generated -->\nmore\n"
    made = reference.updated(text)
    assert "| `exact` | `temperature` 0 |" in made
    assert made.startswith("# A\n<!-- generated: presets -->\n")
    assert made.endswith("\n<!-- end of generated -->\nmore\n")
    assert "old" not in made


def test_no_option_shows_what_only_a_program_says() -> None:
    lines = reference.PARTS["commands"]()
    assert [line for line in lines if re.search(r"\bNone\b|<function|object at", line)] == []


def test_the_settings_are_those_that_are_read() -> None:
    sources = [*(ROOT / "pitool").rglob("*.py"), ROOT / "install.sh", *ROOT.glob("scripts/*.sh")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    read = set(re.findall(r"(?:PITOOL|HF)_[A-Z_]*[A-Z]\b", text)) - INTERNAL
    listed = set(re.findall(r"`((?:PITOOL|HF)_[A-Z_]+)`", SETTINGS.read_text(encoding="utf-8")))
    assert listed == read
