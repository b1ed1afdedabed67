"""Which models are converted, and what of a model is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pitool.checkpoint.config import Config, read_config
from pitool.convert.gguf.families import FAMILIES, find_family
from pitool.convert.gguf.families.base import model_shape, read_sizes
from pitool.errors import BadInput
from tests.spec.shapes import config, shape
from tests.tiny import LLAMA


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_of_the_table_can_be_imported(name: str) -> None:
    family = find_family(config(model_type=name))
    assert family.architecture == name
    assert family.wanted(config(model_type=name))


# Weights as the model cards count them.
PARAMETERS = {
    "Llama-3.2-3B-Instruct": 3_212_749_824,
    "Meta-Llama-3.1-8B": 8_030_261_248,
    "Qwen2.5-0.5B-Instruct": 494_032_768,
    "Qwen2.5-1.5B-Instruct": 1_543_714_304,
    "Qwen2.5-7B-Instruct": 7_615_616_512,
    "SmolLM2-135M-Instruct": 134_515_008,
    "SmolLM2-1.7B-Instruct": 1_711_376_384,
    "TinyLlama-1.1B-Chat-v1.0": 1_100_048_384,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_real_models_have_the_weights_of_their_cards(shared_data: Path, name: str) -> None:
    read = read_config(shared_data / "configs" / name)
    model = model_shape(find_family(read), read)
    frequencies = sum(t.weights for t in model.tensors if t.name == "rope_freqs.weight")
    assert model.parameters - frequencies == PARAMETERS[name]


@pytest.mark.parametrize("name", ["Phi-3-mini-4k-instruct", "gemma-3-1b-it", "Qwen3-0.6B"])
def test_an_unknown_architecture_says_which_are_supported(shared_data: Path, name: str) -> None:
    read = read_config(shared_data / "configs" / name)
    with pytest.raises(BadInput, match="which pitool does not convert: supported are llama, qwen2"):
        find_family(read)


def test_settings_without_an_architecture() -> None:
    with pytest.raises(BadInput, match="'model_type' is missing"):
        find_family(Config({}, Path("config.json")))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "heads that do not divide": ({"num_key_value_heads": 3}, "8 heads do not divide among 3"),
    "a hidden size that does not": ({"hidden_size": 250}, "hidden size 250 does not divide"),
    "no layers": ({"num_hidden_layers": 0}, "'num_hidden_layers' is 0"),
    "no vocabulary": ({"vocab_size": None}, "'vocab_size' is missing"),
    "an odd head": ({"head_dim": 33}, "an odd head size"),
    "an unknown rope": ({"rope_scaling": {"type": "dynamic", "factor": 2}}, "'dynamic' is not"),
    "longrope": ({"rope_scaling": {"rope_type": "longrope"}}, "'longrope' is not supported"),
    "no factor": ({"rope_scaling": {"type": "linear"}}, "'factor' is missing"),
    "a factor of nothing": ({"rope_scaling": {"type": "linear", "factor": 0}}, "'factor'"),
    "a factor below": ({"rope_scaling": {"type": "yarn", "factor": -2}}, "'factor'"),
    "a factor that is a flag": ({"rope_scaling": {"type": "linear", "factor": True}}, "'factor'"),
    "a factor that is a text": ({"rope_scaling": {"type": "linear", "factor": "4"}}, "'factor'"),
    "llama3 without its numbers": (
        {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "'low_freq_factor' is missing",
    ),
    "llama3 without a range": (
        {"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0,
                          "high_freq_factor": 4.0, "original_max_position_embeddings": 512}},
        "'high_freq_factor'",
    ),
    "a sliding window": (
        {"model_type": "qwen2", "use_sliding_window": True}, "sliding window is not supported",
    ),
    "yarn with a scale of its own": (
        {"rope_scaling": {"type": "yarn", "factor": 4.0, "attention_factor": 2.0}},
        "'attention_factor' of its own",
    ),
    "a beta of nothing": (
        {"rope_scaling": {"type": "yarn", "factor": 4.0, "beta_fast": 0}}, "'beta_fast' of its own",
    ),
    "another activation": ({"hidden_act": "gelu"}, "'gelu'"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_be_converted_wrongly_is_refused(case: str) -> None:
    changes, message = REFUSED[case]
    changed = config(**changes)
    with pytest.raises(BadInput, match=message):
        list(find_family(changed).metadata(changed))
        find_family(changed).wanted(changed)


def test_a_head_size_that_is_null_is_the_quotient() -> None:
    assert read_sizes(config(head_dim=None)).head_dim == 32
    changed = config(model_type="qwen2", head_dim=None)
    keys = [key for key, _ in find_family(changed).metadata(changed)]
    assert "qwen2.attention.key_length" not in keys
    with pytest.raises(BadInput, match="does not divide among 8 heads"):
        read_sizes(config(head_dim=None, hidden_size=250))


def test_key_value_heads_default_to_all() -> None:
    values = {k: v for k, v in LLAMA.items() if k != "num_key_value_heads"}
    assert read_sizes(Config(values, Path("config.json"))).kv_heads == 8


@pytest.mark.parametrize(
    ("changes", "keys"),
    [
        ({}, {}),
        ({"rope_scaling": {"type": "linear", "factor": 4}}, {"type": "linear", "factor": 4.0}),
        (
            {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}},
            {"type": "yarn", "factor": 4.0, "original_context_length": 1024},
        ),
        (
            {
                "rope_scaling": {
                    "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256,
                }
            },
            {"type": "yarn", "factor": 4.0, "original_context_length": 256},
        ),
        (
            {"rope_scaling": {"rope_type": "yarn", "factor": 1.0, "beta_fast": 32, "beta_slow": 1,
                              "attention_factor": 1.0}},
            {"type": "yarn", "factor": 1.0, "original_context_length": 1024,
             "yarn_beta_fast": 32.0, "yarn_beta_slow": 1.0},
        ),
    ],
    ids=["default", "linear", "yarn", "yarn-original", "yarn-betas"],
)  # fmt: skip
def test_keys_of_rope_scaling(changes: dict[str, Any], keys: dict[str, Any]) -> None:
    changed = config(**changes)
    found = dict(find_family(changed).metadata(changed))
    prefix = "llama.rope.scaling."
    assert {k.removeprefix(prefix): v for k, v in found.items() if k.startswith(prefix)} == keys


def test_the_tensors_of_a_llama_in_order() -> None:
    names = [t.name for t in shape(num_hidden_layers=1, tie_word_embeddings=False).tensors]
    assert names == [
        "token_embd.weight", "output_norm.weight", "output.weight", "blk.0.attn_norm.weight",
        "blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.0.attn_v.weight",
        "blk.0.attn_output.weight", "blk.0.ffn_norm.weight", "blk.0.ffn_gate.weight",
        "blk.0.ffn_up.weight", "blk.0.ffn_down.weight",
    ]  # fmt: skip
