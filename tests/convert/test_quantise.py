"""Quantising slab by slab: the bytes of llama.cpp's own call, in any slab size, and bad weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from pitool.catalog.gguf import read_header
from pitool.catalog.tensor_types import QUANTISATIONS, TENSOR_TYPES
from pitool.convert.gguf import importance, llama_quantise, quantise
from pitool.convert.gguf.ggml import dequantise_rows, quantise_rows
from pitool.convert.gguf.importance import ImportanceMatrix
from pitool.errors import PitoolError
from tests.convert.helpers import real_engine, tensors, write_float
from tests.tiny import write_checkpoint

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exact")
    source = write_checkpoint(folder / "c", num_hidden_layers=2, tie_word_embeddings=False)
    return write_float(source, folder / "c.gguf", "BF16")


# llama.cpp makes NVFP4 of no floats.
MADE = [q for q in QUANTISATIONS if q not in ("F32", "F16", "BF16", "NVFP4")]


@pytest.mark.thorough
@pytest.mark.parametrize("kind", MADE)
def test_the_bytes_are_llama_cpps(exact: Path, tmp_path: Path, kind: str) -> None:
    quantise.quantise(exact, tmp_path / "a", QUANTISATIONS[kind], 2)
    llama_quantise.quantise(exact, tmp_path / "b", QUANTISATIONS[kind], 1)
    assert stored(tmp_path / "a") == stored(tmp_path / "b")
    ours, theirs = read_header(tmp_path / "a"), read_header(tmp_path / "b")
    assert ours.metadata == theirs.metadata
    assert ours.quantisation == kind


def stored(path: Path) -> dict[str, tuple[str, bytes]]:
    """Return type and bytes of each tensor; gguf-py does not read all types."""
    data = path.read_bytes()
    return {
        t.name: (t.type.name, data[t.start : t.start + t.bytes]) for t in read_header(path).tensors
    }


def by_hand(packed: np.ndarray[Any, Any], kind: str) -> np.ndarray[Any, Any]:
    """Return the numbers of Q1_0 or Q2_0 by their definition in ggml-common.h."""
    block = packed.reshape(-1, TENSOR_TYPES[kind].block_bytes)
    scale = np.ascontiguousarray(block[:, :2]).view("<f2").astype(np.float32)
    bits = np.unpackbits(block[:, 2:], axis=1, bitorder="little").astype(np.float32)
    if kind == "Q1_0":
        return scale * (2 * bits - 1)
    pairs = bits.reshape(len(bits), -1, 2)
    return scale * (pairs[..., 0] + 2 * pairs[..., 1] - 1)


LOW_BITS = ("Q1_0", "Q2_0", "TQ1_0", "TQ2_0", "MXFP4", "NVFP4")


@pytest.mark.parametrize("kind", LOW_BITS)
def test_values_are_those_of_another_reader(kind: str) -> None:
    """ggml's own dequantisation, against gguf-py's, or by hand where that has none."""
    rng = np.random.default_rng(5)
    rows = (rng.normal(0, 0.1, (16, 512))).astype(np.float32)
    packed = quantise_rows(rows, TENSOR_TYPES[kind], None)
    ours = dequantise_rows(packed, TENSOR_TYPES[kind])
    if kind in ("Q1_0", "Q2_0"):
        theirs = by_hand(packed, kind).reshape(ours.shape)
    else:
        theirs = gguf.dequantize(packed, gguf.GGMLQuantizationType[kind])
    assert np.array_equal(ours, theirs)
    assert len(np.unique(ours)) > 2


@pytest.mark.thorough
@pytest.mark.parametrize("kind", LOW_BITS)
def test_llama_cpp_computes_with_these_values(exact: Path, tmp_path: Path, kind: str) -> None:
    """The same numbers in F32 answer alike, but for activations that are rounded to 8 bits."""
    types = {
        t.name: TENSOR_TYPES[kind]
        for t in read_header(exact).tensors
        if t.name.startswith("blk.") and len(t.shape) > 1
    }
    low, high = tmp_path / "low.gguf", tmp_path / "high.gguf"
    quantise.quantise(exact, low, QUANTISATIONS["F16"], 1, types=types)
    assert kind in {tensor.type.name for tensor in read_header(low).tensors}
    quantise.quantise(low, high, QUANTISATIONS["F32"], 1)
    found = []
    for path in (low, high):
        with real_engine(path, 64) as engine:
            found.append(engine.logits(list(range(5, 69))))
    error = np.sqrt(((found[0] - found[1]) ** 2).mean()) / found[1].std()
    assert 0 < error < 0.05


@pytest.mark.thorough
@pytest.mark.parametrize("size", [1, 3000, 1 << 20])
def test_slabs_of_any_size_are_the_same(
    exact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    quantise.quantise(exact, tmp_path / "a", QUANTISATIONS["Q4_K_M"], 1)
    monkeypatch.setattr(quantise, "SLAB_BYTES", size)
    quantise.quantise(exact, tmp_path / "b", QUANTISATIONS["Q4_K_M"], 3)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.thorough
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
