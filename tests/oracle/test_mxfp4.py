"""gpt-oss's experts in MXFP4, against transformers' reading and llama.cpp's own converter."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader, dequantize
from safetensors.numpy import load_file, save_file

from pitool.catalog.tensor_types import QUANTISATIONS
from pitool.checkpoint.config import read_config
from pitool.checkpoint.tensors import Tensor
from pitool.convert.gguf.model import model_shape
from pitool.convert.gguf.quantise import quantise
from pitool.convert.numpy_forward import reference_logits
from pitool.errors import BadInput
from pitool.planning.type_mixture import assign_types
from pitool.quality.divergence import compare as diverge
from tests.convert import sabotage
from tests.convert.helpers import checkpoint_of, write_float
from tests.oracle.conftest import Converter
from tests.oracle.engine import Engine
from tests.oracle.gguf_files import compare

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore")

IDS = np.random.default_rng(0).integers(0, 512, 90).tolist()
MATRICES = ("gate_up_proj", "down_proj")


@pytest.fixture
def packed(family_checkpoint: Callable[[str], Path], tmp_path: Path) -> Path:
    """A tiny gpt-oss as it is released: random blocks and scales where the experts were."""
    folder = tmp_path / "packed" / "Tiny-Test-1B"
    shutil.copytree(family_checkpoint("gpt_oss"), folder)
    path, random = folder / "model.safetensors", np.random.default_rng(0)
    tensors = load_file(path)
    for name in [name for name in tensors if name.endswith(MATRICES)]:
        experts, columns, rows = tensors.pop(name).shape
        shape = (experts, rows, columns // 32)
        tensors[f"{name}_blocks"] = random.integers(0, 256, (*shape, 16)).astype(np.uint8)
        tensors[f"{name}_scales"] = random.integers(121, 125, shape).astype(np.uint8)
    save_file(tensors, path, {"format": "pt"})
    settings = json.loads((folder / "config.json").read_text())
    settings["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": []}
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


def unpacked(packed: Path, target: Path) -> Path:
    """Write the checkpoint with its experts in float32, as transformers reads their blocks."""
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    shutil.copytree(packed, target)
    path = target / "model.safetensors"
    tensors = load_file(path)
    for name in [name for name in tensors if name.endswith("_blocks")]:
        plain = name.removesuffix("_blocks")
        blocks, scales = (torch.tensor(tensors.pop(f"{plain}_{end}")) for end in PARTS)
        numbers = convert_moe_packed_tensors(blocks, scales, dtype=torch.float32)
        tensors[plain] = numbers.contiguous().numpy()
    save_file(tensors, path, {"format": "pt"})
    settings = json.loads((target / "config.json").read_text())
    del settings["quantization_config"]
    (target / "config.json").write_text(json.dumps(settings))
    return target


PARTS = ("blocks", "scales")


def test_the_numbers_are_transformers(packed: Path, tmp_path: Path) -> None:
    found = checkpoint_of(packed).tensors
    wanted = load_file(unpacked(packed, tmp_path / "floats") / "model.safetensors")
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        np.testing.assert_array_equal(found[name].float32(), values, err_msg=name)


def test_the_blocks_are_those_of_ggml(packed: Path) -> None:
    tensor: Tensor = checkpoint_of(packed).tensors["model.layers.0.mlp.experts.down_proj"]
    (slab,) = tensor.slabs(1 << 20)
    numbers = dequantize(slab, GGMLQuantizationType.MXFP4)
    np.testing.assert_array_equal(numbers.swapaxes(1, 2), tensor.float32())
    assert len(list(tensor.slabs(1))) == 4


def test_a_scale_that_is_not_a_number_is_refused(packed: Path, tmp_path: Path) -> None:
    path = packed / "model.safetensors"
    tensors = load_file(path)
    tensors["model.layers.1.mlp.experts.down_proj_scales"][0, 0, 0] = 255
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(BadInput, match="down_proj_scales' has a scale that is not a number"):
        write_float(packed, tmp_path / "m.gguf", "BF16")


def test_blocks_without_their_scales_are_named(packed: Path, tmp_path: Path) -> None:
    path = packed / "model.safetensors"
    tensors = load_file(path)
    del tensors["model.layers.1.mlp.experts.down_proj_scales"]
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(BadInput, match=r"layers\.1\.mlp\.experts\.down_proj"):
        write_float(packed, tmp_path / "m.gguf", "BF16")


@pytest.mark.parametrize("kind", ["F16", "BF16"])
def test_the_file_is_the_converters(
    packed: Path, converter: Converter, tmp_path: Path, kind: str
) -> None:
    ours = write_float(packed, tmp_path / "ours.gguf", kind)
    compare(GGUFReader(ours), GGUFReader(converter(packed, tmp_path / "theirs.gguf", kind)))


def test_experts_stay_bit_for_bit_in_every_quantisation(packed: Path, tmp_path: Path) -> None:
    exact = write_float(packed, tmp_path / "exact.gguf", "BF16")
    experts = {t.name: t.data.tobytes() for t in GGUFReader(exact).tensors if _expert(t.name)}
    assert len(experts) == 3 * 3
    for name in ("Q8_0", "Q4_K_M", "Q4_0"):
        made = tmp_path / f"{name}.gguf"
        quantise(exact, made, QUANTISATIONS[name], 2)
        tensors = GGUFReader(made).tensors
        assert {t.name: t.data.tobytes() for t in tensors if _expert(t.name)} == experts
        assert any(t.tensor_type.name not in ("F32", "BF16", "MXFP4") for t in tensors)
        planned = assign_types(model_shape(read_config(packed)), QUANTISATIONS[name])
        types = {t.name: t.tensor_type.name for t in tensors}
        assert {t.tensor.name: t.type.name for t in planned} == types


def _expert(name: str) -> bool:
    return name.endswith("_exps.weight")


@pytest.mark.engine
def test_its_logits_are_transformers(packed: Path, engine: Engine, tmp_path: Path) -> None:
    """llama.cpp rounds what it multiplies MXFP4 with to eight bits; nothing else is apart."""
    floats = unpacked(packed, tmp_path / "floats")
    model = transformers.AutoModelForCausalLM.from_pretrained(
        floats, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    with torch.no_grad():
        wanted = model(torch.tensor([IDS]), use_cache=False).logits[0].numpy()
    scale = float(np.abs(wanted).max())
    found = reference_logits(checkpoint_of(packed), IDS)
    np.testing.assert_allclose(found, wanted, atol=1e-4 * scale)
    exact = engine.logits(write_float(floats, tmp_path / "floats.gguf", "F32"), IDS)
    np.testing.assert_allclose(exact, wanted, atol=1e-3 * scale)
    kept = engine.logits(write_float(packed, tmp_path / "packed.gguf", "F32"), IDS)
    apart = diverge(wanted, kept, IDS).mean_kl
    print(f"KL {apart:.2g}")
    assert 0 < apart < 0.01


@pytest.mark.engine
def test_it_becomes_a_bundle(packed: Path, tmp_path: Path) -> None:
    made = sabotage.convert_as(packed, tmp_path / "b", gguf="BF16,Q8_0")
    for artifact in made.manifest.artifacts:
        assert artifact.certificate
        assert artifact.certificate.verified
        assert artifact.certificate.mean_kl < 0.1
