"""The loader of TOML tables: what it accepts, and the one sentence with which it refuses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from pitool.catalog import tables
from pitool.errors import BadInput, UsageError


@dataclass(frozen=True)
class Leg:
    length: float
    wooden: bool = False


@dataclass(frozen=True)
class Stool:
    name: str
    height: int
    legs: tuple[Leg, ...] = ()
    colours: tuple[str, ...] = ()
    notes: dict[str, str] | None = None
    price: float | None = None

    def __post_init__(self) -> None:
        if self.height <= 0:
            raise ValueError("a stool has a height")


def build(text: str, folder: Path) -> Stool:
    path = folder / "stool.toml"
    path.write_text(text, encoding="utf-8")
    return tables.build(Stool, tables.read_toml(path), path.name)


def test_a_table_becomes_frozen_dataclasses(tmp_path: Path) -> None:
    stool = build(
        'name = "a"\nheight = 45\nlegs = [{ length = 1.5 }, { length = 2, wooden = true }]\n'
        'colours = ["red"]\nprice = 3\nnotes = { maker = "b" }\n',
        tmp_path,
    )
    assert stool == Stool("a", 45, (Leg(1.5), Leg(2.0, True)), ("red",), {"maker": "b"}, 3.0)
    assert type(stool.legs[1].length) is float
    assert type(stool.price) is float


def test_what_is_left_out_keeps_its_default(tmp_path: Path) -> None:
    assert build('name = "a"\nheight = 45\n', tmp_path) == Stool("a", 45)


@pytest.mark.parametrize(
    ("text", "what", "do"),
    [
        pytest.param(
            'name = "a"\nheigth = 45\n',
            "stool.toml has an unknown key 'heigth'",
            "did you mean 'height'?",
            id="unknown key",
        ),
        pytest.param(
            'name = "a"\nheight = 45\nq7 = 1\n',
            "stool.toml has an unknown key 'q7'",
            "choose from: colours, height, legs, name, notes, price",
            id="unknown key like no other",
        ),
        pytest.param('name = "a"\n', "stool.toml has no 'height'", "add it", id="missing key"),
        pytest.param(
            'name = "a"\nheight = "45"\n',
            "stool.toml.height is str, not int",
            "correct its type",
            id="text for a number",
        ),
        pytest.param(
            'name = "a"\nheight = 45.5\n',
            "stool.toml.height is float, not int",
            "correct its type",
            id="fraction for a whole number",
        ),
        pytest.param(
            'name = "a"\nheight = true\n',
            "stool.toml.height is bool, not int",
            "correct its type",
            id="truth for a number",
        ),
        pytest.param(
            'name = "a"\nheight = 45\ncolours = "red"\n',
            "stool.toml.colours is not a list",
            "write it in square brackets",
            id="text for a list",
        ),
        pytest.param(
            'name = "a"\nheight = 45\ncolours = ["red", 3]\n',
            "stool.toml.colours[1] is int, not str",
            "correct its type",
            id="wrong item of a list",
        ),
        pytest.param(
            'name = "a"\nheight = 45\nnotes = 3\n',
            "stool.toml.notes is not a table",
            "write it as key = value",
            id="number for a table",
        ),
        pytest.param(
            'name = "a"\nheight = 45\nlegs = [3]\n',
            "stool.toml.legs[0] is not a table",
            "use the keys of a leg",
            id="number for a nested table",
        ),
        pytest.param(
            'name = "a"\nheight = 45\nlegs = [{ lenght = 3.0 }]\n',
            "stool.toml.legs[0] has an unknown key 'lenght'",
            "did you mean 'length'?",
            id="unknown key in a nested table",
        ),
        pytest.param(
            'name = "a"\nheight = 0\n',
            "stool.toml: a stool has a height",
            "correct it",
            id="value that the class refuses",
        ),
    ],
)
def test_a_bad_table_is_refused_in_one_sentence(
    text: str, what: str, do: str, tmp_path: Path
) -> None:
    with pytest.raises(BadInput) as caught:
        build(text, tmp_path)
    assert (caught.value.what, caught.value.do) == (what, do)
    assert caught.value.exit_code == 4


def test_broken_toml_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text('name = "a"\nheight = \n', encoding="utf-8")
    with pytest.raises(BadInput, match=r"broken\.toml is not valid TOML \(.*line 2"):
        tables.read_toml(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"none\.toml is missing"):
        tables.read_toml(tmp_path / "none.toml")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot read"):
        tables.read_toml(tmp_path)


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "latin.toml"
    path.write_bytes(b'name = "caf\xe9"\n')
    with pytest.raises(BadInput, match=r"cannot read .*latin\.toml"):
        tables.read_toml(path)


def test_lookup_finds_or_names_the_nearest() -> None:
    table = {"pi4b": 4, "pi5": 5}
    assert tables.lookup(table, "pi5", "board", UsageError) == 5
    with pytest.raises(UsageError, match="unknown board 'pi4': did you mean 'pi4b'"):
        tables.lookup(table, "pi4", "board", UsageError)


def test_the_data_files_are_found_from_a_clone() -> None:
    assert (tables.recipes_folder() / "boards.toml").is_file()
