"""A row each: a tensor type of GGUF, a quantisation of ONNX."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from pitool.catalog import manifest
from tests.adding.conftest import Extended

# A type of a newer ggml than pitool's table: blocks of 64 weights in 36 bytes.
NUMBER, BLOCK, BYTES = 43, 64, 36


def file_of_the_future(path: Path) -> Path:
    """Write a GGUF with one matrix of the newer type and the settings of a small model."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(128)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(64)
    writer.add_head_count(1)
    writer.add_vocab_size(8)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_0)
    writer.add_tensor("token_embd.weight", np.zeros((8, 64), np.float32))
    writer.add_tensor("blk.0.ffn_up.weight", np.full((64, 64), 7, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    data = bytearray(path.read_bytes())
    name = b"blk.0.ffn_up.weight"
    kind = data.index(name) + len(name) + 4 + 2 * 8  # after the number of dimensions and both
    assert data[kind : kind + 4] == bytes(4)  # F32
    data[kind] = NUMBER
    rows = 64 * 64 // BLOCK * BYTES
    path.write_bytes(data[: len(data) - 64 * 64 * 4 + rows])
    return path


def test_a_tensor_type(extended: Extended) -> None:
    path = file_of_the_future(extended.folder / "future.gguf")
    assert "43" in extended.run("plan", path, "--ram", "1gb", code=4)
    extended.row("from pitool.catalog.tensor_types import TENSOR_TYPES, TensorType")
    extended.row(f"TENSOR_TYPES['Q3_0'] = TensorType('Q3_0', {NUMBER}, {BLOCK}, {BYTES})")
    rows = {r["quantisation"]: r for r in extended.json("plan", path, "--ram", "1gb")["rows"]}
    assert rows["Q4_0"]["tensor_bytes"] == 8 * 64 * 4 + 64 * 64 // BLOCK * BYTES


@pytest.mark.thorough
def test_a_quantisation_of_onnx(extended: Extended, tiny_checkpoint: Path) -> None:
    extended.row("from pitool.planning.onnx_weights import ONNX_QUANTISATIONS, OnnxQuantisation")
    extended.row(
        "ONNX_QUANTISATIONS['INT8_ASYMMETRIC'] = OnnxQuantisation("
        "'INT8_ASYMMETRIC', 8, 8, asymmetric=True)"
    )
    plan = extended.run("plan", "1B", "--ram", "8gb", "--format", "onnx")
    assert "INT8" in plan
    kind, target = "int8-asymmetric", extended.folder / "bundle"
    extended.run("convert", tiny_checkpoint, "--ram", "1gb", "--quant", kind, "--out", target)
    (made,) = manifest.read(target).artifacts
    assert (made.format, made.quantisation) == ("onnx", "INT8_ASYMMETRIC")
    assert made.certificate
    assert 0 < made.certificate.mean_kl < 0.01
    assert extended.run("run", target, "Hello", "--max-tokens", 4, "--temp", 0)


FORMAT = '''
"""Artifacts that are planned as ONNX folders are, under a runtime of another name."""

from pitool.planning.formats.onnx import Onnx


class Folder(Onnx):
    """The same sums."""

    title = runtime = "Testtime"
    assumed = "Testtime is as fast as its test says"

    def __init__(self) -> None:
        self.name = "folder"
'''


def test_a_planned_format(extended: Extended) -> None:
    extended.module("pitool.planning.formats", "folder", FORMAT)
    extended.row("from pitool.planning.formats import FORMATS")
    extended.row("from pitool.planning.formats.folder import Folder")
    extended.row("FORMATS['folder'] = Folder()")
    said = extended.run(
        "plan", "1B", "--board", "pi5", "--ram", "8gb", "--format", "folder", "--details"
    )
    assert "with Testtime" in said
    assert "Testtime is as fast as its test says" in said
    assert extended.json("plan", "1B", "--ram", "8gb", "--format", "folder")["format"] == "folder"
