"""Written folders: bytes as predicted, quality by quantisation, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from safetensors.numpy import load_file, save_file

from pitool.catalog.onnx import read_folder
from pitool.catalog.onnx_graph import streamed_bytes as graph_streamed_bytes
from pitool.checkpoint.config import read_config
from pitool.convert.gguf.model import model_shape
from pitool.convert.numpy_forward import reference_logits
from pitool.convert.onnx.writer import POSITIONS, write_onnx
from pitool.errors import BadInput, UsageError
from pitool.planning.formats.onnx import streamed_bytes
from pitool.planning.onnx_weights import (
    ALIGNMENT,
    ONNX_QUANTISATIONS,
    find_onnx_quantisation,
    stored_tensors,
)
from pitool.quality.divergence import compare
from tests.convert.helpers import checkpoint_of
from tests.convert.onnx.helpers import Plain, written
from tests.tiny import write_checkpoint

IDS = np.random.default_rng(1).integers(0, 512, 200).tolist()
SHAPES: dict[str, dict[str, Any]] = {
    "tied": {},
    "untied": {"tie_word_embeddings": False},
    "padded": {"head_dim": 24, "tie_word_embeddings": False},
    "biases": {"model_type": "qwen2"},
}


def data_bytes(graph: Path) -> tuple[int, int]:
    """Return the bytes that the tensors of a graph take in its data file, and that file's size."""
    places = set()
    for tensor in onnx.load(graph, load_external_data=False).graph.initializer:
        entry = {each.key: each.value for each in tensor.external_data}
        if entry:
            assert int(entry["offset"]) % ALIGNMENT == 0
            places.add((int(entry["offset"]), int(entry["length"])))
    return sum(length for _, length in places), (graph.parent / "model.onnx.data").stat().st_size


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ONNX_QUANTISATIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_bytes_are_known_beforehand(tmp_path: Path, shape: str, kind: str) -> None:
    source = write_checkpoint(tmp_path / "c", **SHAPES[shape])
    config = read_config(source)
    model = model_shape(config)
    folder = written(source, tmp_path, kind)
    used, size = data_bytes(folder / "model.onnx")
    tensors = stored_tensors(model, find_onnx_quantisation(kind), 1024)
    assert sum(tensor.bytes for tensor in tensors) == used
    assert used <= size < used + ALIGNMENT * 100


def read_whole(graph: Path) -> int:
    """Return the bytes of the initializers that a node multiplies or adds, after onnx itself."""
    model = onnx.load(graph)
    rows = ("Gather", "GatherBlockQuantized", "GroupQueryAttention")
    names = {name for node in model.graph.node if node.op_type not in rows for name in node.input}
    found = (t for t in model.graph.initializer if t.name in names and t.raw_data)
    return sum(len(t.raw_data) for t in found)


@pytest.mark.parametrize("kind", ["FP32", "INT8", "INT8_DYNAMIC", "INT4"])
@pytest.mark.parametrize("shape", SHAPES)
def test_what_a_token_reads_is_known_beforehand(tmp_path: Path, shape: str, kind: str) -> None:
    source = write_checkpoint(tmp_path / "c", **SHAPES[shape])
    config = read_config(source)
    model = model_shape(config)
    graph = written(source, tmp_path, kind) / "model.onnx"
    streamed = graph_streamed_bytes(graph)
    assert streamed == read_whole(graph)
    planned = streamed_bytes(model, stored_tensors(model, find_onnx_quantisation(kind), 1024))
    assert 0 <= streamed - planned < 200  # constants of the graph


def test_block_size_is_an_option(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "c")
    config = read_config(source)
    model = model_shape(config)
    small, _ = data_bytes(written(source, tmp_path, "INT4", 128) / "model.onnx")
    tensors = stored_tensors(model, find_onnx_quantisation("INT4", 128), 1024)
    assert sum(tensor.bytes for tensor in tensors) == small
    for block in (8, 48):
        with pytest.raises(UsageError, match="blocks of"):
            find_onnx_quantisation("INT4", block)


