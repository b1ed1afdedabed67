"""Token ids of llama.cpp on a vocabulary of ours against the tokenizers library."""

from __future__ import annotations

import shutil
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFWriter
from tokenizers import Tokenizer

from pitool.convert.gguf.vocabulary import read_vocabulary

pytestmark = [pytest.mark.engine]

SIZES = {"qwen2.5": 151936, "smollm2-135m-instruct": 49152, "tinyllama-chat": 32000}
TEXTS = {
    "words": "The quick brown fox jumps over the lazy dog.",
    "contractions": "I'm sure they'll say it's DON'T, we'Ve, y'all'd've.",
    "digits": "0 12 345 6789 1234567890 3.14159 1,000,000 ½ ² ٣٤٥ 一二三",
    "code": "def f(x):\n\treturn {'a': x**2, \"b\": [1]}  # ok\r\n\r\nif __name__ == '__main__':",
    "spaces": "a  b   c    d\t\te \n f\n\n\n g  \n",
    "leading": "   three spaces",
    "trailing": "three spaces   ",
    "only spaces": "     ",
    "newlines": "\n\n\n\r\n\r\n",
    "no-break": "a\u00a0b\u2003c\u200bd\u3000e\ufefff",
    "german": "Fußgängerübergänge, Größe, naïve café",
    "combining": "\u0915\u094d\u0937\u093f क्षि x\u0323\u0302",
    "chinese": "你好，世界！今天天气不错。",
    "japanese": "日本語のテキスト、カタカナとひらがな。",
    "korean": "안녕하세요 세계",
    "arabic": "مرحبا بالعالم، كيف حالك؟ ١٢٣",
    "hebrew": "שָׁלוֹם עולם",
    "thai": "สวัสดีชาวโลก",
    "emoji": "🚀 👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇩🇪 ❤️",
    "symbols": "~!@#$%^&*()_+-={}[]|\\:;\"'<>,.?/ →∑∫√ ™®© «»„“”",
    "long word": "a" * 300 + "b" * 50,
    "mixed": "abcДЕЖ123漢字🚀def",
    "controls": "a\x01b\x7fc",
    "upper": "HELLO WORLD CamelCaseWords snake_case_words",
    "url": "https://example.org/a?b=c&d=%20#e",
    "empty": "",
}
SPECIAL = {
    "qwen2.5": "<|im_start|>user\nHi<|im_end|>\n<|im_start|> <|endoftext|>x<tool_call>y",
    "smollm2-135m-instruct": "<|im_start|>user\nHi<|im_end|>\n<|endoftext|> x<repo_name>",
    "tinyllama-chat": "<|user|>\nHi</s>\n<|assistant|>\n",
}


@pytest.fixture(scope="module", params=SIZES)
def pair(
    request: pytest.FixtureRequest, shared_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Any, Tokenizer]]:
    """Name, llama.cpp's vocabulary and the library's tokenizer."""
    name: str = request.param
    folder = shared_data / "tokenizers" / name
    path = tmp_path_factory.mktemp("vocabulary") / "m.gguf"
    write(folder, path, SIZES[name])
    with opened(path) as vocabulary:
        yield name, vocabulary, Tokenizer.from_file(str(folder / "tokenizer.json"))


