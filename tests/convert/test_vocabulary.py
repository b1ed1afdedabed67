"""The vocabulary of a GGUF: what stands in it, and tokenizers that cannot be converted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gguf import TokenType

from pitool.convert.gguf.pretokenizers import PRETOKENIZERS, find_pretokenizer
from pitool.convert.gguf.vocabulary import read_vocabulary
from pitool.errors import BadInput
from tests.tiny import write_checkpoint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "c", num_hidden_layers=1)


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "tokenizer.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def test_byte_level_tokens_are_those_of_the_file(folder: Path) -> None:
    data = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = read_vocabulary(folder, 520)
    assert (vocabulary.model, vocabulary.pre) == ("gpt2", "smollm")
    by_id = {i: text for text, i in data["model"]["vocab"].items()}
    known = len(by_id)
    assert [t.decode() for t in vocabulary.tokens[:known]] == [by_id[i] for i in range(known)]
    assert vocabulary.tokens[known:] == [f"[PAD{i}]".encode() for i in range(known, 520)]
    assert vocabulary.types[:3] == [TokenType.CONTROL] * 3
    assert set(vocabulary.types[3:known]) == {TokenType.NORMAL}
    assert set(vocabulary.types[known:]) == {TokenType.UNUSED}
    assert len(vocabulary.special.merges) == len(data["model"]["merges"])


@pytest.mark.parametrize("name", ["qwen2.5", "smollm2-135m-instruct"])
def test_pretokenizers_of_real_models(shared_data: Path, name: str) -> None:
    folder = shared_data / "tokenizers" / name
    data = json.loads((folder / "tokenizer.json").read_text())
    assert find_pretokenizer(data, folder) == {"qwen2.5": "qwen2"}.get(name, "smollm")


def test_no_pretokenizer_is_named_twice() -> None:
    assert len(set(PRETOKENIZERS.values())) == len(PRETOKENIZERS)


def test_sentencepiece_of_a_real_model(shared_data: Path) -> None:
    vocabulary = read_vocabulary(shared_data / "tokenizers" / "tinyllama-chat", 32000)
    assert vocabulary.model == "llama"
    assert vocabulary.tokens[:3] == [b"<unk>", b"<s>", b"</s>"]
    assert vocabulary.types[:3] == [TokenType.CONTROL] * 3
    assert vocabulary.types[3:259] == [TokenType.BYTE] * 256
    assert vocabulary.tokens[3] == b"<0x00>"


BROKEN: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no model": (lambda d: d.pop("model"), "is damaged"),
    "a model that is null": (lambda d: d.update(model=None), "is damaged"),
    "another kind": (
        lambda d: d["model"].update(type="WordLevel"), "WordLevel tokenizer, which is not",
    ),
    "a WordPiece without rules": (
        lambda d: d["model"].update(type="WordPiece"), "are not BERT's",
    ),
    "no vocabulary": (lambda d: d["model"].pop("vocab"), "is damaged"),
    "an empty vocabulary": (lambda d: d["model"].update(vocab={}), "has no tokens"),
    "a vocabulary that is a list": (lambda d: d["model"].update(vocab=[1]), "is damaged"),
    "ids that are texts": (lambda d: d["model"]["vocab"].update(a="1"), "is damaged"),
    "negative ids": (lambda d: d["model"]["vocab"].update(a=-1), "has a token -1"),
    "ids beyond the model": (
        lambda d: d["model"]["vocab"].update(z=600), "token 600 'z', but the model has only 512",
    ),
    "rules that nobody knows": (
        lambda d: d.update(pre_tokenizer={"type": "Whitespace"}), "no pre-tokenizer with the rules",
    ),
    "added tokens that are texts": (lambda d: d.update(added_tokens=["x"]), "is damaged"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_tokenizer_is_refused(folder: Path, case: str) -> None:
    change, message = BROKEN[case]
    edit(folder, change)
    with pytest.raises(BadInput, match=message):
        read_vocabulary(folder, 512)


def test_a_file_of_another_kind_beside_tokenizer_json_is_left_alone(folder: Path) -> None:
    """Llama 3's tokenizer.model is tiktoken's: a token in base 64 and its rank on each line."""
    expected = read_vocabulary(folder, 512)
    (folder / "tokenizer.model").write_bytes(b"IQ== 0\nIg== 1\n")
    found = read_vocabulary(folder, 512)
    assert (found.model, found.pre, found.tokens) == ("gpt2", "smollm", expected.tokens)


def test_a_sentencepiece_file_that_is_none(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.model").write_bytes(b"IQ== 0\nIg== 1\n")
    with pytest.raises(BadInput, match="is not a SentencePiece model"):
        read_vocabulary(folder, 512)
