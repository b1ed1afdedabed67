"""The built-in text: clean Unicode, paragraphs of one size, every letter of its languages."""

from __future__ import annotations

import hashlib
import tomllib
import unicodedata
from collections import Counter
from pathlib import Path

import pytest

from pitool.catalog.tables import recipes_folder

FOLDER = recipes_folder() / "texts"
FILES = sorted(FOLDER.glob("*.txt"))
PYPROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"

# A sign of these scripts says as much as two or three letters.
DENSE = {"ja", "ko", "zh"}

# Characters that a file has at least, where it is not LEAST: enough for some hundreds of tokens.
LEAST = 2300
LEAST_OF = {"code": 6000, "en": 9000, "ja": 900, "ko": 900, "zh": 900}

# What tells a language from its neighbours, beside a to z.
LETTERS = {
    "ar": "ءآأؤإئابةتثجحخدذرزسشصضطظعغفقكلمنهوىي،؛؟",
    "code": "abcdefghijklmnopqrstuvwxyz0123456789!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~",
    "de": "abcdefghijklmnopqrstuvwxyzäöüß",
    "en": "abcdefghijklmnopqrstuvwxyz0123456789",
    "es": "áéíñóúü¿¡«»—",
    "fr": "àâçèéêëîïôùûœ«»",
    "hi": "अआइईउऊऋएऐओऔकखगघचछजझटठडढणतथदधनपफबभमयरलवशषसह।",
    "it": "àèéìòù",
    "ja": "あいうえおアイウエオー、。「」",
    "ko": "가나다라마바사아자하",
    "nl": "éëïó",
    "pl": "ąćęłńóśźż",
    "pt": "àáâãçéêíóôõú",
    "ru": "абвгдеёжзийклмнопрстуфхцчшщъыьэюя",
    "tr": "abcçdefgğhıijklmnoöprsştuüvyzâİ",
    "zh": "的一是在不了有，。？！",
}

# The hash of all files. Whoever changes a letter raises the version in the folder's README as well:
# the figures of older certificates were measured on another text.
VERSION = "texts 1"
SHA256 = "5f023d44b808ac9b40f6bc35a133c2b324aa6cb264826cdfc162a84eb9f08131"


def paragraphs(path: Path) -> list[str]:
    return path.read_bytes().decode("utf-8").removesuffix("\n").split("\n\n")


def test_the_languages_are_there() -> None:
    assert {path.stem for path in FILES} == set(LETTERS)
    assert len(FILES) >= 15


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.stem))
def test_a_file_is_clean_unicode(path: Path) -> None:
    text = path.read_bytes().decode("utf-8")
    assert unicodedata.is_normalized("NFC", text)
    assert {c for c in text if unicodedata.category(c).startswith("C")} == {"\n"}
    assert text.endswith("\n")
    assert [line for line in text.split("\n") if line != line.rstrip()] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.stem))
def test_a_paragraph_has_the_size_of_its_kind(path: Path) -> None:
    low, high = (150, 300) if path.stem in DENSE else (350, 700)
    sizes = [len(paragraph) for paragraph in paragraphs(path)]
    assert all(low <= size <= high for size in sizes), sizes
    assert sum(sizes) >= LEAST_OF.get(path.stem, LEAST)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.stem))
def test_a_language_shows_its_letters(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert set(LETTERS[path.stem]) - set(text + text.lower()) == set()


def test_nothing_is_there_twice() -> None:
    """Neither a paragraph nor a line of prose: what a model has just read it predicts too well."""
    seen = Counter[str]()
    for path in FILES:
        for paragraph in paragraphs(path):
            seen.update([paragraph] if path.stem == "code" else paragraph.split("\n"))
    assert len(seen) > 100
    assert [text for text, times in seen.items() if times > 1] == []


def test_another_text_is_another_version() -> None:
    digest = hashlib.sha256()
    for path in FILES:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    assert digest.hexdigest() == SHA256, f"raise {VERSION!r} in README.md and here"
    assert f"`{VERSION}`" in (FOLDER / "README.md").read_text(encoding="utf-8")


def test_the_text_travels_inside_the_wheel() -> None:
    build = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["tool"]["hatch"]["build"]
    assert build["targets"]["wheel"]["force-include"]["recipes/texts"] == "pitool/recipes/texts"
