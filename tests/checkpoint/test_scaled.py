"""FP8 checkpoints against torch's own numbers, for each way of keeping scales; others are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pitool.catalog.gguf import read_header
from pitool.checkpoint.config import Config, read_config
from pitool.checkpoint.scaled import is_readable, method, scaled
from pitool.checkpoint.weights import read_index
from pitool.convert.gguf.ggml import dequantise_rows
from pitool.errors import BadInput
from tests.convert.helpers import checkpoint_of, write_float
from tests.tiny import write_checkpoint

torch = pytest.importorskip("torch")

FP8: dict[str, Any] = {"quant_method": "fp8", "weight_block_size": [128, 128]}
LAYOUTS = {
    "one": (FP8, "weight_scale_inv", ()),
    "rows": (
        {"quant_method": "compressed-tensors", "format": "float-quantized"}, "weight_scale", (1, 0),
    ),
    "blocks": (FP8, "weight_scale_inv", (128, 128)),
    "small blocks": ({**FP8, "weight_block_size": [64, 32]}, "weight_scale_inv", (64, 32)),
}  # fmt: skip


def write_fp8(folder: Path, layout: str) -> dict[str, Any]:
    """Write a tiny checkpoint whose layers are in FP8; return what torch reads of each matrix."""
    from safetensors.torch import load_file, save_file

    said, word, block = LAYOUTS[layout]
    write_checkpoint(folder, kind="F32", num_hidden_layers=2, quantization_config=said)
    path = folder / "model.safetensors"
    tensors, expected = load_file(path), {}
    for name, array in list(tensors.items()):
        if array.ndim < 2 or "embed" in name:
            tensors[name] = array.to(torch.bfloat16)
            continue
        rows, columns = array.shape
        down, across = (block or (rows, columns)) if block != (1, 0) else (1, columns)
        largest = torch.nn.functional.max_pool2d(array.abs()[None], (down, across), ceil_mode=True)[
            0
        ]
        scale = (largest / 448).to(torch.bfloat16).float()
        wide = scale.repeat_interleave(down, 0)[:rows].repeat_interleave(across, 1)[:, :columns]
        packed = (array / wide).clamp(-448, 448).to(torch.float8_e4m3fn)
        tensors[name] = packed
        small = scale.reshape(()) if layout == "one" else scale
        tensors[name.removesuffix("weight") + word] = small.to(torch.bfloat16).contiguous()
        expected[name] = (packed.float() * wide).numpy()
    save_file(tensors, path)
    return expected


@pytest.mark.parametrize("layout", LAYOUTS)
def test_numbers_are_torchs(tmp_path: Path, layout: str) -> None:
    expected = write_fp8(tmp_path, layout)
    checkpoint = checkpoint_of(tmp_path)
    assert len(expected) == 14
    for name, theirs in expected.items():
        ours = checkpoint.tensors[name]
        assert np.array_equal(ours.float32(), theirs)
        slabs = list(ours.slabs(20_000, 8))
        assert len(slabs) > 1
        assert np.array_equal(np.concatenate(slabs), theirs)


@pytest.mark.engine
def test_the_gguf_has_them(tmp_path: Path) -> None:
    expected = write_fp8(tmp_path / "c", "blocks")
    path = write_float(tmp_path / "c", tmp_path / "f32.gguf", "F32")
    tensor = next(t for t in read_header(path).tensors if t.name == "blk.1.ffn_down.weight")
    raw = np.fromfile(path, np.uint8, tensor.bytes, offset=tensor.start)
    ours = dequantise_rows(raw.reshape(tensor.shape[0], -1), tensor.type)
    assert np.array_equal(ours, expected["model.layers.1.mlp.down_proj.weight"])


def test_every_byte_is_torchs_number(tmp_path: Path) -> None:
    from pitool.checkpoint.scaled import _NUMBERS

    theirs = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).float().numpy()
    assert np.array_equal(_NUMBERS, theirs, equal_nan=True)


def test_scales_of_another_shape_are_refused(tmp_path: Path) -> None:
    write_fp8(tmp_path, "small blocks")
    index, config = read_index(tmp_path), read_config(tmp_path)
    config.values["quantization_config"]["weight_block_size"] = [128, 128]
    found = scaled(index, config.values)
    with pytest.raises(BadInput, match=r"the scales of .* which does not go with"):
        next(iter(found.values())).float32()


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ({"quant_method": "gptq", "bits": 4}, "gptq"),
        ({"quant_method": "awq"}, "awq"),
        ({"quant_method": "bitnet"}, "bitnet"),
        ({"quant_method": "compressed-tensors", "format": "pack-quantized"},
         "compressed-tensors pack-quantized"),
        ({}, "quantization_config"),
    ],
)  # fmt: skip
def test_other_ways_are_refused_by_their_name(said: dict[str, Any], word: str) -> None:
    from pitool.architectures.settings import refuse_key

    values = {"quantization_config": said}
    assert method(values) == word
    assert not is_readable(values)
    error = refuse_key(Config(values, Path("config.json")), "quantization_config", said)
    assert f"already quantised ({word})" in error.what
    assert "pitool pull" in error.do
