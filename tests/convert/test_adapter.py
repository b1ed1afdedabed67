"""A LoRA that stays a file of its own, through the whole conversion and back into the engine."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader
from safetensors.numpy import save_file

from pitool.catalog import manifest
from pitool.catalog.bundles import choose, open_bundle
from pitool.catalog.manifest import FileEntry
from pitool.catalog.tiers import tiers
from pitool.checkpoint.config import read_config
from pitool.checkpoint.lora import Adapter
from pitool.checkpoint.tokenizer import TOKENIZER
from pitool.convert.conversion import Job
from pitool.convert.gguf.adapter import paths, write_adapter
from pitool.convert.gguf.artifacts import _made_of
from pitool.convert.gguf.model import find_model
from pitool.convert.pipeline import convert
from pitool.convert.plan import make_plan
from pitool.device.settings import settings_for
from pitool.errors import BadInput
from pitool.report.progress import Silent
from tests.convert.helpers import checkpoint_of, engines_of, real_engine, source_of


def write_lora(folder: Path, rank: int = 2) -> Path:
    """Write an adapter of all query projections of the tiny checkpoint."""
    folder.mkdir()
    rng, tensors = np.random.default_rng(5), {}
    for i in range(3):
        for half, shape in (("A", (rank, 256)), ("B", (256, rank))):
            name = f"base_model.model.model.layers.{i}.self_attn.q_proj.lora_{half}.weight"
            tensors[name] = (rng.normal(size=shape) * 0.2).astype(np.float32)
    save_file(tensors, folder / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": rank, "lora_alpha": 4}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder


@pytest.mark.engine
def test_a_bundle_whose_adapter_the_engine_loads(tiny_checkpoint: Path, tmp_path: Path) -> None:
    lora = Adapter(write_lora(tmp_path / "style"), 1.5)
    plan = make_plan(read_config(tiny_checkpoint), "1gb", tiers()["1gb"], "F16", 512)
    source = replace(source_of(tiny_checkpoint), apart=(lora,))
    job = Job(plan, tmp_path / "bundle", False, 1)
    convert(source, job, engines_of(real_engine), Silent())
    bundle = open_bundle(tmp_path / "bundle")
    (artifact,) = bundle.manifest.artifacts
    assert artifact.adapters == ("style.lora.gguf",)
    assert "style.lora.gguf" in {file.path for file in artifact.files}
    assert bundle.manifest.source.apart[0].scale == 1.5
    # Held against the checkpoint with the adapter merged, which the base alone is far from.
    assert artifact.certificate
    assert artifact.certificate.mean_kl < 1e-4
    modelfile = next(bundle.path.glob("*.Modelfile")).read_text()
    assert "\nADAPTER ./style.lora.gguf\n" in modelfile
    assert settings_for(choose(bundle)).adapters == (str(bundle.path / "style.lora.gguf"),)


@pytest.mark.thorough
@pytest.mark.engine
@pytest.mark.parametrize("separate", [True, False])
def test_an_adapters_own_chat_template_is_in_the_bundle(
    tiny_checkpoint: Path, tmp_path: Path, separate: bool
) -> None:
    """As a trainer saves it beside the adapter of a base model that has none."""
    base = Path(shutil.copytree(tiny_checkpoint, tmp_path / "base"))
    lora = Adapter(write_lora(tmp_path / "style"))
    shutil.copy(base / "tokenizer.json", lora.folder)
    said = json.loads((base / "tokenizer_config.json").read_text())
    template = said.pop("chat_template")
    (base / "tokenizer_config.json").write_text(json.dumps(said))
    (lora.folder / "tokenizer_config.json").write_text(json.dumps({**said, "eos_token": "a"}))
    (lora.folder / "chat_template.jinja").write_text(template)
    merged, apart = ((), (lora,)) if separate else ((lora,), ())
    plan = make_plan(
        read_config(base), "1gb", tiers()["1gb"], "F16", 512, onnx="" if separate else "FP32"
    )
    source = replace(source_of(base), adapters=merged, apart=apart)
    target = tmp_path / "bundle"
    made = convert(source, Job(plan, target, False, 1), engines_of(real_engine), Silent())
    (file,) = target.glob("*F16.gguf")
    assert GGUFReader(file).fields["tokenizer.chat_template"].contents() == template
    folders = [path.parent for path in target.glob("*/genai_config.json")]
    assert len(folders) == (not separate)
    assert all((folder / "chat_template.jinja").read_text() == template for folder in folders)
    (noted,) = made.manifest.source.apart if separate else made.manifest.source.adapters
    assert "chat_template.jinja" in {entry.path for entry in noted.files}


def test_a_lossless_file_depends_on_the_tokenizer_of_an_adapter_but_not_on_its_weights() -> None:
    weights, words = FileEntry("adapter_model.safetensors", 1, "a"), FileEntry(TOKENIZER, 1, "b")
    source = manifest.Source("m", None, (), apart=(manifest.Adapter("style", 0.5, (weights,)),))
    assert _made_of(source) == manifest.Source("m", None, ())
    both = replace(source, apart=(manifest.Adapter("style", 0.5, (weights, words)),))
    assert _made_of(both).apart == (manifest.Adapter("style", 1.0, (words,)),)


def test_adapters_of_the_same_name_are_numbered(tmp_path: Path) -> None:
    adapters = [Adapter(tmp_path / name) for name in ("a/x", "b/x", "y")]
    found = [path.name for path in paths(adapters, tmp_path)]
    assert found == ["x-1.lora.gguf", "x-2.lora.gguf", "y.lora.gguf"]


def test_a_scale_of_nothing(tiny_checkpoint: Path, tmp_path: Path) -> None:
    opened = checkpoint_of(tiny_checkpoint)
    lora = Adapter(write_lora(tmp_path / "style"), 0.0)
    with pytest.raises(BadInput, match="has no effect at scale 0"):
        write_adapter(tmp_path / "x", opened, find_model(opened.config), lora)
