"""The one table of the families: every row, one from outside, and the page made of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader

from pitool.architectures import table
from pitool.checkpoint.config import Config
from pitool.convert.numpy_forward import covers, reference_logits
from pitool.convert.onnx.fused import supported
from pitool.errors import BadInput
from scripts.reference import families
from tests.convert.helpers import checkpoint_of, write_float
from tests.convert.onnx.helpers import Plain, written
from tests.tiny import write_checkpoint

FAMILY = '''
"""A Llama whose embedding is multiplied by what ``toy_scale`` says."""

from dataclasses import replace

from pitool.architectures import llama
from pitool.architectures.base import Architecture


class ToyFile(llama.LlamaFile):
    def special(self, model):
        return {**super().special(model), "embedding_scale": model.embedding_scale}


def describe(settings):
    return replace(llama.describe(settings), embedding_scale=settings.number("toy_scale", 1.0))


ARCHITECTURE = Architecture("Toy", describe, ToyFile())
'''


@pytest.mark.parametrize("name", table.TABLE)
def test_every_row_names_a_family(name: str) -> None:
    architecture = table.find(name)
    assert architecture
    assert architecture.title
    assert architecture.gguf
    assert architecture.gguf.architecture in table.gguf_architectures()


def test_a_family_that_is_not_in_the_table() -> None:
    assert table.find("rwkv") is None
    config = Config({"model_type": "rwkv"}, Path("m/config.json"))
    with pytest.raises(
        BadInput, match="'rwkv' model, which pitool does not support: convert one of: apertus, "
    ):
        table.describe(config)
    assert not supported(config)
    assert not covers(config)


def test_a_family_from_outside_is_one_file_and_one_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is written as GGUF and as ONNX, and has its forward pass, by that alone."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "toy_family.py").write_text(FAMILY)
    monkeypatch.syspath_prepend(outside)
    monkeypatch.setitem(table.TABLE, "toy", "toy_family")
    llama = write_checkpoint(tmp_path / "llama", kind="F32")
    toy = write_checkpoint(tmp_path / "toy", kind="F32", model_type="toy", toy_scale=3.0)
    ids = [5, 9, 2, 77, 3]
    wanted = reference_logits(checkpoint_of(toy), ids)
    assert np.abs(wanted - reference_logits(checkpoint_of(llama), ids)).max() > 0.1
    found = Plain(written(toy, tmp_path)).run(ids)
    np.testing.assert_allclose(found, wanted, atol=1e-4 * float(np.abs(wanted).max()))
    fields = GGUFReader(write_float(toy, tmp_path / "toy.gguf", "F32")).fields
    assert fields["llama.embedding_scale"].contents() == 3.0
    settings = json.loads((toy / "config.json").read_text())
    (toy / "config.json").write_text(json.dumps({**settings, "toy_shift": 1.0}))
    with pytest.raises(BadInput, match=r"sets 'toy_shift' to 1\.0, which pitool does not support"):
        table.describe(checkpoint_of(toy).config)


def test_the_reference_has_a_row_for_each_family() -> None:
    assert len(list(families.lines())) == len(set(table.TABLE.values())) + 3
