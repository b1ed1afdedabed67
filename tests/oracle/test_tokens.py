"""The tokens of an artifact, as its bundle says they are made, against those of transformers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pitool.checkpoint.config import Config
from pitool.checkpoint.source import Checkpoint, Source
from pitool.checkpoint.tokenizer import TokenizerFiles
from pitool.convert.engines import Loading, OpenEngine
from pitool.convert.tokens import Tokens
from pitool.engine.base import ChatPrompt, Message, Prompt
from pitool.engine.tokenizer_folder import TokenizerFolder
from pitool.quality.tokens import TokenReference
from tests import small_tokenizers
from tests.oracle.test_tokenizers import SIZES, opened, write

pytest.importorskip("transformers")
pytestmark = [pytest.mark.engine]


class Words:
    """An engine that only tokenizes: llama.cpp's vocabulary, or the folder that is named."""

    def __init__(self, reader: Any) -> None:
        self.tokenize = reader.encode

    def logits(self, ids: Sequence[int]) -> Any:
        raise AssertionError("nothing is computed here")


def open_words(loading: Loading) -> OpenEngine:
    @contextmanager
    def give(path: Path, _: int) -> Iterator[Words]:
        if loading.tokenizer:
            yield Words(TokenizerFolder(loading.tokenizer, loading.ends))
            return
        with opened(path, loading.ends, nfc=loading.nfc) as vocabulary:
            yield Words(vocabulary)

    return give


@pytest.fixture(params=[*SIZES, *small_tokenizers.KINDS])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path, int]:
    """The name, folder and rows of a tokenizer: a real one, or a small one of every kind."""
    name = request.param
    if name in SIZES:
        data: Path = request.getfixturevalue("shared_data")
        return name, data / "tokenizers" / name, SIZES[name]
    return name, small_tokenizers.write(tmp_path / "c", name), small_tokenizers.SIZE


def as_shipped(folder: Path, rows: int, tmp_path: Path) -> tuple[Tokens, TokenReference]:
    """Write the GGUF of a tokenizer; return what opens it as its manifest says, and the prompts."""
    write(folder, tmp_path / "m.gguf", rows)
    config = Config({"model_type": "llama", "vocab_size": rows}, folder / "config.json")
    checkpoint = Checkpoint(Source("m", None, folder), folder, config, {})
    (tmp_path / "shipped").mkdir()
    reference = TokenReference(TokenizerFiles(folder, rows).write(tmp_path / "shipped"))
    return Tokens(checkpoint, rows, open_words), reference


def transformers_ids(oracle: Any, prompt: Prompt) -> list[int]:
    """Return the ids of a prompt without an end after a text, or a second beginning."""
    if isinstance(prompt, str):
        ids: list[int] = oracle.encode(prompt)
        around = oracle.encode("")
        if around and around[-1] == oracle.eos_token_id:
            ids.pop()
        return ids[1:] if around == ids[:1] == ids[1:2] == [oracle.bos_token_id] else ids
    assert not isinstance(prompt, ChatPrompt)
    turns = [{"role": t.role, "content": t.content} for t in prompt if isinstance(t, Message)]
    chat: list[int] = oracle.apply_chat_template(turns, add_generation_prompt=True)
    return chat


def test_texts_and_conversations(model: tuple[str, Path, int], tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    name, folder, rows = model
    tokens, reference = as_shipped(folder, rows, tmp_path)
    counts = counted(tokens, reference, AutoTokenizer.from_pretrained(folder), tmp_path)
    print(f"{name}: " + ", ".join(f"{what} {a}/{b}" for what, (a, b) in counts.items()))
    decided = tokens.of(tmp_path / "m.gguf")
    assert decided
    assert name not in SIZES or decided.folder is None  # it would cost memory on a board
    assert all(equal == total > 0 for equal, total in counts.values()), counts


def counted(
    tokens: Tokens, reference: TokenReference, oracle: Any, tmp_path: Path
) -> dict[str, tuple[int, int]]:
    """Return of texts, conversations and ends how many are transformers', and how many there are.

    Ends: its tokenizer's, and the special token that it puts behind an answer.
    """
    equal: dict[str, list[bool]] = {"texts": [], "chats": [], "ends": []}
    with tokens.open(tmp_path / "m.gguf", 256) as engine:
        for each in (*reference.texts, *reference.chats):
            found = engine.tokenize(each.prompt) == transformers_ids(oracle, each.prompt)
            equal["texts" if isinstance(each.prompt, str) else "chats"].append(found)
    decided = tokens.of(tmp_path / "m.gguf")
    equal["ends"] = [decided is not None and end in decided.ends for end in expected_ends(oracle)]
    return {what: (sum(found), len(found)) for what, found in equal.items()}


def expected_ends(oracle: Any) -> set[int]:
    """Return the end token of transformers' tokenizer, and the one behind a rendered answer."""
    turns = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}]
    tail = oracle.apply_chat_template(turns, tokenize=False).partition("Because.")[2]
    ids = oracle.encode(tail, add_special_tokens=False)
    known = oracle.added_tokens_decoder.keys() - {oracle.unk_token_id}
    special = [each for each in ids if each in known]
    return {oracle.eos_token_id, *special[:1]}
