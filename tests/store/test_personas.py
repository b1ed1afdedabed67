"""Personas: kept, found again, for their owner alone, and what is no name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pitool.engine.base import Sampling
from pitool.errors import BadInput, UsageError
from pitool.store.personas import Persona, Personas


def test_kept_and_found_again(tmp_path: Path) -> None:
    path = tmp_path / "home" / "personas.json"
    made = Persona("Translate to French.", Sampling(temperature=0.2, stop=("x",)))
    Personas(path).save("translator", made)
    Personas(path).save("poet", Persona("Answer in rhymes."))
    assert Personas(path).find("translator") == made
    assert list(Personas(path).all()) == ["translator", "poet"]
    assert json.loads(path.read_text())["poet"]["system"] == "Answer in rhymes."
    assert path.stat().st_mode & 0o077 == 0
    Personas(path).delete("translator")
    with pytest.raises(UsageError, match="did you mean 'poet'"):
        Personas(path).find("poets")


def test_none_yet(tmp_path: Path) -> None:
    kept = Personas(tmp_path / "personas.json")
    assert kept.all() == {}
    with pytest.raises(UsageError, match="/persona save NAME"):
        kept.find("poet")


@pytest.mark.parametrize("name", ["", "two words", "a\x1b", "x" * 41])
def test_what_is_no_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="use one word"):
        Personas(tmp_path / "personas.json").save(name, Persona(""))


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1}', '{"a": {"system": 1}}', '{"a": {"x": ""}}'])
def test_a_damaged_file_is_said_to_be_that(tmp_path: Path, text: str) -> None:
    path = tmp_path / "personas.json"
    path.write_text(text)
    with pytest.raises(BadInput, match=r"personas\.json"):
        Personas(path).all()