@pytest.mark.parametrize(
    ("kind", "least", "most"),
    [
        ("FP32", 0, 1e-9),
        ("FP16", 0, 1e-4),
        ("INT8", 1e-9, 0.01),
        ("INT8_DYNAMIC", 1e-9, 0.05),
        ("INT4_HEAD8", 1e-3, 1.5),
        ("INT4_ASYMMETRIC", 1e-3, 1.5),
        ("INT4", 1e-3, 1.5),
    ],
)
def test_quality_by_quantisation(tmp_path: Path, kind: str, least: float, most: float) -> None:
    source = write_checkpoint(tmp_path / "c", kind="F32")
    wanted = reference_logits(checkpoint_of(source), IDS)
    found = Plain(written(source, tmp_path, kind)).run(IDS)
    kl = compare(wanted, found, IDS).mean_kl
    assert least <= kl < most


def test_the_folder_is_whole(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "c", max_position_embeddings=POSITIONS * 2)
    (source / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 0]}))
    (source / "chat_template.jinja").write_text("{{ messages }}")
    found = read_folder(written(source, tmp_path, "INT4"))
    assert found.context == POSITIONS
    assert found.ends == {0, 2}
    assert found.quantisation == "INT4"
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (found.path / name).read_bytes() == (source / name).read_bytes()
    longer = write_onnx(
        tmp_path / "longer",
        checkpoint_of(source),
        find_onnx_quantisation("INT4"),
        context=POSITIONS + 5,
    )
    assert read_folder(longer).context == POSITIONS + 5


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "mamba"}, "does not support"),
        ({"hidden_act": "relu"}, "'relu'"),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "'dynamic'"),
        ({"hidden_size": 128}, "shape"),
        ({"num_hidden_layers": 4}, "no tensor"),
    ],
)
def test_what_cannot_be_written_is_refused(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    source = write_checkpoint(tmp_path / "c")
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(BadInput, match=said):
        written(source, tmp_path)


def test_without_a_tokenizer_nothing_is_written(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "c")
    (source / "tokenizer.json").rename(source / "tokenizer.model")
    with pytest.raises(BadInput, match=r"no tokenizer\.json"):
        written(source, tmp_path)
    assert not (tmp_path / "onnx-fp32").exists()


def test_rows_that_are_no_whole_blocks_are_refused(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "c", hidden_size=96, head_dim=16)
    with pytest.raises(BadInput, match="not a multiple of 64"):
        written(source, tmp_path, "INT4", 64)


@pytest.mark.parametrize("kind", ["FP32", "INT8", "INT4", "INT4_ASYMMETRIC"])
def test_the_bytes_of_experts_are_known_beforehand(tmp_path: Path, kind: str) -> None:
    """Two of four experts are read for a token, the router and the rest whole."""
    source = with_experts(tmp_path / "c")
    model = model_shape(read_config(source))
    folder = written(source, tmp_path, kind)
    tensors = stored_tensors(model, find_onnx_quantisation(kind), 1024)
    used, _ = data_bytes(folder / "model.onnx")
    assert sum(tensor.bytes for tensor in tensors) == used
    experts = sum(tensor.bytes for tensor in tensors if "_exps." in tensor.name)
    streamed = graph_streamed_bytes(folder / "model.onnx")
    assert 0 <= streamed - (read_whole(folder / "model.onnx") - experts // 2) < 400
    assert 0 <= streamed - streamed_bytes(model, tensors) < 400


def with_experts(folder: Path) -> Path:
    """Write a tiny Mixtral, whose experts are the MLP of a tiny Llama."""
    changes: dict[str, Any] = {
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "sliding_window": None,
    }
    write_checkpoint(folder, model_type="mixtral", kind="F32", **changes)
    path, names = folder / "model.safetensors", {"gate": "w1", "up": "w3", "down": "w2"}
    tensors = load_file(path)
    for i in range(3):
        here = f"model.layers.{i}."
        own = {n: tensors.pop(f"{here}mlp.{part}_proj.weight") for part, n in names.items()}
        for expert in range(4):
            for name, matrix in own.items():
                tensors[f"{here}block_sparse_moe.experts.{expert}.{name}.weight"] = matrix
        tensors[f"{here}block_sparse_moe.gate.weight"] = np.ones((4, 256), np.float32)
    save_file(tensors, path)
    return folder
