"""BERT as a GGUF: llama.cpp's vectors against a forward pass in numpy, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pitool.catalog.gguf import read_header
from pitool.catalog.tensor_types import QUANTISATIONS
from pitool.checkpoint.config import read_config
from pitool.checkpoint.source import Source, open_checkpoint
from pitool.convert.encoder import Encoder
from pitool.convert.gguf.model import find_model, model_shape
from pitool.convert.gguf.vocabulary import read_vocabulary
from pitool.convert.gguf.writer import write_gguf
from pitool.convert.onnx.choice import refusal
from pitool.engine import worker
from pitool.engine.base import Message, Sampling, Settings
from pitool.engine.tokenizer_folder import TokenizerFolder
from pitool.errors import BadInput, DoesNotFit, UsageError
from pitool.planning.formats import ONNX
from pitool.planning.formats.gguf_memory import kv_cache_bytes
from pitool.planning.shapes import header_shape
from tests.tiny_bert import CLS, MEAN, write_bert

SETTINGS = Settings(context=128, decode_threads=1, prefill_threads=1)
TEXTS = ["the quick brown fox", "A Raspberry Pi has 4 cores.", "memory costs " * 20]


def write(folder: Path, target: Path) -> Path:
    checkpoint = open_checkpoint(Source("tiny", None, folder))
    model = find_model(checkpoint.config)
    vocabulary = read_vocabulary(folder, model.shape.vocabulary)
    write_gguf(target, checkpoint, model, vocabulary, QUANTISATIONS["F32"])
    return target


@pytest.mark.engine
@pytest.mark.parametrize("pooling", [MEAN, CLS, ""])
def test_vectors_are_those_of_the_checkpoint(tmp_path: Path, pooling: str) -> None:
    folder = write_bert(tmp_path / "bert", pooling or MEAN)
    if not pooling:  # the mean is what sentence-transformers takes then
        (folder / "modules.json").unlink()
    own = TokenizerFolder(folder)
    reference = Encoder(open_checkpoint(Source("tiny", None, folder)))
    with worker.start("gguf", write(folder, tmp_path / "bert.gguf"), SETTINGS) as engine:
        assert (engine.info.task, engine.info.embedding) == ("embed", 64)
        found = engine.embed(TEXTS)
        assert found.vectors.shape == (3, 64)
        for text, vector, count in zip(TEXTS, found.vectors, found.tokens, strict=True):
            ids = own.whole(text)
            assert count == len(ids)
            assert float(vector @ reference.vector(ids)) > 0.99999
            again = engine.embed([ids]).vectors[0]
            np.testing.assert_allclose(again, vector, atol=1e-6)


@pytest.mark.engine
def test_a_model_for_embeddings_writes_nothing_and_takes_its_own_length(tmp_path: Path) -> None:
    path = write(write_bert(tmp_path / "bert"), tmp_path / "bert.gguf")
    with worker.start("gguf", path, SETTINGS) as engine:
        for prompt in ("Hello", [Message("user", "Hello")]):
            with pytest.raises(UsageError, match="embeddings"):
                list(engine.stream(prompt, Sampling()))
        with pytest.raises(DoesNotFit, match="128"):
            engine.embed(["cores " * 200])
        with pytest.raises(BadInput, match="empty"):
            engine.embed([[]])
        assert engine.embed(TEXTS[:1]).tokens[0] > 2


def test_no_keys_are_planned_for_an_encoder(tmp_path: Path) -> None:
    folder = write_bert(tmp_path / "bert")
    shape = model_shape(read_config(folder))
    header = header_shape(read_header(write(folder, tmp_path / "bert.gguf")))
    for model in (shape, header):
        assert model.encoder
        assert kv_cache_bytes(model, 128, "f16") == 0
    assert header.parameters == shape.parameters


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architectures": ["BertForSequenceClassification"]}, "ranks texts"),
        ({"position_embedding_type": "relative_key"}, "positions"),
        ({"is_decoder": True}, "decoder"),
        ({"hidden_act": "silu"}, "activation"),
        ({"type_vocab_size": 3}, "segments"),
    ],
)
def test_what_is_no_such_encoder_is_refused(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadInput, match=words):
        find_model(read_config(write_bert(tmp_path / "bert", **changes)))


def test_a_pooling_that_llama_cpp_does_not_know_is_refused(tmp_path: Path) -> None:
    folder = write_bert(tmp_path / "bert")
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_max_tokens": True}))
    with pytest.raises(BadInput, match="pooling"):
        dict(find_model(read_config(folder)).metadata())


def test_onnx_is_refused_by_name(tmp_path: Path) -> None:
    config = read_config(write_bert(tmp_path / "bert"))
    wrong = refusal(config, ONNX.find("INT4"))
    assert wrong is not None
    assert "embeddings" in wrong.what
