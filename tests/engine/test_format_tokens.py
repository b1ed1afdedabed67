"""Special tokens that carry a model's format of calls and reasoning come through as text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer

from pitool.catalog.tensor_types import QUANTISATIONS
from pitool.chat_format import (
    AnswerParser,
    CallArguments,
    CallBegun,
    CallEnded,
    Event,
    forced_calls,
)
from pitool.chat_format.events import joined
from pitool.checkpoint.source import Source, open_checkpoint
from pitool.convert.gguf.model import find_model
from pitool.convert.gguf.vocabulary import read_vocabulary
from pitool.convert.gguf.writer import write_gguf
from pitool.engine.base import ChatPrompt, Message, Sampling, Settings
from pitool.engine.llamacpp import LlamaCpp
from pitool.engine.tokenizer_folder import TokenizerFolder
from pitool.errors import UsageError
from tests.chat_format.reading import TOOLS
from tests.tiny import write_checkpoint

MARKS = ("[TOOL_CALLS]", "[ARGS]", "[THINK]", "[/THINK]")
TEMPLATE = (
    "{% if tools %}[AVAILABLE_TOOLS]{{ tools | tojson }}{% endif %}{% for m in messages %}"
    "[INST]{{ m.content }}{% endfor %}{# [TOOL_CALLS]name[ARGS]{}, [THINK]...[/THINK] #}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_checkpoint(tmp_path_factory.mktemp("marks") / "tiny")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens([AddedToken(mark) for mark in (*MARKS, "[INST]")])
    assert tokenizer.get_vocab_size() <= 512
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(
        json.dumps({**settings, "chat_template": TEMPLATE})
    )
    return folder


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[LlamaCpp]:
    checkpoint = open_checkpoint(Source("tiny", None, folder))
    model = find_model(checkpoint.config)
    vocabulary = read_vocabulary(folder, model.shape.vocabulary)
    path = folder.parent / "tiny.gguf"
    write_gguf(path, checkpoint, model, vocabulary, QUANTISATIONS["F32"])
    opened = LlamaCpp(path, Settings(context=1024, decode_threads=1, prefill_threads=1))
    yield opened
    opened.close()


def test_a_tokenizers_folder_shows_the_marks_and_hides_the_rest(folder: Path) -> None:
    reader = TokenizerFolder(folder)
    for mark in MARKS:
        (token,) = reader.spell(mark)
        assert reader.piece(token) == mark.encode()
    for hidden in ("[INST]", "<|im_start|>"):
        (token,) = reader.spell(hidden)
        assert reader.piece(token) == b""
        assert reader.spelled(token) == hidden.encode()


@pytest.mark.engine
def test_llama_cpp_shows_the_marks_and_hides_the_rest(engine: LlamaCpp) -> None:
    assert engine.info.chat_format == "mistral/mistral"
    assert "tools" in engine.info.template_names
    vocabulary = engine._vocabulary
    for text, shown in ((MARKS[0], True), (MARKS[3], True), ("[INST]", False)):
        (token,) = engine.tokenize(text)
        assert vocabulary.piece(token) == (text.encode() if shown else b"")


@pytest.mark.engine
def test_a_forced_call_comes_through_the_engine_to_its_reader(engine: LlamaCpp) -> None:
    prompt = ChatPrompt((Message("user", "The time?"),), TOOLS)
    (mark,) = engine.tokenize("[TOOL_CALLS]")
    grammar, _ = forced_calls(engine.info.chat_format, TOOLS, name="clock", parallel=False)
    sampling = Sampling(grammar=grammar, max_tokens=120, seed=1, logit_bias=((mark, 100.0),))
    parser = AnswerParser(engine.info.chat_format, tools=TOOLS)
    events: list[Event] = []
    for token in engine.stream(prompt, sampling):
        events += parser.feed(token.text)
    begun, arguments, ended = joined([*events, *parser.finish()])
    assert isinstance(begun, CallBegun)
    assert begun.name == "clock"
    assert isinstance(arguments, CallArguments)
    assert json.loads(arguments.text) == {}
    assert isinstance(ended, CallEnded)


@pytest.mark.engine
def test_options_that_the_template_does_not_know_are_refused(engine: LlamaCpp) -> None:
    with pytest.raises(UsageError, match="enable_thinking"):
        engine.tokenize(ChatPrompt((Message("user", "x"),), options={"enable_thinking": False}))
