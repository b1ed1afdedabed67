"""Text of the ONNX engine's tokens against transformers' and llama.cpp's ways with real ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pitool.engine.base import Message
from pitool.engine.text import TextStream
from pitool.engine.tokenizer_folder import TokenizerFolder
from pitool.errors import BadInput
from tests.oracle.test_tokenizers import SPECIAL, TEXTS

TURNS = [
    Message("system", "Be brief."),
    Message("user", "Hi, what is 2 + 2?"),
    Message("assistant", "4"),
    Message("user", "ça va? 🚀"),
]


@pytest.fixture(params=sorted(SPECIAL))
def real(request: pytest.FixtureRequest, shared_data: Path) -> tuple[str, TokenizerFolder, Path]:
    """Name, vocabulary and folder of a real tokenizer."""
    path = shared_data / "tokenizers" / request.param
    return request.param, TokenizerFolder(path), path


@pytest.mark.oracle
def test_tokens_and_text_are_those_of_transformers(real: tuple[str, TokenizerFolder, Path]) -> None:
    transformers = pytest.importorskip("transformers")

    name, vocabulary, path = real
    oracle = transformers.AutoTokenizer.from_pretrained(path)
    for text in [*TEXTS.values(), SPECIAL[name]]:
        ids = vocabulary.encode(text)
        assert ids == oracle.encode(text)
        expected = oracle.decode(ids, clean_up_tokenization_spaces=False)
        # transformers strips the space that SentencePiece puts before a text.
        assert vocabulary.text(ids).removeprefix("<s>").strip(" ") == expected.removeprefix(
            "<s>"
        ).strip(" ")


@pytest.mark.oracle
def test_a_conversation_is_that_of_transformers(real: tuple[str, TokenizerFolder, Path]) -> None:
    transformers = pytest.importorskip("transformers")

    _, vocabulary, path = real
    turns = [{"role": turn.role, "content": turn.content} for turn in TURNS]
    oracle = transformers.AutoTokenizer.from_pretrained(path)
    assert vocabulary.encode(TURNS) == oracle.apply_chat_template(turns, add_generation_prompt=True)


def test_pieces_make_up_the_text_and_never_split_a_character(
    real: tuple[str, TokenizerFolder, Path],
) -> None:
    _, vocabulary, _ = real
    for text in TEXTS.values():
        stream = TextStream()
        ids = vocabulary.encode(text)
        parts = [*(stream.feed(vocabulary.piece(token)) for token in ids), stream.finish()]
        # SentencePiece puts a space before a text.
        assert "".join(parts) in (text, f" {text}")
        assert not any("\ufffd" in part for part in parts)


def test_special_tokens_are_not_shown_and_ends_are_known(shared_data: Path) -> None:
    path = shared_data / "tokenizers" / "qwen2.5"
    vocabulary = TokenizerFolder(path, said=[7])
    tokens = {
        name: vocabulary.encode(name) for name in ("<|im_start|>", "<|im_end|>", "<tool_call>")
    }
    assert all(len(ids) == 1 for ids in tokens.values())
    (start,), (end,), (tool,) = tokens.values()
    assert (vocabulary.piece(start), vocabulary.piece(end)) == (b"", b"")
    assert vocabulary.piece(tool) == b"<tool_call>"
    assert [vocabulary.ends(i) for i in (start, end, tool, 7, 8)] == [
        False,
        True,
        False,
        True,
        False,
    ]
    assert vocabulary.text([start, end]) == "<|im_start|><|im_end|>"


def test_a_beginning_that_the_text_has_already_is_not_doubled(shared_data: Path) -> None:
    vocabulary = TokenizerFolder(shared_data / "tokenizers" / "tinyllama-chat")
    assert vocabulary.encode("<s>Hi") == vocabulary.encode("Hi")


def test_token_ids_stay_as_they_are(shared_data: Path) -> None:
    vocabulary = TokenizerFolder(shared_data / "tokenizers" / "tinyllama-chat")
    assert vocabulary.encode([1, 1, 5]) == [1, 1, 5]


def test_a_template_file_goes_before_the_configuration(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_checkpoint / name, tmp_path / name)
    (tmp_path / "chat_template.jinja").write_text("Q: {{ messages[0].content }}{{ eos_token }}")
    vocabulary = TokenizerFolder(tmp_path)
    assert vocabulary.text(vocabulary.encode([Message("user", "Hi")])) == "Q: Hi<|im_end|>"


def test_of_several_templates_the_default_is_taken(tiny_checkpoint: Path, tmp_path: Path) -> None:
    shutil.copy(tiny_checkpoint / "tokenizer.json", tmp_path / "tokenizer.json")
    templates = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "yes"}]
    config = {"chat_template": templates, "eos_token": {"content": "<|im_end|>"}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    vocabulary = TokenizerFolder(tmp_path)
    assert vocabulary.text(vocabulary.encode([Message("user", "Hi")])) == "yes"


def test_without_a_template_the_turns_are_read_line_by_line(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    shutil.copy(tiny_checkpoint / "tokenizer.json", tmp_path / "tokenizer.json")
    vocabulary = TokenizerFolder(tmp_path)
    turns = [Message("user", "Hi"), Message("assistant", "Ho")]
    assert vocabulary.text(vocabulary.encode(turns)) == "Hi\nHo"


@pytest.mark.parametrize("text", ["", "{}", "[]", "not json", '{"model": {"type": "BPE"}}'])
def test_a_broken_tokenizer_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(BadInput, match="is not a tokenizer"):
        TokenizerFolder(tmp_path)
