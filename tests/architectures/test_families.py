"""Which models are converted, and what of a model is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pitool.architectures.settings import Settings
from pitool.architectures.table import TABLE, describe
from pitool.catalog.tensor_types import QUANTISATIONS
from pitool.checkpoint.config import Config, read_config
from pitool.checkpoint.tensors import Tensor
from pitool.convert.gguf.model import find_model, model_shape
from pitool.errors import BadInput
from pitool.planning.formats import GGUF, ONNX
from pitool.planning.type_mixture import assign_types
from tests.planning.shapes import config, shape
from tests.tiny import LLAMA

GEMMA4 = {
    "layer_types": ["sliding_attention", "full_attention", "full_attention"],
    "vocab_size_per_layer_input": 512,
}
QWEN3_5 = {
    "layer_types": ["linear_attention", "full_attention", "linear_attention"], "head_dim": 128,
    "rms_norm_eps": 1e-6,
}  # fmt: skip
GEMMA3N = {
    **GEMMA4, "num_kv_shared_layers": 0, "activation_sparsity_pattern": [0.95] * 3,
}  # fmt: skip
# What the tiny Llama's settings need to be of another family.
OWN: dict[str, dict[str, Any]] = {
    "gemma2": {"head_dim": 32, "query_pre_attn_scalar": 32},
    "gemma3": {"head_dim": 32, "query_pre_attn_scalar": 32},
    "gemma3_text": {"head_dim": 32, "query_pre_attn_scalar": 32},
    "lfm2": {"layer_types": ["conv", "full_attention", "conv"]},
    "granitemoehybrid": {"layer_types": ["mamba", "attention", "mamba"], "mamba_n_heads": 8},
    "exaone4": {"sliding_window": None},
    "apertus": {"hidden_act": "xielu"},
    "bert": {"hidden_act": "gelu"},
    "gemma3n": GEMMA3N,
    "gemma3n_text": GEMMA3N,
    "gpt_oss": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "gemma4": GEMMA4,
    "gemma4_text": GEMMA4,
    "lfm2_moe": {"layer_types": ["conv", "full_attention", "conv"]},
    "gpt2": {"n_embd": 256, "n_layer": 3, "n_head": 8, "n_positions": 64},
    "gpt_neox": {"hidden_act": "gelu"},
    "olmoe": {"num_key_value_heads": 8},
    "qwen3_5": QWEN3_5,
    "qwen3_5_text": QWEN3_5,
    "qwen3_moe": {"norm_topk_prob": True, "num_experts": 4, "num_experts_per_tok": 2},
}


# What the tiny Llama has and they do not know.
ABSENT = {
    "bert": ("rms_norm_eps", "rope_theta"),
    "gpt2": ("rms_norm_eps", "rope_theta"),
    "gpt_neox": ("rms_norm_eps",),
}


@pytest.mark.parametrize("name", TABLE)
def test_every_family_of_the_table_gives_tensors_and_metadata_of_its_architecture(
    name: str,
) -> None:
    changed = config(model_type=name, **OWN.get(name, {}))
    for key in ABSENT.get(name, ()):
        del changed.values[key]
    model = find_model(changed)
    keys = dict(model.metadata())
    assert all(key.startswith((f"{model.architecture}.", "xielu.")) for key in keys)
    assert keys[f"{model.architecture}.block_count"] == 3
    assert keys[f"{model.architecture}.embedding_length"] == 256
    names = [tensor.name for tensor in model.shape.tensors]
    assert len(names) == len(set(names))
    assert {name.split(".")[1] for name in names if name.startswith("blk.")} == {"0", "1", "2"}


def test_a_multimodal_gemma_3_is_its_text_model() -> None:
    text = {**LLAMA, "head_dim": 32, "query_pre_attn_scalar": 32, "num_hidden_layers": 7}
    whole = Config({"model_type": "gemma3", "text_config": text}, Path("config.json"))
    model = model_shape(whole)
    assert (model.layers, model.hidden) == (7, 256)
    assert model.windows == (4096, 4096, 4096, 4096, 4096, 0, 4096)
    assert model.tied


@pytest.mark.parametrize("said", [True, False])
@pytest.mark.parametrize("head", [True, False])
def test_a_multimodal_model_is_tied_by_its_weights(said: bool, head: bool) -> None:
    """Transformers 4 reads the text's own setting, 5 the whole one's: both are taken."""
    text = {**LLAMA, **QWEN3_5, "tie_word_embeddings": said}
    names = ["model.language_model.embed_tokens.weight", *(["lm_head.weight"] if head else [])]
    index = {name: Tensor(name, "F32", (512, 256), Path("m"), 0, 0) for name in names}
    whole = Config({"model_type": "qwen3_5", "text_config": text}, Path("config.json"), index)
    assert describe(whole).tied != head


def test_an_lfm2_keeps_keys_for_its_attention_layers_alone() -> None:
    changed = config(model_type="lfm2", layer_types=["conv", "full_attention", "conv"])
    assert model_shape(changed).kv_rows == (0, 128, 0)


def test_a_qwen3_5_keeps_a_state_whatever_the_context() -> None:
    """Two layers: 32 heads of 128 x 128 numbers, and three tokens of what is convolved, in F32."""
    model = model_shape(config(model_type="qwen3_5_text", **QWEN3_5))
    assert model.kv_rows == (0, 4 * 128, 0)
    assert model.state_bytes == 2 * 4 * (32 * 128 * 128 + 3 * (32 + 2 * 16) * 128)


@pytest.mark.parametrize("stored", [True, False])
def test_layers_that_predict_further_tokens_are_written_where_there_are_any(stored: bool) -> None:
    changed = config(model_type="qwen3_5_text", mtp_num_hidden_layers=1, **QWEN3_5)
    name = "mtp.fc.weight" if stored else "model.norm.weight"
    there = Tensor(name, "F32", (256, 512), Path("model.safetensors"), 0, 524288)
    model = find_model(changed.with_tensors({name: there}))
    shape, keys = model.shape, dict(model.metadata())
    assert (shape.layers, shape.predictors) == (3, int(stored))
    assert keys["qwen35.block_count"] == 3 + stored
    assert ("qwen35.nextn_predict_layers" in keys) is stored
    further = [t for t in shape.tensors if t.layer == 3]
    assert len(further) == (15 if stored else 0)
    assert not any(shape.loaded(t) or shape.read_share(t.name) for t in further)
    assert len(shape.layer_caches()) == 3


# Weights as the model cards count them.
PARAMETERS = {
    "Phi-3-mini-4k-instruct": 3_821_079_552,
    "Qwen3-0.6B": 596_049_920,
    "Qwen3-1.7B": 1_720_574_976,
    "Qwen3-8B": 8_190_735_360,
    "Qwen3-30B-A3B": 30_532_122_624,
    "gemma-3-1b-it": 999_885_952,
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
    model = model_shape(read)
    frequencies = sum(t.weights for t in model.tensors if t.name == "rope_freqs.weight")
    assert model.parameters - frequencies == PARAMETERS[name]


E2B = {
    "hidden_size": 1536, "intermediate_size": 6144, "num_hidden_layers": 35,
    "num_attention_heads": 8, "num_key_value_heads": 1, "num_kv_shared_layers": 20,
    "use_double_wide_mlp": True, "final_logit_softcapping": 30.0,
    "layer_types": (["sliding_attention"] * 4 + ["full_attention"]) * 7,
}  # fmt: skip


def test_gemma_4_e2b_has_the_size_of_its_makers_file() -> None:
    """3,349,516,256 bytes in Q4_0, as published, with a vocabulary of some 15 MB."""
    whole = Config({"model_type": "gemma4", "text_config": E2B}, Path("config.json"))
    tensors = assign_types(model_shape(whole), QUANTISATIONS["Q4_0"])
    assert sum(t.bytes for t in tensors) == pytest.approx(3_349_516_256 - 15e6, rel=0.003)


GPT_OSS_20B = {
    "model_type": "gpt_oss", "hidden_size": 2880, "intermediate_size": 2880, "vocab_size": 201088,
    "num_hidden_layers": 24, "num_attention_heads": 64, "num_local_experts": 32,
    "max_position_embeddings": 131072, "quantization_config": {"quant_method": "mxfp4"},
}  # fmt: skip


def test_gpt_oss_20b_has_the_size_of_its_published_file() -> None:
    """20.9 billion weights, 3.6 of them active; the file has a vocabulary of some 13 MB."""
    model = model_shape(Config(GPT_OSS_20B, Path("config.json")))
    assert model.parameters == 20_914_757_184
    active = sum(t.weights * model.read_share(t.name) for t in model.tensors)
    assert active == pytest.approx(3.6e9, rel=0.01)
    typed = assign_types(model, QUANTISATIONS["Q8_0"])
    assert sum(t.bytes for t in typed) == pytest.approx(12_109_566_560 - 13e6, rel=1e-4)
    assert {t.type.name for t in typed if "_exps.weight" in t.tensor.name} == {"MXFP4"}


def test_a_file_that_is_a_little_otherwise_says_so() -> None:
    model = find_model(Config(GPT_OSS_20B, Path("config.json")))
    assert model.remark.startswith("llama.cpp rounds the range in which this model's rotation")
    table = {"rope_type": "yarn", "factor": 32.0, "original_max_position_embeddings": 4096}
    rounded = Config({**GPT_OSS_20B, "rope_scaling": table}, Path("config.json"))
    assert find_model(rounded).remark == ""


def test_settings_without_an_architecture() -> None:
    with pytest.raises(BadInput, match="'model_type' is missing"):
        find_model(Config({}, Path("config.json")))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a head size that Qwen2's loader has no place for": (
        {"model_type": "qwen2", "head_dim": 64}, "a custom head size is not supported",
    ),
    "biases that Qwen3's loader has no place for": (
        {"model_type": "qwen3", "attention_bias": True}, "biases of attention's output",
    ),
    "Gemma 2's head": (
        {"model_type": "gemma2", "head_dim": 32, "query_pre_attn_scalar": 32,
         "tie_word_embeddings": False},
        "a head that is not the embedding",
    ),
    "Granite's multiplier that llama.cpp takes for none": (
        {"model_type": "granite", "attention_multiplier": 0.0}, "'attention_multiplier' 0 is not",
    ),
    "LFM2 without convolutions": (
        {"model_type": "lfm2", "layer_types": ["full_attention"] * 3}, "layers of one kind",
    ),
    "SmolLM3 with Llama 3's divisors": (
        {"model_type": "smollm3", "num_hidden_layers": 4,
         "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                          "high_freq_factor": 4.0, "original_max_position_embeddings": 512}},
        "'llama3' is not supported",
    ),
    "YaRN whose range is empty": (
        {"rope_scaling": {"rope_type": "yarn", "factor": 4.0,
                          "original_max_position_embeddings": 1}},
        "YaRN from a context of 1 tokens",
    ),
    "a negative epsilon": ({"rms_norm_eps": -1.0}, "'rms_norm_eps'"),
    "heads that do not divide": ({"num_key_value_heads": 3}, "8 heads cannot be divided among 3"),
    "a hidden size that does not": ({"hidden_size": 250}, "hidden size 250 cannot be divided"),
    "no layers": ({"num_hidden_layers": 0}, "'num_hidden_layers' is 0"),
    "no vocabulary": ({"vocab_size": None}, "'vocab_size' is missing"),
    "an odd head": ({"head_dim": 33}, "an odd head size"),
    "an unknown rope": ({"rope_scaling": {"type": "ntk", "factor": 2}}, "'ntk' is not"),
    "longrope": (
        {"rope_scaling": {"rope_type": "longrope", "long_factor": [2.0] * 16,
                          "short_factor": [1.0] * 16}},
        "'longrope' is not supported",
    ),
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
        {"model_type": "qwen2", "use_sliding_window": True, "max_window_layers": 1},
        "sliding window is not supported",
    ),
    "yarn with a scale of its own": (
        {"rope_scaling": {"type": "yarn", "factor": 4.0, "attention_factor": 2.0}},
        "a custom 'attention_factor, mscale or mscale_all_dim'",
    ),
    "a beta of nothing": (
        {"rope_scaling": {"type": "yarn", "factor": 4.0, "beta_fast": 0}}, "a custom 'beta_fast'",
    ),
    "routing as it comes": (
        {"model_type": "qwen3_moe", "norm_topk_prob": False}, "without normalised weights",
    ),
    "dense layers among experts": (
        {"model_type": "qwen3_moe", "norm_topk_prob": True, "mlp_only_layers": [1]},
        "without experts",
    ),
    "other unrotated layers": (
        {"model_type": "smollm3", "no_rope_layers": [1, 0, 1]}, "only every fourth layer",
    ),
    "another scale of scores": (
        {"model_type": "gemma2", "query_pre_attn_scalar": 100, "head_dim": 32}, "this scale of",
    ),
    "another pattern of windows": (
        {"model_type": "gemma3_text", "head_dim": 32, "query_pre_attn_scalar": 32,
         "layer_types": ["full_attention"] * 3}, "this pattern of",
    ),
    "LongRoPE of another length": (
        {"model_type": "phi3", "original_max_position_embeddings": 64,
         "rope_scaling": {"type": "longrope", "long_factor": [1.0], "short_factor": [1.0]}},
        "needs 16 numbers",
    ),
    "a rotation beyond the head": (
        {"model_type": "stablelm", "partial_rotary_factor": 1.5}, "'partial_rotary_factor'",
    ),
    "a different activation": ({"hidden_act": "gelu"}, "'gelu'"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_be_converted_wrongly_is_refused(case: str) -> None:
    changes, message = REFUSED[case]
    changed = config(**changes)
    with pytest.raises(BadInput, match=message):
        find_model(changed)


def test_a_head_size_that_is_null_is_the_quotient() -> None:
    assert describe(config(head_dim=None)).sizes.head_dim == 32
    changed = config(model_type="qwen2", head_dim=None)
    keys = [key for key, _ in find_model(changed).metadata()]
    assert "qwen2.attention.key_length" not in keys
    with pytest.raises(BadInput, match="cannot be divided among 8 heads"):
        describe(config(head_dim=None, hidden_size=250))


def test_key_value_heads_default_to_all() -> None:
    values = {k: v for k, v in LLAMA.items() if k != "num_key_value_heads"}
    assert Settings(Config(values, Path("config.json"))).sizes().kv_heads == 8


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
    found = dict(find_model(changed).metadata())
    prefix = "llama.rope.scaling."
    assert {k.removeprefix(prefix): v for k, v in found.items() if k.startswith(prefix)} == keys


def test_the_tensors_of_a_llama_in_order() -> None:
    names = [t.name for t in shape(num_hidden_layers=1, tie_word_embeddings=False).tensors]
    assert names == [
        "token_embd.weight", "output_norm.weight", "output.weight", "blk.0.attn_norm.weight",
        "blk.0.ffn_norm.weight", "blk.0.attn_q.weight", "blk.0.attn_k.weight",
        "blk.0.attn_v.weight", "blk.0.attn_output.weight", "blk.0.ffn_gate.weight",
        "blk.0.ffn_up.weight", "blk.0.ffn_down.weight",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "context"),
    [
        ({"model_type": "mistral", "sliding_window": 64}, 64),
        ({"model_type": "phi3", "sliding_window": 64}, 64),
        ({"model_type": "mistral", "sliding_window": None}, 1024),
        ({"model_type": "gemma2", "sliding_window": 64, "head_dim": 32,
          "query_pre_attn_scalar": 32}, 1024),
    ],
    ids=["mistral", "phi3", "without", "kept"],
)  # fmt: skip
def test_the_context_of_a_gguf_ends_with_a_window_that_llama_cpp_drops(
    changes: dict[str, Any], context: int
) -> None:
    shape, metadata = model_shape(config(**changes)), dict(find_model(config(**changes)).metadata())
    assert metadata[f"{shape.architecture}.context_length"] == context
    assert (GGUF.reach(shape), ONNX.reach(shape)) == (context, 1024)
    assert (f"window of {context} tokens" in GGUF.limit(shape, context)) is (context < 1024)


LONGROPE = {"type": "longrope", "long_factor": [2.0] * 16, "short_factor": [1.0] * 16}


def longrope(original: int, **changes: Any) -> dict[str, Any]:
    return {"model_type": "phi3", "original_max_position_embeddings": original,
            "rope_scaling": LONGROPE, **changes}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "usual", "reach", "onnx"),
    [
        (longrope(512), 512, 1024, 512),
        (longrope(700), 512, 1024, 700),  # llama.cpp would round 700 up to 768
        (longrope(1024), 1024, 1024, 1024),
        (longrope(512, sliding_window=300), 300, 300, 512),
        (longrope(512, sliding_window=900), 512, 900, 512),
        ({"model_type": "phi3", "original_max_position_embeddings": 512}, 1024, 1024, 1024),
    ],
    ids=["stretched", "odd", "whole", "window before", "window behind", "plain"],
)
def test_the_usual_context_of_a_gguf_ends_with_the_short_factors_of_longrope(
    changes: dict[str, Any], usual: int, reach: int, onnx: int
) -> None:
    shape = model_shape(config(**changes))
    assert GGUF.context(shape, None, 4096) == usual
    assert GGUF.context(shape, 4096, 4096) == GGUF.reach(shape) == reach
    assert ONNX.context(shape, None, 4096) == ONNX.context(shape, 4096, 1) == onnx
    ends = usual < reach
    assert ("unless --context asks for more" in GGUF.limit(shape, usual)) is ends
    assert (f"--context {usual} avoids this" in GGUF.limit(shape, reach)) is ends
    assert (f"no more than {onnx} tokens" in ONNX.limit(shape, onnx)) is (onnx < 1024)


def test_longrope_whose_short_factors_llama_cpp_never_takes_is_refused() -> None:
    with pytest.raises(BadInput, match="LongRoPE from a context of 255 tokens"):
        find_model(config(**longrope(255)))


@pytest.mark.parametrize("kind", ["olmo2", "stablelm"])
def test_a_tied_head_is_written_where_the_loader_wants_one(kind: str) -> None:
    wanted = find_model(config(model_type=kind, tie_word_embeddings=True)).wanted()
    head = next(want for want in wanted if want.target.name == "output.weight")
    assert head.source == "model.embed_tokens.weight"