def write(folder: Path, path: Path, size: int) -> None:
    """Write a GGUF that holds a vocabulary only."""
    writer = GGUFWriter(path, "llama")
    for key in ("block_count", "context_length", "embedding_length", "feed_forward_length",
                "attention.head_count", "vocab_size"):  # fmt: skip
        writer.add_uint32(f"llama.{key}", size if key == "vocab_size" else 1)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-5)
    read_vocabulary(folder, size).write(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


class opened:  # noqa: N801 - used as a context manager
    """llama.cpp's vocabulary of a GGUF, through the engine's own code."""

    def __init__(self, path: Path, ends: Sequence[int] = (), *, nfc: bool = False) -> None:
        self.path, self.ends, self.nfc = path, ends, nfc

    def __enter__(self) -> Any:
        import os

        from pitool.engine.llamacpp.library import Log, llama_cpp
        from pitool.engine.llamacpp.vocabulary import Vocabulary

        self.llama_cpp, self.log = llama_cpp, Log()
        params = llama_cpp.llama_model_default_params()
        params.vocab_only = True
        self.model = llama_cpp.llama_model_load_from_file(os.fsencode(self.path), params)
        assert self.model, self.log.reason
        return Vocabulary(self.model, self.ends, nfc=self.nfc)

    def __exit__(self, *_: object) -> None:
        self.llama_cpp.llama_model_free(self.model)


@pytest.mark.thorough
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_texts(pair: tuple[str, Any, Tokenizer], text: str) -> None:
    name, vocabulary, tokenizer = pair
    assert vocabulary.encode(text) == tokenizer.encode(text).ids, name


@pytest.mark.thorough
def test_decomposed_letters_are_composed_where_the_tokenizer_does(
    shared_data: Path, tmp_path: Path
) -> None:
    """Qwen2's tokenizer composes a text first (NFC), llama.cpp takes it as it is."""
    folder = shared_data / "tokenizers" / "qwen2.5"
    text = unicodedata.normalize("NFD", "naïve Größe") + "<|im_end|>\u0338"
    expected = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids
    write(folder, tmp_path / "m.gguf", SIZES["qwen2.5"])
    with opened(tmp_path / "m.gguf") as vocabulary:
        assert vocabulary.encode(text) != expected
    with opened(tmp_path / "m.gguf", nfc=True) as vocabulary:
        assert vocabulary.encode(text) == expected


@pytest.mark.thorough
def test_an_ordinary_token_with_the_name_of_an_end_is_text(
    shared_data: Path, tmp_path: Path
) -> None:
    """Qwen's vocabulary has the tag </s>, which llama.cpp takes for an end by its name."""
    folder = shared_data / "tokenizers" / "qwen2.5"
    text = f"a <s>b</s> {SPECIAL['qwen2.5']} </s>c"
    expected = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids
    write(folder, tmp_path / "m.gguf", SIZES["qwen2.5"])
    with opened(tmp_path / "m.gguf", ends=[151645]) as vocabulary:
        assert vocabulary.encode(text) == expected
        tag = Tokenizer.from_file(str(folder / "tokenizer.json")).token_to_id("</s>")
        assert vocabulary.piece(tag) == b"</s>"
        assert not vocabulary.ends(tag)


def test_special_tokens_in_a_text(pair: tuple[str, Any, Tokenizer]) -> None:
    name, vocabulary, tokenizer = pair
    assert vocabulary.encode(SPECIAL[name]) == tokenizer.encode(SPECIAL[name]).ids


def test_every_token_is_written_as_the_library_writes_it(
    pair: tuple[str, Any, Tokenizer],
) -> None:
    _, vocabulary, tokenizer = pair
    size = tokenizer.get_vocab_size(with_added_tokens=True)
    for token in range(0, size, 97):
        text = tokenizer.decode([token], skip_special_tokens=False)
        if "\ufffd" not in text and not text.startswith("<0x"):
            assert vocabulary.text([token]).strip() == text.strip(), token


def test_sentencepiece_from_its_own_file_and_from_json_agree(
    shared_data: Path, tmp_path: Path
) -> None:
    folder = shared_data / "tokenizers" / "tinyllama-chat"
    (tmp_path / "json").mkdir()
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(folder / file, tmp_path / "json")
    write(folder, tmp_path / "model.gguf", 32000)
    write(tmp_path / "json", tmp_path / "json.gguf", 32000)
    with opened(tmp_path / "model.gguf") as left, opened(tmp_path / "json.gguf") as right:
        for name, text in TEXTS.items():
            assert left.encode(text) == right.encode(text), name


@pytest.mark.parametrize("prefix", [True, False])
def test_sentencepiece_with_and_without_a_leading_space(tmp_path: Path, prefix: bool) -> None:
    """Llama puts a space before the text, Gemma does not; llama.cpp does as SentencePiece does."""
    from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

    text = tmp_path / "text.txt"
    text.write_text("\n".join(t.replace("\n", " ") for t in TEXTS.values() if t), encoding="utf-8")
    SentencePieceTrainer.train(
        input=str(text), model_prefix=str(tmp_path / "tokenizer"), vocab_size=700,
        model_type="bpe", byte_fallback=True, add_dummy_prefix=prefix, character_coverage=0.98,
        normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True,
        minloglevel=2,
    )  # fmt: skip
    processor = SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    write(tmp_path, tmp_path / "m.gguf", processor.vocab_size())
    with opened(tmp_path / "m.gguf") as vocabulary:
        for name, sample in TEXTS.items():
            expected = [processor.bos_id(), *processor.encode(sample)]
            assert vocabulary.encode(sample) == expected, name
