"""The keys of ``config.json`` that change nothing in the logits of any family, and when.

Token ids, types, training and generation settings; some only at the value that switches them off.
What is not here and is read by no family is refused (``settings``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

# Whatever their value.
ANY = frozenset((
    # the model's name and code, its files and versions
    "model_type", "architectures", "auto_map", "_name_or_path", "name_or_path",
    "transformers_version", "_commit_hash", "commit_hash", "tokenizer_class", "tokenizer_type",
    "tokenizer_name", "prefix", "language", "languages", "license", "tags", "title",
    "transformers.js_config", "id2label", "label2id", "num_labels", "problem_type",
    "finetuning_task", "task_specific_params", "is_llama_config", "trainable_parameters",
    "num_parameters", "total_params", "_num_labels",
    "predict_special_tokens", "unsloth_version", "unsloth_fixed",
    # types and how the code computes
    "torch_dtype", "dtype", "use_bfloat16", "fp16", "bf16", "fp32", "residual_in_fp32",
    "torchscript", "tf_legacy_loss", "_attn_implementation", "attn_implementation",
    "_attn_implementation_autoset", "_flash_attn_2_enabled", "use_flash_attn",
    "use_flash_attention", "use_flash_attention_2", "use_cache", "use_cache_quantization",
    "use_cache_kernel", "cache_implementation", "keys_to_ignore_at_inference", "fused_bias_fc",
    "fused_dropout_add_ln", "fused_mlp", "onnx_safe", "onnx_config", "neuron_config",
    "pretraining_tp", "tensor_parallel_size", "tp_size", "ep_size", "pp_size",
    "base_model_tp_plan", "sequence_parallel", "reorder_and_upcast_attn", "return_dict",
    "use_return_dict", "output_attentions", "output_hidden_states", "output_past",
    "output_scores", "return_dict_in_generate", "chunk_size_feed_forward", "is_decoder",
    # ids of tokens, and the other half of a multimodal model
    "bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "unk_token_id",
    "cls_token_id", "mask_token_id", "eod_token_id", "decoder_start_token_id",
    "forced_bos_token_id", "forced_eos_token_id", "bos_token", "eos_token", "pad_token",
    "unk_token", "image_token_id", "image_token_index", "boi_token_index", "eoi_token_index",
    "boi_token_id", "eoi_token_id", "boa_token_id", "eoa_token_id", "eoa_token_index",
    "video_token_id", "vision_start_token_id",
    "vision_end_token_id", "vision_token_id", "audio_token_id", "mm_tokens_per_image",
    "vision_config", "vision_feature_layer", "vision_feature_select_strategy", "audio_config",
    "vision_soft_tokens_per_image", "audio_soft_tokens_per_image", "projector_hidden_act",
    "multimodal_projector_bias",
    "spatial_merge_size", "original_vocab_size",
    # training
    "initializer_range", "initializer_factor", "init_std", "init_device", "_init_device",
    "embedding_initializer", "use_xavier_init", "mlp_init_scale", "attention_dropout",
    "attn_dropout", "attn_pdrop", "embd_pdrop", "resid_pdrop", "hidden_dropout",
    "hidden_dropout_prob", "classifier_dropout", "embedding_dropout", "embed_dropout",
    "emb_dropout", "residual_dropout", "dropout", "activation_dropout", "ffn_dropout",
    "attention_probs_dropout_prob", "summary_type", "summary_use_proj", "summary_activation",
    "summary_first_dropout", "summary_proj_to_labels", "router_aux_loss_coef",
    "output_router_logits", "router_jitter_noise", "z_loss_coefficient", "aux_loss_alpha",
    "seq_aux", "gradient_checkpointing", "use_unsloth_gradient_checkpointing", "training_args",
    "training_config", "train_config", "lora_config", "peft_config",
    # generation
    "max_length", "min_length", "max_new_tokens", "do_sample", "early_stopping", "num_beams",
    "num_beam_groups", "num_return_sequences", "diversity_penalty", "temperature", "top_k",
    "top_p", "typical_p", "min_p", "repetition_penalty", "length_penalty",
    "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids",
    "remove_invalid_values", "exponential_decay_length_penalty", "suppress_tokens",
    "begin_suppress_tokens", "seq_length", "max_sequence_length", "model_max_length",
    "max_seq_len", "max_seq_length",
))  # fmt: skip

EMPTY: tuple[Any, ...] = (None, False, 0, "", [], {})
# Where they are switched off.
OFF = frozenset((
    "use_mrope", "use_sliding_window", "rope_interleaved", "add_cross_attention",
    "cross_attention_hidden_size", "is_encoder_decoder", "tie_encoder_decoder",
    "pruned_heads", "use_qk_norm", "qk_layernorm", "qk_norm", "use_qkv_bias", "attention_bias",
    "mlp_bias", "lm_head_bias", "attention_qkv_bias", "qkv_bias", "attention_out_bias",
    "add_bias_linear", "embedding_bias", "no_rope_layers", "num_nextn_predict_layers",
    "num_mtp_layers", "mtp_num_hidden_layers", "alibi", "use_alibi",
    "use_bidirectional_attention", "mlp_only_layers", "num_experts", "num_local_experts",
    "n_routed_experts", "attn_logit_softcapping", "final_logit_softcapping", "logit_soft_cap",
    "logit_cap", "attention_sink", "use_attention_sink", "use_attention_sinks",
    "layer_group_size", "scale_attn_by_inverse_layer_idx", "use_parallel_residual",
    "parallel_residual", "parallel_attn", "bias", "use_bias",
))  # fmt: skip

Condition = Callable[[Any, Mapping[str, Any]], bool]


def _full(value: Any, _settings: Mapping[str, Any]) -> bool:
    """Every layer attends to everything."""
    return isinstance(value, list) and set(map(str, value)) <= {"full_attention", "attention"}


def _switched_off(_value: Any, settings: Mapping[str, Any]) -> bool:
    """The switch beside it is off."""
    return settings.get("use_sliding_window") is False


def _equal(*wanted: object) -> Condition:
    return lambda value, _settings: not isinstance(value, bool) and value in wanted


def _heads(value: Any, settings: Mapping[str, Any]) -> bool:
    return bool(value == settings.get("num_attention_heads"))


CONDITIONS: dict[str, Condition] = {
    "layer_types": _full,
    "sliding_window": _switched_off,
    "max_window_layers": _switched_off,
    "partial_rotary_factor": _equal(1, 1.0),
    "rotary_pct": _equal(1, 1.0),
    "rope_pct": _equal(1, 1.0),
    "rope_scaling_factor": _equal(1, 1.0),
    "rotary_scaling_factor": _equal(1, 1.0),
    "rope_ratio": _equal(1, 1.0),
    "logit_scale": _equal(1, 1.0),
    "attention_multiplier_scale": _equal(1, 1.0),
    "embedding_multiplier": _equal(1, 1.0),
    "residual_multiplier": _equal(1, 1.0),
    "logits_scaling": _equal(1, 1.0),
    "full_attn_mod": _equal(1),
    "interpolate_factor": _equal(1),
    "decoder_sparse_step": _equal(1),
    "n_head_kv": _heads,
    "position_embedding_type": lambda value, _: value in ("rope", "rotary"),
    "scale_attn_weights": lambda value, _: value is True,
    "activation": lambda value, _: value in ("swiglu", "silu"),
    "no_bias": lambda value, _: value is True,
    # transformers loads the file that it names
    "transformers_weights": _equal("model.safetensors", "model.safetensors.index.json"),
    "is_causal": lambda value, _: value is True,
    "use_rope": lambda value, _: value is True,
    "causal": lambda value, _: value is True,
    "normalization_type": lambda value, _: value in ("rmsnorm", "RMSNorm"),
}


def is_harmless(key: str, value: Any, settings: Mapping[str, Any]) -> bool:
    """Tell whether a key that no family has read changes nothing; null never does."""
    if value is None or key in ANY:
        return True
    if key in OFF:
        return any(value is each or (value == each and type(value) is type(each)) for each in EMPTY)
    return key in CONDITIONS and CONDITIONS[key](value, settings)
