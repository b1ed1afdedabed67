"""Adapters, merged and separate, against PEFT: tensor by tensor and as logits of the GGUF."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader

from pitool.checkpoint.lora import Adapter, merge
from pitool.checkpoint.merged import MergedTensor
from pitool.checkpoint.source import Checkpoint, Source, open_checkpoint
from pitool.checkpoint.weights import read_index
from pitool.convert.gguf.adapter import write_adapter
from pitool.convert.gguf.model import find_model
from pitool.engine import worker
from pitool.engine.base import Settings
from pitool.errors import BadInput
from tests.convert.helpers import write_float
from tests.oracle.engine import Engine
from tests.tiny import write_checkpoint

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

MATRICES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
CASES: dict[str, dict[str, Any]] = {
    "two matrices": {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]},
    "all, rank-stabilised": {
        "r": 8, "lora_alpha": 3, "use_rslora": True, "target_modules": MATRICES,
    },
    "patterns": {
        "r": 4, "lora_alpha": 8, "target_modules": MATRICES,
        "rank_pattern": {"q_proj": 2, r"layers\.1\.mlp\.up_proj": 6},
        "alpha_pattern": {r"layers\.0\..*\.v_proj": 32, "down_proj": 1},
    },
    "embedding and head": {
        "r": 4, "lora_alpha": 8, "target_modules": ["embed_tokens", "lm_head", "k_proj"],
    },
    "modules saved whole": {
        "r": 4, "lora_alpha": 8, "target_modules": ["o_proj"],
        "modules_to_save": ["lm_head", "embed_tokens", "input_layernorm"],
    },
}  # fmt: skip


def train(folder: Path, adapter: Path, seed: int, **settings: Any) -> Any:
    """Write an adapter of random numbers in PEFT's layout; return the model with it."""
    base = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model = peft.get_peft_model(base, peft.LoraConfig(task_type="CAUSAL_LM", **settings))
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name or "modules_to_save" in name:
                weight += torch.randn_like(weight) * 0.05
    model.save_pretrained(adapter)
    return model


def opened(folder: Path, *adapters: Adapter) -> Checkpoint:
    return open_checkpoint(Source("c", None, folder, adapters=adapters))


def check_tensors(checkpoint: Checkpoint, merged: Any) -> None:
    wanted = merged.state_dict()
    assert len(checkpoint.tensors) > 20
    for name, tensor in checkpoint.tensors.items():
        expected = wanted[name].numpy()
        np.testing.assert_allclose(tensor.float32(), expected, rtol=0, atol=2e-6, err_msg=name)
        slabs = list(tensor.slabs(8192, 8))
        assert len(slabs) > 1 or tensor.bytes <= 8192
        if tensor.kind == "F32":
            np.testing.assert_allclose(np.concatenate(slabs), expected, rtol=0, atol=2e-6)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "c", tie_word_embeddings=False, num_hidden_layers=2)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("case", CASES)
def test_one_adapter(folder: Path, tmp_path: Path, case: str) -> None:
    model = train(folder, tmp_path / "a", 1, **CASES[case])
    check_tensors(opened(folder, Adapter(tmp_path / "a")), model.merge_and_unload())


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_two_adapters_with_scales(folder: Path, tmp_path: Path) -> None:
    first = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}
    second = {"r": 2, "lora_alpha": 8, "target_modules": ["v_proj", "down_proj"]}
    train(folder, tmp_path / "a", 1, **first)
    train(folder, tmp_path / "b", 2, **second)
    base = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model = peft.PeftModel.from_pretrained(base, tmp_path / "a", adapter_name="a")
    model.load_adapter(tmp_path / "b", adapter_name="b")
    for name, module in model.named_modules():
        for adapter, scale in ("a", 0.5), ("b", -2.0):
            if isinstance(module, peft.tuners.lora.Linear) and adapter in module.scaling:
                module.scaling[adapter] *= scale
                assert "proj" in name
    merged = model.merge_and_unload(adapter_names=["a", "b"])
    adapters = Adapter(tmp_path / "a", 0.5), Adapter(tmp_path / "b", -2.0)
    check_tensors(opened(folder, *adapters), merged)


