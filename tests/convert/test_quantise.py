"""Quantising slab by slab: the bytes of llama.cpp's own call, in any slab size, and bad weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pitool.catalog.gguf import read_header
from pitool.catalog.tensor_types import QUANTISATIONS, TENSOR_TYPES
from pitool.convert.gguf import importance, llama_quantise, quantise
from pitool.convert.gguf.importance import ImportanceMatrix
from pitool.errors import PitoolError
from tests.convert.helpers import tensors, write_float
from tests.tiny import write_checkpoint

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exact")
    source = write_checkpoint(folder / "c", num_hidden_layers=2, tie_word_embeddings=False)
    return write_float(source, folder / "c.gguf", "BF16")


@pytest.mark.parametrize("kind", [q for q in QUANTISATIONS if q not in ("F32", "F16", "BF16")])
def test_the_bytes_are_llama_cpps(exact: Path, tmp_path: Path, kind: str) -> None:
    quantise.quantise(exact, tmp_path / "a", QUANTISATIONS[kind], 2)
    llama_quantise.quantise(exact, tmp_path / "b", QUANTISATIONS[kind], 1)
    assert tensors(tmp_path / "a") == tensors(tmp_path / "b")
    ours, theirs = read_header(tmp_path / "a"), read_header(tmp_path / "b")
    assert ours.metadata == theirs.metadata
    assert ours.quantisation == kind


@pytest.mark.parametrize("size", [1, 3000, 1 << 20])
def test_slabs_of_any_size_are_the_same(
    exact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    quantise.quantise(exact, tmp_path / "a", QUANTISATIONS["Q4_K_M"], 1)
    monkeypatch.setattr(quantise, "SLAB_BYTES", size)
    quantise.quantise(exact, tmp_path / "b", QUANTISATIONS["Q4_K_M"], 3)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_an_importance_matrix_and_types_of_ones_own(exact: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    matrix = tmp_path / "m.gguf"
    columns = {
        t.name: rng.random((1, t.shape[-1]), np.float32) + np.float32(0.1)
        for t in read_header(exact).tensors
        if len(t.shape) == 2
    }
    importance.write(matrix, ImportanceMatrix(columns, 512, "random"))
    types = {"blk.0.ffn_up.weight": TENSOR_TYPES["Q3_K"], "output.weight": TENSOR_TYPES["BF16"]}
    for path, run in ((tmp_path / "a", quantise), (tmp_path / "b", llama_quantise)):
        run.quantise(exact, path, QUANTISATIONS["IQ4_XS"], 1, types=types, importance=matrix)
    found = tensors(tmp_path / "a")
    assert found == tensors(tmp_path / "b")
    assert (found["blk.0.ffn_up.weight"][0], found["output.weight"][0]) == ("Q3_K", "BF16")


def test_weights_that_are_not_finite_are_refused(exact: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.gguf"
    data = bytearray(exact.read_bytes())
    tensor = next(t for t in read_header(exact).tensors if t.name == "blk.1.ffn_down.weight")
    data[tensor.start : tensor.start + 2] = b"\xc0\x7f"  # a NaN
    damaged.write_bytes(data)
    with pytest.raises(PitoolError, match=r"cannot quantise blk\.1\.ffn_down\.weight to Q"):
        quantise.quantise(damaged, tmp_path / "a", QUANTISATIONS["Q8_0"], 1)


def test_what_llama_cpp_cannot_quantise_has_its_reason(exact: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(exact.read_bytes()[:5000])
    with pytest.raises(
        PitoolError, match=r"llama\.cpp could not quantise to Q8_0 \(.*fail"
    ) as caught:
        llama_quantise.quantise(cut, tmp_path / "a", QUANTISATIONS["Q8_0"], 1)
    assert caught.value.do
    assert "\n" not in caught.value.sentence


def test_the_tensors_that_are_begun_are_told(exact: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    llama_quantise.quantise(
        exact, tmp_path / "a", QUANTISATIONS["Q8_0"], 1, lambda *counts: told.append(counts)
    )
    count = len(read_header(exact).tensors)
    assert told == [(number, count) for number in range(1, count + 1)]
