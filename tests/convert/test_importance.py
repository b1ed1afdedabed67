"""The importance matrix against transformers-like activations in numpy, and against its formats."""

from __future__ import annotations

import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
from numpy.typing import NDArray

from pitool.convert.gguf import importance
from pitool.convert.numpy_forward import Forward
from pitool.engine import worker
from pitool.engine.base import Settings
from pitool.errors import BadInput
from tests.convert.helpers import checkpoint_of, write_float
from tests.tiny import write_checkpoint


def matrix(tensors: dict[str, list[list[float]]]) -> importance.ImportanceMatrix:
    means = {name: np.array(value, np.float32) for name, value in tensors.items()}
    return importance.ImportanceMatrix(means, 1024, "self")


@pytest.mark.engine
def test_collected_squares_are_those_of_our_own_forward_pass(tmp_path: Path) -> None:
    """The inputs of every linear layer, squared and summed in numpy on the checkpoint itself."""
    folder = write_checkpoint(tmp_path / "c", kind="F32", num_hidden_layers=2)
    path = write_float(folder, tmp_path / "c.gguf", "F32")
    ids = np.random.default_rng(1).integers(3, 500, 100).tolist()
    seen: list[NDArray[np.float64]] = []

    def see(_name: str, x: NDArray[np.float32]) -> None:
        seen.append((x.astype(np.float64) ** 2).sum(0))

    forward = Forward(checkpoint_of(folder))
    hidden = forward.embed(ids)
    for i in range(forward.layers):
        hidden = forward.layer(i, forward.weights(i), hidden, see)
    order = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    settings = Settings(256, 1, 1, micro_batch=64, outputs=64, kv_type="f32", collect=True)
    with worker.start("gguf", path, settings) as engine:
        found = importance.collect(engine, [ids], "random", lambda _: None)
    assert len(seen) == 2 * len(order)
    for i, squares in enumerate(seen):
        name = f"blk.{i // len(order)}.{order[i % len(order)]}.weight"
        mean = found.weights(name)
        assert mean is not None
        np.testing.assert_allclose(mean[0], squares / len(ids), rtol=2e-2, atol=1e-5)
    assert found.weights("token_embd.weight") is not None  # the head of a tied model
    assert found.tokens == 100


def test_the_gguf_kind_has_llama_cpps_names_and_sums(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    importance.write(path, matrix({"blk.0.ffn_up.weight": [[0.5, 2.0]]}))
    reader = gguf.GGUFReader(path)
    stored = {t.name: t.data.reshape(-1).tolist() for t in reader.tensors}
    assert stored == {
        "blk.0.ffn_up.weight.in_sum2": [512, 2048],
        "blk.0.ffn_up.weight.counts": [1024],
    }
    kind, size = (reader.get_field(k) for k in ("general.type", "imatrix.chunk_size"))
    assert kind and kind.contents() == "imatrix"
    assert size and size.contents() == 512
    back = importance.read(path)
    assert back.means["blk.0.ffn_up.weight"].tolist() == [[0.5, 2.0]]
    assert (back.tokens, back.text) == (1024, "self")


def test_experts_have_counts_of_their_own(tmp_path: Path) -> None:
    """As llama-imatrix writes them: an expert that no token came to counts all columns alike."""
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(path, "imatrix")
    writer.add_tensor("x.weight.in_sum2", np.array([[8, 4], [0, 0]], np.float32))
    writer.add_tensor("x.weight.counts", np.array([[4], [0]], np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert importance.read(path).means["x.weight"].tolist() == [[2, 1], [1, 1]]


def test_the_older_kind(tmp_path: Path) -> None:
    """Written out byte by byte after llama.cpp's save_imatrix_legacy."""
    path = tmp_path / "m.dat"
    name, text = b"blk.0.attn_q.weight", b"wiki.txt"
    data = struct.pack("<ii", 1, len(name)) + name + struct.pack("<ii2f", 4, 2, 8.0, 2.0)
    path.write_bytes(data + struct.pack("<ii", 3, len(text)) + text)
    found = importance.read(path)
    assert found.means["blk.0.attn_q.weight"].tolist() == [[2.0, 0.5]]
    assert (found.tokens, found.text) == (3 * 512, "wiki.txt")


@pytest.mark.parametrize(
    "content", [b"", b"\x01\0\0\0\x05\0\0\0ab", b"GGUF\x03\0\0\0", b"\xff" * 40, b"\0" * 4]
)
def test_what_is_no_matrix_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"importance matrix|too short to be a GGUF file"):
        importance.read(path)


def test_a_matrix_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    importance.write(tmp_path / "m.gguf", matrix({"x.weight": [[float("nan"), 1.0]]}))
    with pytest.raises(BadInput, match="is empty or not finite"):
        importance.read(tmp_path / "m.gguf")


def test_texts_are_joined_into_windows() -> None:
    assert importance.join([[1, 2, 3], [4, 5]], 2) == [[1, 2], [3, 4], [5]]
