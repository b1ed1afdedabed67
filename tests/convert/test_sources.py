"""What is found in the sources of a conversion before anything is written."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from safetensors.numpy import load_file, save_file

from pitool.catalog.tiers import tiers
from pitool.checkpoint.config import read_config
from pitool.checkpoint.lora import Adapter
from pitool.checkpoint.source import Source, open_checkpoint
from pitool.convert.gguf.writer import cast
from pitool.convert.numpy_forward import reference_logits
from pitool.convert.onnx.writer import write_onnx
from pitool.convert.plan import ConvertPlan, make_plan
from pitool.convert.sources import check_headers, check_tensors, hash_sources
from pitool.errors import BadInput
from pitool.planning.onnx_weights import ONNX_QUANTISATIONS
from pitool.report.progress import Silent
from tests.convert.helpers import checkpoint_of, source_of, tensors, write_float
from tests.convert.test_adapter import write_lora
from tests.tiny import write_checkpoint

FP32 = ONNX_QUANTISATIONS["FP32"]
MATRIX = "model.layers.0.mlp.up_proj.weight"
NORM = "model.layers.0.input_layernorm.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "c", kind="F32", num_hidden_layers=1)


def change(folder: Path, name: str, value: float, *place: int, kind: Any = np.float32) -> None:
    path = folder / "model.safetensors"
    found = {key: array.astype(kind) for key, array in load_file(path).items()}
    found[name][place] = value
    save_file(found, path)


def plan_of(folder: Path, gguf: str = "", onnx: str = "") -> ConvertPlan:
    return make_plan(read_config(folder), "1gb", tiers()["1gb"], gguf, 512, onnx=onnx)


def test_hashes_are_those_of_the_files(folder: Path, tmp_path: Path) -> None:
    lora = Adapter(write_lora(tmp_path / "style"), 0.5)
    checkpoint = checkpoint_of(folder)
    source = replace(checkpoint.source, apart=(lora,))
    hashed = hash_sources(replace(checkpoint, source=source), Silent())
    names = ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"]
    assert [file.path for file in hashed.files] == names
    for file, path in zip(
        [*hashed.files, *hashed.apart[0].files],
        [*(folder / name for name in names), *lora.files],
        strict=True,
    ):
        data = path.read_bytes()
        assert (file.bytes, file.sha256) == (len(data), hashlib.sha256(data).hexdigest())


def test_a_value_that_is_not_finite_is_named(folder: Path) -> None:
    change(folder, MATRIX, np.nan, 3, 5)
    with pytest.raises(BadInput, match=rf"c/model\.safetensors: '{MATRIX}' is NaN at \[3, 5\]"):
        hash_sources(checkpoint_of(folder), Silent())


def test_only_tensors_that_are_used_are_judged(folder: Path) -> None:
    path = folder / "model.safetensors"
    other = {
        "model.layers.0.attention.masked_bias": np.array(-np.inf, np.float32),
        "vision_tower.patch.weight": np.full((2, 2), np.nan, np.float32),
    }
    save_file({**load_file(path), **other}, path)
    assert hash_sources(checkpoint_of(folder), Silent()).files


def test_a_value_beyond_f16_matters_where_f16_is_written(folder: Path) -> None:
    change(folder, MATRIX, -7e4, 3, 5)
    checkpoint = checkpoint_of(folder)
    for gguf, graph in (("F16", ""), ("Q8_0,F16", ""), ("", "FP16")):
        with pytest.raises(BadInput, match=r"is -70000 at \[3, 5\], and F16 ends at 65504"):
            hash_sources(checkpoint, Silent(), plan_of(folder, gguf, graph))
    for gguf, graph in (("F32,BF16,Q8_0,Q4_0", ""), ("", "FP32,INT8")):
        assert hash_sources(checkpoint, Silent(), plan_of(folder, gguf, graph)).files


def test_a_norm_is_never_f16_in_a_gguf(folder: Path) -> None:
    change(folder, NORM, 1e5, 7)
    assert hash_sources(checkpoint_of(folder), Silent(), plan_of(folder, "F16")).files
    with pytest.raises(BadInput, match=r"is 100000 at \[7\]"):
        hash_sources(checkpoint_of(folder), Silent(), plan_of(folder, "", "FP16"))


def test_the_values_of_an_adapter_are_judged(folder: Path, tmp_path: Path) -> None:
    lora = write_lora(tmp_path / "style")
    path = lora / "adapter_model.safetensors"
    found = load_file(path)
    next(iter(found.values()))[1, 2] = np.inf
    save_file(found, path)
    checkpoint = checkpoint_of(folder)
    for source in (
        replace(checkpoint.source, adapters=(Adapter(lora),)),
        replace(checkpoint.source, apart=(Adapter(lora),)),
    ):
        with pytest.raises(BadInput, match=r"adapter_model\.safetensors: .* is inf at \[1, 2\]"):
            hash_sources(replace(checkpoint, source=source), Silent())


def test_the_values_of_a_gguf_are_judged(folder: Path, tmp_path: Path) -> None:
    change(folder, MATRIX, 7e4, 3, 5)
    single = write_float(folder, tmp_path / "m-F32.gguf", "F32")
    source = Source("m", None, single)
    assert hash_sources(open_checkpoint(source), Silent(), plan_of(single, "F32,Q8_0")).files
    with pytest.raises(BadInput, match=r"'blk\.0\.ffn_up\.weight' is 70000 at \[3, 5\], and F16"):
        hash_sources(open_checkpoint(source), Silent(), plan_of(single, "F16"))
    change(folder, MATRIX, np.nan, 3, 5)
    half = write_float(folder, tmp_path / "m-BF16.gguf", "BF16")
    with pytest.raises(BadInput, match=r"m-BF16\.gguf: 'blk\.0\.ffn_up\.weight' is NaN"):
        hash_sources(open_checkpoint(Source("m", None, half)), Silent())


def test_a_merge_that_f16_cannot_hold_is_not_written(folder: Path, tmp_path: Path) -> None:
    from pitool.catalog.tensor_types import QUANTISATIONS
    from pitool.convert.gguf.model import find_model
    from pitool.convert.gguf.vocabulary import read_vocabulary
    from pitool.convert.gguf.writer import write_gguf

    lora = tmp_path / "strong"
    lora.mkdir()
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_"
    factors = {"A": np.full((1, 256), 300, np.float32), "B": np.full((256, 1), 300, np.float32)}
    save_file(
        {f"{name}{half}.weight": array for half, array in factors.items()},
        lora / "adapter_model.safetensors",
    )
    settings = {"peft_type": "LORA", "r": 1, "lora_alpha": 1}
    (lora / "adapter_config.json").write_text(json.dumps(settings))
    checkpoint = open_checkpoint(replace(source_of(folder), adapters=(Adapter(lora),)))
    model = find_model(checkpoint.config)
    vocabulary = read_vocabulary(folder, model.shape.vocabulary)
    with pytest.raises(BadInput, match="has values beyond 65504"):
        write_gguf(tmp_path / "x", checkpoint, model, vocabulary, QUANTISATIONS["F16"])
    write_gguf(tmp_path / "y", checkpoint, model, vocabulary, QUANTISATIONS["F32"])
    with pytest.raises(BadInput, match="has values beyond 65504"):
        write_onnx(tmp_path / "half", checkpoint, ONNX_QUANTISATIONS["FP16"])


@pytest.mark.parametrize("kind", ["F16", "BF16", "F32"])
def test_float64_becomes_what_its_float32_becomes(folder: Path, tmp_path: Path, kind: str) -> None:
    single = tensors(write_float(folder, tmp_path / "single.gguf", kind))
    path = folder / "model.safetensors"
    save_file({n: a.astype(np.float64) for n, a in load_file(path).items()}, path)
    assert tensors(write_float(folder, tmp_path / "double.gguf", kind)) == single
    types: dict[str, Any] = {"F16": np.float16, "BF16": ml_dtypes.bfloat16, "F32": np.float32}
    wide = np.random.default_rng(0).normal(size=100)
    made = cast(wide, "F64", kind)
    assert made.tobytes() == wide.astype(np.float32).astype(types[kind]).tobytes()


# -- by the headers alone ------------------------------------------------------------------------


def test_headers_are_looked_at(folder: Path) -> None:
    config = read_config(folder)
    check_headers(source_of(folder), config)
    path = folder / "model.safetensors"
    found = load_file(path)
    save_file({n: a for n, a in found.items() if n != MATRIX}, path)
    with pytest.raises(BadInput, match="has no tensor"):
        check_headers(source_of(folder), config)
    save_file({**found, MATRIX: found[MATRIX].astype(np.int8)}, path)
    with pytest.raises(BadInput, match="is stored as I8"):
        check_headers(source_of(folder), config)
    path.unlink()
    check_headers(source_of(folder), config)  # can be planned without


def test_adapters_are_looked_at(folder: Path, tmp_path: Path) -> None:
    lora = Adapter(write_lora(tmp_path / "style"))  # of three layers
    for source in (
        replace(source_of(folder), adapters=(lora,)),
        replace(source_of(folder), apart=(lora,)),
    ):
        with pytest.raises(BadInput, match=r"changes 'model\.layers\.1.*does not have"):
            check_headers(source, read_config(folder))


def test_a_tensor_that_no_family_uses_is_left_out(folder: Path, tmp_path: Path) -> None:
    """As transformers leaves it out: Llama has biases only where its settings say so."""
    path = folder / "model.safetensors"
    logits = reference_logits(checkpoint_of(folder), [3, 4, 5])
    before = tensors(write_float(folder, tmp_path / "a.gguf", "F32"))
    bias = {"model.layers.0.self_attn.q_proj.bias": np.ones(256, np.float32)}
    save_file({**load_file(path), **bias, "model.extra.weight": np.ones(3, np.float32)}, path)
    check_tensors(checkpoint_of(folder))
    assert tensors(write_float(folder, tmp_path / "b.gguf", "F32")) == before
    assert (reference_logits(checkpoint_of(folder), [3, 4, 5]) == logits).all()
    graph = onnx.load(write_onnx(tmp_path / "o", checkpoint_of(folder), FP32) / "model.onnx")
    assert not [each.name for each in graph.graph.initializer if each.name.endswith("bias")]
