"""Settings of transformers 5, as transformers 4 reads them."""

from __future__ import annotations

import json
from pathlib import Path

from pitool.convert.legacy import link_checkpoint, old_config, old_tokenizer


def test_the_rotation_is_moved_to_where_it_was() -> None:
    made = old_config(
        {
            "model_type": "llama",
            "dtype": "bfloat16",
            "rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0},
        }
    )
    assert made == {
        "model_type": "llama", "dtype": "bfloat16", "torch_dtype": "bfloat16", "rope_theta": 5e5,
        "rope_scaling": {"rope_type": "llama3", "factor": 8.0},
    }  # fmt: skip


def test_a_default_rotation_is_no_scaling() -> None:
    made = old_config({"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}})
    assert made == {"rope_theta": 1e6}


def test_families_with_names_of_their_own() -> None:
    rope = {"rope_type": "default", "rope_theta": 2e4, "partial_rotary_factor": 0.25}
    made = old_config({"model_type": "gpt_neox", "rope_parameters": rope})
    assert made == {"model_type": "gpt_neox", "rotary_emb_base": 2e4, "rotary_pct": 0.25}
    assert old_config({"rope_parameters": rope})["partial_rotary_factor"] == 0.25


def test_settings_and_layers_have_their_old_names() -> None:
    newer = {"model_type": "qwen3_moe", "num_local_experts": 4}
    assert old_config(newer) == {**newer, "num_experts": 4}
    hybrid = {
        "model_type": "granitemoehybrid",
        "layer_types": ["linear_attention", "full_attention"],
    }
    assert old_config(hybrid) == {**hybrid, "layer_types": ["mamba", "attention"]}
    other = {"model_type": "qwen3", "layer_types": ["full_attention"]}
    assert old_config(other) == other


def test_two_rotations() -> None:
    rope = {
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    }
    assert old_config({"rope_parameters": rope}) == {
        "rope_theta": 1e6, "rope_local_base_freq": 1e4,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
    }  # fmt: skip


def test_settings_of_transformers_4_stay() -> None:
    old = {"model_type": "llama", "rope_theta": 1e5, "rope_scaling": None}
    assert old_config(old) == old
    assert old_tokenizer({"tokenizer_class": "GPT2Tokenizer"}) == {
        "tokenizer_class": "GPT2Tokenizer"
    }


def test_a_folder_of_links_and_rewritten_settings(tmp_path: Path) -> None:
    source, folder = tmp_path / "a", tmp_path / "b"
    source.mkdir()
    folder.mkdir()
    (source / "config.json").write_text('{"rope_parameters": {"rope_theta": 7.0}}')
    (source / "tokenizer_config.json").write_text('{"tokenizer_class": "TokenizersBackend"}')
    (source / "model.safetensors").write_bytes(b"weights")
    link_checkpoint(source, folder)
    assert json.loads((folder / "config.json").read_text()) == {"rope_theta": 7.0}
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    assert tokenizer == {"tokenizer_class": "PreTrainedTokenizerFast"}
    assert (folder / "model.safetensors").read_bytes() == b"weights"
    bare = tmp_path / "c"
    bare.mkdir()
    link_checkpoint(source, bare, weights=False)
    assert {path.name for path in bare.iterdir()} == {"config.json", "tokenizer_config.json"}
