"""BERT's forward pass here against transformers', and its GGUF against llama.cpp's converter's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader

from pitool.checkpoint.source import Source, open_checkpoint
from pitool.convert.encoder import Encoder
from pitool.engine.tokenizer_folder import TokenizerFolder
from tests.convert.test_encoder import TEXTS, write
from tests.oracle.conftest import Converter
from tests.oracle.gguf_files import compare
from tests.tiny_bert import CLS, MEAN, write_bert


def test_tokens_are_computed_as_by_transformers(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    folder = write_bert(tmp_path / "bert")
    theirs = transformers.AutoModel.from_pretrained(folder).eval()
    ours, tokenizer = (
        Encoder(open_checkpoint(Source("tiny", None, folder))),
        TokenizerFolder(folder),
    )
    for text in TEXTS:
        ids = tokenizer.whole(text)
        with torch.no_grad():
            expected = theirs(torch.tensor([ids])).last_hidden_state[0].numpy()
        np.testing.assert_allclose(ours.tokens(ids), expected, atol=2e-4)


@pytest.mark.parametrize("pooling", [MEAN, CLS])
def test_the_gguf_is_that_of_llama_cpps_converter(
    tmp_path: Path, converter: Converter, pooling: str
) -> None:
    folder = write_bert(tmp_path / "Tiny-Test-1B", pooling)
    ours = GGUFReader(write(folder, tmp_path / "ours.gguf"))
    compare(ours, GGUFReader(converter(folder, tmp_path / "theirs.gguf", "F32")))