@pytest.mark.engine
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_logits_of_the_merged_gguf(folder: Path, tmp_path: Path) -> None:
    from pitool.catalog.tensor_types import QUANTISATIONS
    from pitool.convert.gguf.vocabulary import read_vocabulary
    from pitool.convert.gguf.writer import write_gguf

    model = train(folder, tmp_path / "a", 3, **CASES["all, rank-stabilised"]).eval()
    checkpoint = opened(folder, Adapter(tmp_path / "a"))
    written = find_model(checkpoint.config)
    vocabulary = read_vocabulary(folder, written.shape.vocabulary)
    path = tmp_path / "m.gguf"
    write_gguf(path, checkpoint, written, vocabulary, QUANTISATIONS["F32"])
    ids = list(range(5, 105))
    with torch.no_grad():
        expected = model(torch.tensor([ids])).logits[0].numpy()
        untouched = model.unload()(torch.tensor([ids])).logits[0].numpy()
    assert np.abs(untouched - expected).max() > 0.1  # the adapter does change something
    exact = Settings(256, 1, 1, kv_type="f32", outputs=128, flash_attention="off", repack=False)
    with worker.start("gguf", path, exact) as engine:
        assert np.abs(engine.logits(ids) - expected).max() < 1e-3


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_matrices_stored_the_other_way_round(tmp_path: Path) -> None:
    config = transformers.GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=64, n_positions=32)
    torch.manual_seed(0)
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path / "c")
    settings = {"r": 4, "lora_alpha": 8, "target_modules": ["c_attn", "c_proj"]}
    settings["fan_in_fan_out"] = True
    model = train(tmp_path / "c", tmp_path / "a", 1, **settings)
    tensors = merge(read_index(tmp_path / "c"), Adapter(tmp_path / "a"), tied=True)
    wanted = model.merge_and_unload().state_dict()
    changed = [name for name in tensors if "c_attn.w" in name or "c_proj.w" in name]
    assert len(changed) == 6
    for name in changed:
        key = name if name in wanted else f"transformer.{name}"
        np.testing.assert_allclose(tensors[name].float32(), wanted[key].numpy(), atol=2e-6)


