"""llama.cpp's own converter: found, checked and run; with a stand-in for it here."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from pitool.catalog.tensor_types import QUANTISATIONS
from pitool.catalog.tiers import tiers
from pitool.checkpoint.config import read_config
from pitool.checkpoint.weights import read_index
from pitool.convert.gguf import fallback
from pitool.convert.gguf.model import find_model, model_shape
from pitool.convert.plan import make_plan
from pitool.errors import BadInput, MissingPart, PitoolError
from tests.tiny import write_checkpoint

TABLE = 'TEXT_MODEL_MAP = {\n    "BloomForCausalLM": "bloom",\n}\nMMPROJ_MODEL_MAP = {"X": "x"}\n'
COPIES = "import sys\nopen(sys.argv[3], 'w').write(' '.join(sys.argv[1:]))\n"
LISTS = "import os, sys\nopen(sys.argv[3], 'w').write(' '.join(os.listdir(sys.argv[1])))\n"
FAILS = "import sys\nprint('loading', file=sys.stderr)\nsys.exit('ValueError: no such thing')\n"


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A checkpoint of an architecture that is not native."""
    folder = write_checkpoint(tmp_path / "c")
    path = folder / "config.json"
    values = json.loads(path.read_text())
    values |= {"model_type": "bloom", "architectures": ["BloomForCausalLM"], "n_layer": 3}
    del values["num_hidden_layers"]
    path.write_text(json.dumps(values))
    return folder


@pytest.fixture
def sdist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that looks like llama.cpp's sources; its script is to be written."""
    pytest.importorskip("torch")
    source = tmp_path / "sdist" / "vendor" / "llama.cpp"
    (source / "conversion").mkdir(parents=True)
    (source / "conversion" / "__init__.py").write_text(TABLE)
    (source / fallback.SCRIPT).write_text(COPIES)
    monkeypatch.setenv("PITOOL_LLAMA_CPP_SDIST", str(tmp_path / "sdist"))
    return source


def test_another_architecture_is_planned_by_its_tensors(foreign: Path, sdist: Path) -> None:
    config = read_config(foreign)
    model = model_shape(config)
    assert (model.architecture, model.layers, model.hidden) == ("bloom", 3, 256)
    names = {tensor.name: tensor.shape for tensor in model.tensors}
    assert names["token_embd.weight"] == (512, 256)
    assert names["blk.2.attn_k.weight"] == (128, 256)


def test_the_script_gets_folder_target_and_type(foreign: Path, sdist: Path) -> None:
    target = foreign / "m.gguf"
    fallback.run_converter(foreign, target, QUANTISATIONS["BF16"])
    given, *words = target.read_text().split()
    assert words == ["--outfile", str(target), "--outtype", "bf16"]
    assert Path(given).name == foreign.name  # by which the model is called


def test_the_script_finds_the_weights_that_were_chosen(foreign: Path, sdist: Path) -> None:
    (sdist / fallback.SCRIPT).write_text(LISTS)
    (foreign / "model.safetensors.index.json").write_text("an older one")
    (foreign / "model.fp16.safetensors").write_text("another")
    target = foreign / "m.gguf"
    fallback.run_converter(foreign, target, QUANTISATIONS["BF16"])
    found = target.read_text().split()
    assert [name for name in found if "safetensors" in name] == ["model.safetensors"]
    assert {"config.json", "tokenizer.json"} <= set(found)


def test_a_list_for_each_layer_and_a_scalar_are_planned(foreign: Path, sdist: Path) -> None:
    path = foreign / "config.json"
    values = json.loads(path.read_text()) | {"intermediate_size": [256, 512, 512]}
    path.write_text(json.dumps(values))
    weights = foreign / "model.safetensors"
    scalar = {"model.layers.0.mlp.act_fn.alpha_p": np.array(0.8, np.float32)}
    mask = {"model.layers.0.attention.bias": np.ones((1, 1, 4, 4), np.uint8)}
    floats = {n: t.float32() for n, t in read_index(foreign).items()}
    save_file({**floats, **scalar, **mask}, weights)
    config = read_config(foreign)
    shape = model_shape(config)
    assert shape.feed_forward == 512
    found = {tensor.name: tensor.shape for tensor in shape.tensors}
    assert found["model.layers.0.mlp.act_fn.alpha_p"] == ()
    assert not any("attention.bias" in name for name in found)
    plan = make_plan(config, "1gb", tiers()["1gb"], "F16,Q8_0,Q4_K_M", 512)
    assert all(t.bytes == 4 for a in plan.artifacts for t in a.tensors if t.tensor.shape == ())  # type: ignore[attr-defined]


def test_a_failure_gives_its_last_line(foreign: Path, sdist: Path) -> None:
    (sdist / fallback.SCRIPT).write_text(FAILS)
    with pytest.raises(
        PitoolError, match=r"own converter failed on .*\(ValueError: no such thing\)"
    ):
        fallback.run_converter(foreign, foreign / "m.gguf", QUANTISATIONS["F16"])


def test_what_llama_cpp_does_not_know_either(foreign: Path, sdist: Path) -> None:
    (sdist / "conversion" / "__init__.py").write_text(TABLE.replace("Bloom", "Other"))
    with pytest.raises(
        BadInput, match=r"cannot convert natively, and llama\.cpp's own converter does not"
    ):
        find_model(read_config(foreign))


@pytest.mark.parametrize("package", ["torch", "transformers"])
def test_without_the_export_extra(
    foreign: Path, sdist: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n == package else find(n))
    with pytest.raises(MissingPart, match=f"converter needs {package}: run: pip install"):
        find_model(read_config(foreign))


def test_a_folder_without_the_converter(
    foreign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PITOOL_LLAMA_CPP_SDIST", str(tmp_path))
    with pytest.raises(MissingPart, match=r"does not contain llama\.cpp's convert_hf_to_gguf\.py"):
        fallback.source_folder()
