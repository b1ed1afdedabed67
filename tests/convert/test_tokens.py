"""How each kind of tokenizer is run by llama.cpp: by itself, or by tokenizer.json in the bundle."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pitool.catalog.bundles import choose
from pitool.catalog.manifest import Tokenization
from pitool.checkpoint.tokenizer import TokenizerFiles
from pitool.cli import convert_engines
from pitool.convert.tokens import FOLDER, Tokens
from pitool.device.settings import settings_for
from pitool.engine import worker
from pitool.engine.base import Message, Prompt
from pitool.errors import BadInput
from pitool.quality.health import LogitsEngine
from pitool.quality.tokens import TokenReference
from tests.convert.helpers import checkpoint_of, convert_folder, write_float
from tests.small_tokenizers import KINDS, SIZE, write

pytestmark = pytest.mark.engine

# Those that llama.cpp cannot be told by metadata, and why.
BY_FOLDER = {
    "stripping": "it strips no spaces around tokens",
    "phi-3": "it strips only where the model's name says Phi-3, and puts spaces after tokens",
    "mistral-0.3": "it puts a space after every special token, not at the beginning alone",
    "without byte tokens": "it puts a space after an unknown token",
}


@contextmanager
def opened(folder: Path) -> Iterator[tuple[Tokens, LogitsEngine, Path]]:
    """Give the GGUF of a checkpoint in an engine, tokenized as was decided."""
    path = write_float(folder, folder.parent / "m.gguf", "F16")
    tokens = Tokens(checkpoint_of(folder), SIZE, convert_engines.open_with)
    with tokens.open(path, 256) as engine:
        yield tokens, engine, path


@pytest.mark.thorough
@pytest.mark.parametrize("kind", KINDS)
def test_the_tokens_of_every_kind_are_those_of_tokenizer_json(tmp_path: Path, kind: str) -> None:
    folder = write(tmp_path / "c", kind)
    (tmp_path / "as-shipped").mkdir()
    reference = TokenReference(TokenizerFiles(folder, SIZE).write(tmp_path / "as-shipped"))
    assert len(reference.texts) >= 24
    assert reference.chats
    with opened(folder) as (tokens, engine, path):
        for each in (*reference.texts, *reference.chats):
            assert engine.tokenize(each.prompt) == each.ids, each.prompt
        found = tokens.of(path)
    assert found
    assert (found.folder == FOLDER) == (kind in BY_FOLDER)
    assert found.nfc == (kind == "qwen")


@pytest.mark.thorough
def test_a_bundle_says_how_it_is_tokenized_and_its_engine_does_so(tmp_path: Path) -> None:
    """Of Mistral's kind: a space stands at the beginning of a text, none after a special token."""
    folder = write(tmp_path / "c", "mistral-0.3")
    bundle = convert_folder(folder, tmp_path / "b", "F16")
    (artifact,) = bundle.manifest.artifacts
    assert artifact.tokenization
    assert artifact.tokenization.folder == FOLDER
    assert {f.path for f in artifact.files} >= {f"{FOLDER}/tokenizer.json"}
    assert "tokenizer" in {line.name for line in artifact.memory}
    settings = settings_for(runnable := choose(bundle))
    talk: Prompt = [Message("user", "Why?"), Message("assistant", "Because."), Message("user", "1")]
    with worker.start("gguf", runnable.entry, settings) as engine:
        ids = engine.tokenize(talk)
        assert engine.detokenize(ids).count("<s>") == 1
        with opened(folder) as (_, other, _):
            assert ids == other.tokenize(talk)


def test_no_token_is_put_after_a_text_and_none_around_a_conversation(tmp_path: Path) -> None:
    folder = write(tmp_path / "c", "llama-2", add_eos_token=True, tokenizer_class="LlamaTokenizer")
    with opened(folder) as (_, engine, _):
        assert engine.tokenize("Why?")[0] == 1
        assert 2 not in engine.tokenize("Why?")
        ids = engine.tokenize([Message("user", "Why?")])
        assert (ids.count(1), ids.count(2)) == (1, 0)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("kind", "settings", "begins"),
    [
        ("llama-2", {"tokenizer_class": "LlamaTokenizer", "add_bos_token": False}, False),
        ("llama-2", {"tokenizer_class": "LlamaTokenizerFast"}, True),
        ("llama-2", {"tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": False}, True),
        ("smollm", {"tokenizer_class": "GPT2Tokenizer", "add_bos_token": True}, False),
    ],
)
def test_a_flag_counts_where_the_class_heeds_it(
    tmp_path: Path, kind: str, settings: dict[str, object], begins: bool
) -> None:
    with opened(write(tmp_path / "c", kind, **settings)) as (_, engine, _):
        assert (engine.tokenize("") != []) == begins


def test_other_tokens_than_the_tokenizer_makes_are_refused(tmp_path: Path) -> None:
    """A SentencePiece model without tokenizer.json whose pieces llama.cpp joins otherwise."""
    from sentencepiece import SentencePieceTrainer

    folder = write(tmp_path / "c", "llama-2")
    (folder / "tokenizer.json").unlink()
    text = tmp_path / "text.txt"
    text.write_text("the theatre then they them there these\n" * 50 + "ab abc abcd bcd cd\n" * 50)
    SentencePieceTrainer.train(
        input=str(text), model_prefix=str(folder / "tokenizer"), vocab_size=300,
        model_type="unigram", byte_fallback=True, normalization_rule_name="nmt_nfkc_cf",
        minloglevel=2, hard_vocab_limit=False,
    )  # fmt: skip
    refused = pytest.raises(BadInput, match=r"text .* differently from .*tokenizer\.model")
    with refused, opened(folder):
        pass


def test_the_ends_are_all_that_somebody_says(tmp_path: Path) -> None:
    """By the settings, by the tokenizer, by its name, by the template."""
    folder = write(tmp_path / "c", "smollm")
    data = json.loads((folder / "tokenizer.json").read_text())
    first = len(data["model"]["vocab"])
    for i, text in enumerate(("<|done|>", "<|over|>", "<|eot_id|>", "<|other|>")):
        data["added_tokens"].append({**data["added_tokens"][0], "id": first + i, "content": text})
    (folder / "tokenizer.json").write_text(json.dumps(data))
    template = "{% for m in messages %}{{ m['content'] }}\n<|over|>{% endfor %}"
    said = json.loads((folder / "tokenizer_config.json").read_text())
    said |= {"eos_token": "<|done|>", "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(said))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [7, SIZE + 5]}))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "eos_token_id": 9}))
    with opened(folder) as (tokens, _, path):
        found = tokens.of(path)
    by_name = {0, 2, first + 2}
    assert found == Tokenization(tuple(sorted({7, 9, first, first + 1} | by_name)))


def test_a_model_without_a_beginning_token_writes_none_into_its_template(tmp_path: Path) -> None:
    """llama.cpp takes the token 11 for it, a comma in many vocabularies."""
    template = "{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% endfor %}"
    folder = write(tmp_path / "c", "smollm", chat_template=template)
    with opened(folder) as (tokens, engine, path):
        assert engine.tokenize([Message("user", "Why?")]) == engine.tokenize("Why?")
        found = tokens.of(path)
    assert found
    assert found.folder is None