TEXT = {
    "vocab_size": 512, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "sliding_window": 64,
    "query_pre_attn_scalar": 8, "max_position_embeddings": 128,
}  # fmt: skip
VISION = {
    "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "image_size": 28, "patch_size": 14,
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("renamed", [False, True])
def test_a_multimodal_base_whose_names_are_other(tmp_path: Path, renamed: bool) -> None:
    """Published with the text model inside; PEFT saves today's names, in the other order."""
    from safetensors.numpy import load_file, save_file

    config = transformers.Gemma3Config(
        text_config=TEXT, vision_config=VISION, mm_tokens_per_image=4
    )
    torch.manual_seed(0)
    base = transformers.Gemma3ForConditionalGeneration(config)
    base.save_pretrained(tmp_path / "c")
    weights = tmp_path / "c" / "model.safetensors"
    stored = load_file(weights)
    assert any(name.startswith("language_model.model.layers.") for name in stored)
    if renamed:  # as transformers has them in memory
        moved = {
            n.replace("language_model.model.", "model.language_model."): stored[n] for n in stored
        }
        save_file(moved, weights)
    lora: dict[str, Any] = {"r": 4, "lora_alpha": 8, "init_lora_weights": False}
    lora["target_modules"] = r".*language_model.*(q_proj|down_proj)"
    model = peft.get_peft_model(base, peft.LoraConfig(**lora))
    model.save_pretrained(tmp_path / "a")
    saved = load_file(tmp_path / "a" / "adapter_model.safetensors")
    assert all(".model.language_model.layers." in name for name in saved)
    before = read_index(tmp_path / "c")
    tensors = merge(before, Adapter(tmp_path / "a"), tied=True)
    wanted = model.merge_and_unload().state_dict()
    changed = [name for name in tensors if tensors[name] is not before[name]]
    assert len(changed) == 4
    for name in changed:
        theirs = wanted[name.replace("model.", "model.language_model.", 1)].numpy()
        np.testing.assert_allclose(tensors[name].float32(), theirs, atol=2e-6)


def convert_lora(source: Path, base: Path, adapter: Path, target: Path) -> None:
    """Write the adapter with llama.cpp's own script."""
    paths = os.pathsep.join([str(source), str(source / "gguf-py")])
    subprocess.run(
        [sys.executable, source / "convert_lora_to_gguf.py", adapter, "--base", base,
         "--outfile", target, "--outtype", "f32"],
        check=True, capture_output=True, env={**os.environ, "PYTHONPATH": paths},
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_a_separate_adapter_has_the_bytes_of_llama_cpps_script(
    folder: Path, tmp_path: Path, llama_cpp_source: Path
) -> None:
    train(folder, tmp_path / "a", 1, r=4, lora_alpha=12, target_modules=MATRICES)
    checkpoint = opened(folder)
    ours = tmp_path / "ours.gguf"
    write_adapter(ours, checkpoint, find_model(checkpoint.config), Adapter(tmp_path / "a"))
    convert_lora(llama_cpp_source, folder, tmp_path / "a", tmp_path / "theirs.gguf")
    mine, peer = GGUFReader(ours), GGUFReader(tmp_path / "theirs.gguf")
    found, wanted = (
        {t.name: (tuple(t.shape), t.tensor_type, t.data.tobytes()) for t in reader.tensors}
        for reader in (mine, peer)
    )
    assert found == wanted
    assert len(found) == 2 * 2 * len(MATRICES)
    for key in (
        "general.type", "general.architecture", "adapter.type", "adapter.lora.alpha",
    ):  # fmt: skip
        assert mine.get_field(key).contents() == peer.get_field(key).contents(), key


@pytest.mark.engine
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("case", ["all, rank-stabilised", "patterns"])
def test_logits_with_separate_adapters(folder: Path, tmp_path: Path, case: str) -> None:
    model = train(folder, tmp_path / "a", 3, **CASES[case]).eval()
    checkpoint, ids = opened(folder), list(range(5, 105))
    base = write_float(folder, tmp_path / "m.gguf", "F32")
    halves = [tmp_path / "one.gguf", tmp_path / "two.gguf"]
    for path, scale in zip(halves, (0.25, 0.75), strict=True):
        write_adapter(
            path, checkpoint, find_model(checkpoint.config), Adapter(tmp_path / "a", scale)
        )
    with torch.no_grad():
        expected = model(torch.tensor([ids])).logits[0].numpy()
    exact = Settings(256, 1, 1, kv_type="f32", outputs=128, flash_attention="off", repack=False)
    with worker.start("gguf", base, exact) as engine:
        assert np.abs(engine.logits(ids) - expected).max() > 0.1
    with worker.start("gguf", base, replace(exact, adapters=tuple(map(str, halves)))) as engine:
        assert np.abs(engine.logits(ids) - expected).max() < 1e-3


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("case", ["embedding and head", "modules saved whole"])
def test_what_can_only_be_merged(folder: Path, tmp_path: Path, case: str) -> None:
    train(folder, tmp_path / "a", 1, **CASES[case])
    checkpoint = opened(folder)
    with pytest.raises(BadInput, match="drop --lora-separate"):
        write_adapter(
            tmp_path / "x", checkpoint, find_model(checkpoint.config), Adapter(tmp_path / "a")
        )


# By family: which matrices llama.cpp cannot change at run time, of those that PEFT takes.
FAMILIES = {
    "mixtral": "experts",
    "olmoe": "experts",
    "granite4-experts": "",
    "gemma3n": "altup_projections|altup_unembed|modality_router|per_layer_model_projection",
    "ernie4_5": "", "exaone4": "", "glm4": "", "hunyuan": "", "seed_oss": "", "lfm2": "",
    "starcoder2": "", "apertus": "", "gpt_oss": "",
}  # fmt: skip
TOKENS = list(range(5, 65))


@pytest.mark.engine
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", FAMILIES)
def test_every_matrix_of_a_family(
    family_checkpoint: Callable[[str], Path], engine: Engine, tmp_path: Path, case: str
) -> None:
    """Merged they are PEFT's; separate they are its logits, or refused by name."""
    folder = family_checkpoint(case)
    model = train(folder, tmp_path / "a", 1, r=4, lora_alpha=8, target_modules="all-linear")
    checkpoint = opened(folder)
    written = find_model(checkpoint.config)
    if fixed := FAMILIES[case]:
        with pytest.raises(BadInput, match=f"change of '.*({fixed}).* drop --lora-separate"):
            write_adapter(tmp_path / "x", checkpoint, written, Adapter(tmp_path / "a"))
    wanted = model.merge_and_unload().state_dict()
    merged = opened(folder, Adapter(tmp_path / "a")).tensors
    changed = {name for name, tensor in merged.items() if tensor is not checkpoint.tensors[name]}
    found = {name for name, tensor in merged.items() if isinstance(tensor, MergedTensor)}
    assert len(changed) > 5
    for name in found:
        np.testing.assert_allclose(merged[name].float32(), wanted[name].numpy(), atol=3e-6)
    others = {"exclude_modules": rf".*({fixed}).*"} if fixed else {}
    apart = train(
        folder, tmp_path / "b", 2, r=4, lora_alpha=8, target_modules="all-linear", **others
    ).eval()
    with torch.no_grad():
        expected = apart(torch.tensor([TOKENS])).logits[0].numpy()
    write_adapter(tmp_path / "l.gguf", checkpoint, written, Adapter(tmp_path / "b"))
    base, scale = write_float(folder, tmp_path / "m.gguf", "F32"), np.abs(expected).max()
    assert np.abs(engine.logits(base, TOKENS) - expected).max() > 0.05 * scale
    exact = Settings(256, 1, 1, kv_type="f32", outputs=128, flash_attention="off", repack=False)
    with worker.start("gguf", base, replace(exact, adapters=(str(tmp_path / "l.gguf"),))) as run:
        assert np.abs(run.logits(TOKENS) - expected).max() < 2e-3 * scale
