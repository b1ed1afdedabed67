"""The tokenizer's files of a checkpoint and of its adapters, as transformers reads them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from pitool.checkpoint.tokenizer import Choice, TokenizerFiles, choose
from pitool.errors import BadInput
from tests.tiny import TEMPLATE, write_tokenizer

ROWS = 340


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "base"
    path.mkdir()
    write_tokenizer(path, ROWS)
    return path


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def add_token(folder: Path, text: str) -> int:
    """Add a special token after the last one; return its id."""
    data = json.loads((folder / "tokenizer.json").read_text())
    number: int = (
        max([*data["model"]["vocab"].values(), *(t["id"] for t in data["added_tokens"])]) + 1
    )
    data["added_tokens"].append({**data["added_tokens"][0], "id": number, "content": text})
    (folder / "tokenizer.json").write_text(json.dumps(data))
    return number


def shipped(folder: Path, rows: int = ROWS) -> Path:
    """Return what an artifact gets."""
    target = folder.parent / "shipped"
    target.mkdir()
    return TokenizerFiles(folder, rows).write(target)


def test_what_needs_no_change_is_copied_byte_by_byte(folder: Path) -> None:
    made = shipped(folder)
    assert {path.name for path in made.iterdir()} == {"tokenizer.json", "tokenizer_config.json"}
    for path in made.iterdir():
        assert path.read_bytes() == (folder / path.name).read_bytes()


def test_a_token_that_the_model_has_no_row_for_is_text(folder: Path) -> None:
    """As Gemma 3 1B's <image_soft_token>, one past the last row of its embedding."""
    assert add_token(folder, "<image_soft_token>") == ROWS
    whole, made = (
        Tokenizer.from_file(str(path / "tokenizer.json")) for path in (folder, shipped(folder))
    )
    text = "a <image_soft_token><|im_end|>"
    assert ROWS in whole.encode(text).ids
    ids = made.encode(text).ids
    assert max(ids) < ROWS
    assert made.decode(ids, skip_special_tokens=False) == text


@pytest.mark.parametrize("where", ["end", "template"])
def test_a_token_without_a_row_that_a_chat_needs_is_refused(folder: Path, where: str) -> None:
    """A trainer added a token and enlarged the embedding, and only the tokenizer was copied."""
    add_token(folder, "<|turn|>")
    changes = {"end": {"eos_token": "<|turn|>"}, "template": {"chat_template": "<|turn|>"}}
    edit(folder / "tokenizer_config.json", lambda c: c.update(changes[where]))
    message = r"a token 340 '<\|turn\|>', but the model has only 340 rows: use the tokenizer and"
    with pytest.raises(BadInput, match=message):
        TokenizerFiles(folder, ROWS)


def test_the_template_in_a_file_of_its_own_goes_first(folder: Path) -> None:
    assert TokenizerFiles(folder, ROWS).template == TEMPLATE
    (folder / "chat_template.jinja").write_text("another")
    assert TokenizerFiles(folder, ROWS).template == "another"


def test_a_template_and_edges_in_older_files_are_taken_along(folder: Path) -> None:
    (folder / "tokenizer_config.json").write_text("{}")
    (folder / "chat_template.json").write_text('{"chat_template": "old"}')
    old = {"bos_token": {"content": "<|im_start|>"}, "eos_token": "<|im_end|>"}
    (folder / "special_tokens_map.json").write_text(json.dumps(old))
    files = TokenizerFiles(folder, ROWS)
    assert (files.template, files.bos, files.eos) == ("old", "<|im_start|>", "<|im_end|>")
    made = shipped(folder)
    assert (made / "chat_template.jinja").read_text() == "old"
    assert json.loads((made / "tokenizer_config.json").read_text()) == old


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(added_tokens=[{"id": "1", "content": "x"}]),
        lambda d: d.update(added_tokens=7),
        lambda d: d.update(model=[]),
        lambda d: d["model"].update(vocab={"a": None}),
    ],
)
def test_damage_is_one_sentence(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    edit(folder / "tokenizer.json", change)
    with pytest.raises(BadInput, match=r"tokenizer\.json is damaged .*: download it again"):
        TokenizerFiles(folder, ROWS)


@pytest.fixture
def adapter(folder: Path) -> Path:
    """An adapter whose trainer saved the tokenizer beside it."""
    return Path(shutil.copytree(folder, folder.parent / "style"))


def test_the_same_tokenizer_beside_an_adapter_changes_nothing(folder: Path, adapter: Path) -> None:
    assert choose(folder, (adapter,)) == Choice(folder)
    assert choose(folder, ()) == Choice(folder)


def test_an_adapters_own_template_and_tokens_are_taken(folder: Path, adapter: Path) -> None:
    edit(folder / "tokenizer_config.json", lambda c: c.pop("chat_template"))
    note = "the chat template and special tokens are those of the adapter style"
    assert choose(folder, (folder.parent / "none", adapter)) == Choice(adapter, note)


def test_a_token_that_an_adapter_adds_in_a_spare_row_is_taken(folder: Path, adapter: Path) -> None:
    add_token(adapter, "<|turn|>")
    assert choose(folder, (adapter,)).folder == adapter


def test_what_is_not_taken_of_an_adapter_is_said(folder: Path, adapter: Path) -> None:
    lost = "warning: the chat template and special tokens of the adapter style are not used: "
    edit(adapter / "tokenizer.json", lambda d: d["model"]["vocab"].pop("a"))
    found = choose(folder, (adapter,))
    assert found == Choice(folder, f"{lost}its tokens have other ids than the base model's")
    (adapter / "tokenizer.json").unlink()
    (adapter / "chat_template.jinja").write_text("another")
    choose.cache_clear()
    assert choose(folder, (adapter,)) == Choice(folder, f"{lost}it has no tokenizer.json")
