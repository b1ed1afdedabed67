"""Files of others: bounded, and refused with a reason."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pitool.catalog import reading
from pitool.errors import BadInput


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"a":' * 100_000, "[" * 101 + "]" * 101, "[[1], " + "[" * 200 + "]" * 201],
)
def test_deep_brackets_are_no_document(text: str) -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        reading.parse_json(text)


def test_what_is_nested_as_deep_as_documents_are() -> None:
    text = "[" * reading.DEEPEST + "]" * reading.DEEPEST
    assert reading.parse_json(text) == json.loads(text)


def test_half_a_character_is_replaced_and_a_whole_one_kept() -> None:
    text = r'{"\ud800": ["a\udfffb", "\ud83d\ude80", "\\ud800"], "n": 1}'
    assert reading.parse_json(text) == {"�": ["a�b", "🚀", r"\ud800"], "n": 1}


def test_a_byte_order_mark_is_no_fault() -> None:
    assert reading.parse_json(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}


def test_a_file_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.json"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # of zeros that take no room
    with pytest.raises(BadInput, match="larger than 16 MiB"):
        reading.read_json(path, "download it again")


def test_a_pipe_in_a_folder_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(BadInput, match="is a device or a pipe"):
        reading.read_json(tmp_path / "config.json", "download it again")


def test_a_missing_file_has_the_callers_sentence(tmp_path: Path) -> None:
    none = BadInput("there is no model", "choose one")
    with pytest.raises(BadInput, match="there is no model"):
        reading.read_json(tmp_path / "a.json", "again", missing=none)
    with pytest.raises(BadInput, match=r"a\.json does not exist"):
        reading.read_json(tmp_path / "a.json", "again")


def test_a_value_that_is_no_object(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(BadInput, match="not a JSON object"):
        reading.read_object(tmp_path / "a.json", "again")


def test_deep_toml_is_no_document() -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        reading.parse_toml(b"a = " + b"[" * 5000 + b"]" * 5000)


def test_the_beginning_of_a_text_ends_with_a_whole_character(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_text("añ" * 10, encoding="utf-8")
    assert reading.read_text(path, 5) == "aña"
    path.write_bytes(b"a\xff")
    with pytest.raises(BadInput, match="cannot read"):
        reading.read_text(path)
