"""Every setting of every native family that changes the mathematics, with values at its edges.

Data alone: ``test_settings`` makes tiny checkpoints of it, one setting at a time and two together.
Settings are spelled as transformers 4 does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

Changes = dict[str, Any]
CONTEXT = 256
TOKENS = 48


@dataclass(frozen=True, slots=True)
class Value:
    """What a setting is set to.

    ``idle``: transformers' logits do not change; None: too little to tell. ``refused``: what the
    reading or the reference says; ``unsaid``: what the GGUF's writer alone says. ``broken``:
    transformers computes nothing.
    """

    changes: Changes
    idle: bool | None = False
    refused: str = ""
    unsaid: str = ""
    broken: bool = False
    limit: float = 0.0


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting of a ``kind`` of the report's columns."""

    name: str
    kind: str
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Family:
    """A base that leaves out what it can, and the settings.

    ``joint``: refusals of two together. ``fails``: settings of which transformers 4 computes not
    every value; 5 does. ``newer``: transformers 4 does not know the family. ``limit``: how far
    llama.cpp's logits may be from transformers', as a share of the largest.
    """

    base: Changes
    settings: tuple[Setting, ...]
    joint: str = ""
    fails: tuple[str, ...] = ()
    newer: bool = False
    limit: float = 1e-3


BASE: Changes = {
    "hidden_size": 64, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": CONTEXT, "vocab_size": 300,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip


def values(key: str, *each: Any, **details: Any) -> tuple[Value, ...]:
    """Return the values of one key."""
    return tuple(Value({key: value}, **details) for value in each)


def scaled(kind: str, **numbers: Any) -> Changes:
    """Return the settings of a scaled rotation."""
    return {"rope_scaling": {"rope_type": kind, **numbers}}


def yarn(**numbers: Any) -> Changes:
    """Return YaRN's settings, with its usual numbers where no others are given."""
    return scaled("yarn", **{"factor": 4.0, ORIGINAL: 32, **numbers})


def llama3(**numbers: Any) -> Changes:
    """Return Llama 3's settings, with its usual numbers where no others are given."""
    usual = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, ORIGINAL: 64}
    return scaled("llama3", **{**usual, **numbers})


ORIGINAL = "original_max_position_embeddings"
FULL, SLIDING = "full_attention", "sliding_attention"
CUSTOM = "YaRN with a custom"
NO_LLAMA3 = "rope scaling 'llama3' is not supported"
NO_LONGROPE = "rope scaling 'longrope' is not supported"


def unscaled(unsaid: str = "") -> tuple[Setting, ...]:
    """Return what every rotation has: bases and plain scalings; ``unsaid``: all that are."""
    return (
        Setting("dynamic", "rope", (Value(scaled("dynamic", factor=2.0), idle=True),)),
        Setting(
            "linear",
            "rope",
            (
                Value(scaled("linear", factor=4.0), unsaid=unsaid),
                Value(scaled("linear", factor=0.5), unsaid=unsaid),
                Value(scaled("linear", factor=1000.0), unsaid=unsaid),
                Value({"rope_scaling": {"type": "linear", "factor": 3}}, unsaid=unsaid),
                Value({"rope_scaling": {"rope_type": "linear", "factor": 1.0}}, idle=True,
                      unsaid=unsaid),
                Value({"rope_scaling": None}, idle=True),
                Value(scaled("linear", factor=0), refused="'factor'", broken=True),
            ),
        ),
    )  # fmt: skip


def yarns(pairs: int) -> tuple[Setting, ...]:
    """Return YaRN's settings; llama.cpp cannot be told of most of its numbers."""

    def plain(idle: bool = False, **numbers: Any) -> Value:
        return Value(yarn(**numbers), idle=idle)

    def custom(**numbers: Any) -> Value:
        return Value(yarn(**numbers), unsaid=CUSTOM)

    return (
        Setting(
            "yarn",
            "rope",
            (
                plain(),
                plain(factor=1.0, idle=True),
                Value(yarn(factor=0.5), unsaid="YaRN with a factor of 0.5"),
                plain(factor=1000.0),
                plain(original_max_position_embeddings=4),
                Value(scaled("yarn", factor=4.0)),
            ),
        ),
        Setting(
            "yarn original",
            "rope",
            (
                Value(
                    yarn(original_max_position_embeddings=1),
                    unsaid="from a context of 1 tok" * (pairs > 4),
                ),
                plain(original_max_position_embeddings=1 << 30),
                Value({**yarn(), ORIGINAL: 32}),
                Value({**yarn(), ORIGINAL: 64}, refused="transformers 4 takes 32"),
                Value({**scaled("yarn", factor=4.0), ORIGINAL: 64}, refused="transformers 4 takes"),
            ),
        ),
        Setting(
            "yarn betas",
            "rope",
            (
                custom(beta_fast=16, beta_slow=2),
                custom(beta_fast=0, beta_slow=0),
                custom(beta_fast=0.25, beta_slow=2),
                plain(beta_fast=None, beta_slow=None),
                plain(beta_fast=32, beta_slow=1.0),
                Value(yarn(beta_slow=-1), refused="'beta_slow'", broken=True),
            ),
        ),
        Setting(
            "yarn mscale",
            "rope",
            (
                custom(mscale=1.0, mscale_all_dim=1.0),
                custom(mscale=0.7, mscale_all_dim=1.2),
                plain(mscale=0.7),
                plain(mscale=1.0, mscale_all_dim=0),
                plain(mscale=None, mscale_all_dim=1.0),
            ),
        ),
        Setting(
            "yarn attention_factor",
            "rope",
            (
                custom(attention_factor=1.3),
                custom(attention_factor=1),
                plain(attention_factor=None),
                Value(yarn(attention_factor=0), refused="'attention_factor'"),
            ),
        ),
        Setting(
            "yarn truncate",
            "rope",
            (
                custom(truncate=False),
                custom(truncate=None),
                plain(truncate=True),
            ),
        ),
    )


def llama3s(unsaid: str) -> tuple[Setting, ...]:
    """Return Llama 3's settings."""
    return (
        Setting(
            "llama3",
            "rope",
            (
                Value(llama3(), unsaid=unsaid),
                Value(llama3(factor=32.0, original_max_position_embeddings=16), unsaid=unsaid),
                Value(llama3(factor=1000.0), unsaid=unsaid),
                Value(llama3(factor=1.0), idle=True, unsaid=unsaid),
            ),
        ),
        Setting(
            "llama3 bounds",
            "rope",
            (
                Value(llama3(low_freq_factor=0.5, high_freq_factor=8), unsaid=unsaid),
                Value(llama3(low_freq_factor=3.9, high_freq_factor=4.0), unsaid=unsaid),
                Value(llama3(high_freq_factor=1.0), refused="'high_freq_factor'"),
            ),
        ),
    )


def _lists(pairs: int) -> Changes:
    return {
        "short_factor": [1.0 + i / 8 for i in range(pairs)],
        "long_factor": [2.0 + i for i in range(pairs)],
    }


def longropes(pairs: int, unsaid: str) -> tuple[Setting, ...]:
    """Return LongRoPE's settings for a head of so many pairs of numbers."""
    lists = _lists(pairs)
    return (
        Setting(
            "longrope",
            "rope",
            (
                Value(scaled("longrope", **lists), unsaid=unsaid, broken=True),
                Value(scaled("longrope", **lists, factor=4.0), unsaid=unsaid),
                Value({**scaled("longrope", **lists), ORIGINAL: 128}, unsaid=unsaid),
                Value({**scaled("longrope", **lists), ORIGINAL: 32}, unsaid=unsaid),
                Value(scaled("longrope", **lists, attention_factor=1.3), unsaid=unsaid),
                Value({**scaled("longrope", **lists, factor=2.0), ORIGINAL: 128}, unsaid=unsaid),
                Value({**scaled("longrope", **lists, factor=4.0), ORIGINAL: 128},
                      refused="transformers 4 takes 2 for 'factor'"),
            ),
        ),
    )  # fmt: skip


def ropes(
    pairs: int = 8, *, llama3: str = NO_LLAMA3, theta: str = "rope_theta",
) -> tuple[Setting, ...]:  # fmt: skip
    """Return the settings of a whole rotation; what the writer says of a kind that it cannot."""
    return (
        Setting("theta", "rope", values(theta, 100.0, 500_000, 2.5)),
        *unscaled(),
        *yarns(pairs),
        *llama3s(llama3),
        *longropes(pairs, NO_LONGROPE),
    )


def layered(settings: tuple[Setting, ...]) -> tuple[Setting, ...]:
    """Return the settings for a family with a rotation for each kind of layers."""

    def marked(value: Value) -> Value:
        table = value.changes.get("rope_scaling") or {}
        if ORIGINAL in value.changes:
            return replace(value, refused="beside the rope scaling", unsaid="")
        if "type" in table:
            said = "has no 'rope_type'|and the 'type'"  # transformers 5 adds a 'rope_type'
            return replace(value, refused=said, broken=True)
        return value

    return tuple(replace(each, values=tuple(map(marked, each.values))) for each in settings)


def beside(settings: tuple[Setting, ...]) -> tuple[Setting, ...]:
    """Return the settings for a family with a scaling of its own, which they are merged with."""

    def told(value: Value) -> Value | None:
        table = value.changes.get("rope_scaling", {})
        apart = table is None or "type" in table or "long_factor" in table
        return None if apart else replace(value, idle=None)

    kept = (replace(s, values=tuple(filter(None, map(told, s.values)))) for s in settings)
    return tuple(each for each in kept if each.values)


PARTIAL = Setting(
    "partial", "rope",
    values("partial_rotary_factor", 0.5, broken=True, refused="partial_rotary_factor'")
    + values("partial_rotary_factor", None, broken=True)
    + values("partial_rotary_factor", 1.0, idle=True),
)  # fmt: skip
NORM = Setting(
    "rms_norm_eps", "norm",
    (*values("rms_norm_eps", 0.1, 1e-3, 2.0), *values("rms_norm_eps", 0.0, idle=None),
                             Value({"rms_norm_eps": -1.0}, refused="'rms_norm_eps'", broken=True)),
)  # fmt: skip
ATTENTION_BIAS = Setting(
    "attention_bias", "bias",
    values("attention_bias", True) + values("attention_bias", False, idle=True),
)  # fmt: skip
NO_BIAS = "biases of attention's output or of the MLP are not supported"
LONE_BIAS = Setting(
    "attention_bias", "bias",
    values("attention_bias", True, unsaid=NO_BIAS) + values("attention_bias", False, idle=True),
)  # fmt: skip
MLP_BIAS = Setting(
    "mlp_bias", "bias", values("mlp_bias", True) + values("mlp_bias", False, idle=True)
)
HEADS = Setting("kv_heads", "heads", values("num_key_value_heads", 1, 4, None))


def tied(default: bool, *, unsaid: str = "") -> Setting:
    """Return the switch of the head; ``default`` is that of a missing key."""
    key = "tie_word_embeddings"
    other = values(key, not default, unsaid=unsaid)
    return Setting("tied", "heads", other + values(key, default, idle=True))


def activations(key: str = "hidden_act") -> Setting:
    """Return the activation of a gated MLP, of which llama.cpp knows SiLU alone."""
    unsaid = "the activation .* is not supported"
    return Setting(
        "activation", "activation",
        values(key, "gelu", "gelu_pytorch_tanh", "gelu_new", unsaid=unsaid)
        + values(key, "relu", "quick_gelu", refused=unsaid)
        + values(key, "silu", "swish", idle=True),
    )  # fmt: skip


def head_dims(unsaid: str = "", default: int = 16) -> Setting:
    """Return the size of a head."""
    return Setting(
        "head_dim", "heads",
        values("head_dim", 32, 8, unsaid=unsaid) + values("head_dim", default, idle=True),
    )  # fmt: skip


def switched(*, unsaid: str = "a sliding window is not supported") -> tuple[Setting, ...]:
    """Return the windows of Qwen's families, which have a switch."""

    def windowed(size: Any, first: Any = 1) -> Changes:
        return {"use_sliding_window": True, "sliding_window": size, "max_window_layers": first}

    return (
        Setting(
            "window", "window",
            (
                Value(windowed(8), unsaid=unsaid),
                Value(windowed(1, 0), unsaid=unsaid),
                Value(windowed(1000, 0), unsaid=unsaid, idle=True),
                Value(windowed(8, 3), idle=True),
                Value(windowed(None), idle=True),
                Value({"use_sliding_window": True}, idle=True),
                Value({"use_sliding_window": False, "sliding_window": 8}, idle=True),
            ),
        ),
        Setting(
            "layer_types", "window",
            (
                Value({**windowed(8), "layer_types": [SLIDING, FULL, SLIDING]}, unsaid=unsaid),
                Value({"layer_types": [FULL] * 3}, idle=True),
                Value({**windowed(8), "layer_types": [FULL] * 3}, idle=True),
            ),
        ),
    )  # fmt: skip


OWN_HEAD = "a custom head size is not supported"
LLAMA = Family(
    BASE,
    (
        *ropes(llama3=""), PARTIAL, NORM, ATTENTION_BIAS, MLP_BIAS, tied(False), activations(),
        HEADS, head_dims(),
    ),
)  # fmt: skip
MISTRAL = Family(
    {**BASE, "sliding_window": None, "head_dim": 16},
    (
        *ropes(llama3=""), PARTIAL, NORM, tied(False), activations(), HEADS, head_dims(),
        Setting("window", "window", (
            *values("sliding_window", 8, 1, 47),
            *values("sliding_window", 48, 1000, idle=True),
        )),
    ),
)  # fmt: skip
QWEN2 = Family(
    BASE,
    (
        *ropes(), PARTIAL, NORM, tied(False), activations(), HEADS, *switched(),
        Setting("attention_bias", "bias", values("attention_bias", True, False, idle=True)),
        head_dims(OWN_HEAD),
    ),
)  # fmt: skip
QWEN3 = Family(
    {**BASE, "head_dim": 16},
    (
        *ropes(), PARTIAL, NORM, LONE_BIAS, tied(False), activations(), HEADS, head_dims(),
        *switched(),
    ),
)  # fmt: skip
EXPERTS: Changes = {
    "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "head_dim": 16,
    "norm_topk_prob": True,
}  # fmt: skip
QWEN3_MOE = Family(
    {**BASE, **EXPERTS},
    (
        *ropes(), PARTIAL, NORM, tied(False), activations(), HEADS, head_dims(),
        Setting("attention_bias", "bias",
                values("attention_bias", False, idle=True)
                + values("attention_bias", True, unsaid=NO_BIAS)),
        Setting("window", "window", (
            Value({"use_sliding_window": True, "sliding_window": 8}, unsaid="sliding window"),
            Value({"use_sliding_window": False, "sliding_window": 8}, idle=True),
        )),
        Setting("experts", "heads", (
            *values("num_experts_per_tok", 1, 4),
            *values("num_experts", 8, 3),
            *values("num_local_experts", 8, refused="'num_local_experts'"),
            *values("moe_intermediate_size", 64),
            *values("norm_topk_prob", False, None, unsaid="routing without normalised"),
            *values("decoder_sparse_step", 2, refused="a dense layer"),
            *values("mlp_only_layers", [0], refused="layers without experts"),
            *values("mlp_only_layers", [], None, idle=True),
        )),
    ),
    fails=("kv_heads",),
)  # fmt: skip
MIXTRAL = Family(
    {**BASE, "num_local_experts": 4, "num_experts_per_tok": 2},
    (
        *ropes(llama3=""), PARTIAL, NORM, tied(False), activations(), HEADS, head_dims(),
        Setting("window", "window", (
            *values("sliding_window", 8, 1),
            *values("sliding_window", 48, None, idle=True),
        )),
        Setting("experts", "heads", (
            *values("num_experts_per_tok", 1, 4),
            *values("num_local_experts", 8, 3),
            *values("router_jitter_noise", 0.1, idle=True),
        )),
    ),
    fails=("kv_heads", *(each.name for each in ropes())),
)  # fmt: skip
OLMOE = Family(
    {**BASE, "num_experts": 4, "num_experts_per_tok": 2, "num_key_value_heads": 4},
    (
        *ropes(), PARTIAL, NORM, LONE_BIAS, tied(False), activations(),
        Setting("kv_heads", "heads", values("num_key_value_heads", None, idle=True)
                + values("num_key_value_heads", 2, 1, unsaid="fewer key-value heads")),
        Setting("experts", "heads", (
            *values("num_experts_per_tok", 1, 4),
            *values("num_experts", 8, 3),
            *values("norm_topk_prob", True, unsaid="routing with normalised"),
            *values("norm_topk_prob", False, None, idle=True),
            *values("clip_qkv", 0.5, refused="'clip_qkv'"),
        )),
    ),
)  # fmt: skip
GEMMA: Changes = {**BASE, "head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 8}
GELU = "the activation .* is not supported"
GEMMA_ACTIVATION = Setting(
    "activation", "activation",
    values("hidden_activation", "gelu", "silu", unsaid=GELU)
    + values("hidden_activation", "relu", refused=GELU)
    + values("hidden_activation", "gelu_pytorch_tanh", idle=True)
    + values("hidden_act", "silu", idle=True),
)  # fmt: skip
SCALE = "this scale of the attention scores is not supported"
GEMMA_SCALE = Setting(
    "query_pre_attn_scalar", "scale", values("query_pre_attn_scalar", 4, 24.5, unsaid=SCALE)
)
GEMMA_HEAD = Setting(
    "head_dim", "heads",
    (Value({"head_dim": 32, "query_pre_attn_scalar": 32}),
     Value({"head_dim": 8, "query_pre_attn_scalar": 8})),
)  # fmt: skip
PATTERN = "this pattern of sliding windows is not supported"
WINDOW = Setting(
    "window", "window",
    values("sliding_window", 1, 3, 47) + values("sliding_window", 48, 4000),
)  # fmt: skip
OWN_END = "a head that is not the embedding is not supported"
UNCAPPED = "a Gemma 2 model without soft-capping is not supported"
GEMMA2 = Family(
    GEMMA,
    (
        *ropes(), PARTIAL, NORM, LONE_BIAS, tied(True, unsaid=OWN_END),
        GEMMA_ACTIVATION, HEADS, GEMMA_HEAD,
        GEMMA_SCALE, WINDOW,
        Setting("layer_types", "window", (
            Value({"layer_types": [SLIDING, FULL, SLIDING]}, idle=True),
            Value({"layer_types": [FULL, SLIDING, FULL]}, unsaid=PATTERN),
            Value({"layer_types": [FULL] * 3}, unsaid=PATTERN),
        )),
        Setting("attention cap", "cap", (
            *values("attn_logit_softcapping", 1.0, 2000.0),
            *values("attn_logit_softcapping", None, unsaid=UNCAPPED),
        )),
        Setting("final cap", "cap", (
            *values("final_logit_softcapping", 5.0, 2000.0),
            *values("final_logit_softcapping", None, unsaid=UNCAPPED),
        )),
    ),
    joint=SCALE,
    fails=("kv_heads", "linear"),
)  # fmt: skip
SIX = {"num_hidden_layers": 6}
GEMMA3 = Family(
    {**GEMMA, **SIX},
    (
        *layered(ropes()), PARTIAL, NORM, LONE_BIAS, tied(True), GEMMA_ACTIVATION, HEADS,
        GEMMA_HEAD,
        GEMMA_SCALE, WINDOW,
        Setting("local theta", "rope", values("rope_local_base_freq", 100.0, 2.5)
                + values("rope_local_base_freq", 10000, idle=True)),
        Setting("pattern", "window", (
            *values("_sliding_window_pattern", 2, 1, idle=True),
            *values("sliding_window_pattern", 2, 3, unsaid=PATTERN),
            *values("sliding_window_pattern", 6, idle=True),
        )),
        Setting("layer_types", "window", (
            Value({"layer_types": [SLIDING] * 5 + [FULL]}, idle=True),
            Value({"layer_types": [FULL] + [SLIDING] * 5}, unsaid=PATTERN),
            Value({"layer_types": [FULL] * 6}, unsaid=PATTERN),
        )),
        Setting("attention cap", "cap", values("attn_logit_softcapping", 1.0, None, idle=True)),
        Setting("final cap", "cap", values("final_logit_softcapping", 5.0, 50.0)
                + values("final_logit_softcapping", None, idle=True)),
        Setting("direction", "window", values(
            "use_bidirectional_attention", True, refused="bidirectional")),
    ),
    joint=SCALE,
    fails=("kv_heads", "linear"),
)  # fmt: skip


TOO_SHORT = "LongRoPE from a context of"


def _phi3_long(pairs: int) -> Iterator[Value]:
    """Yield LongRoPE beside an original context, by the names that Phi-3 has for it."""
    for kind in ("longrope", "su", "yarn"):
        yield Value({"rope_scaling": {"type": kind, **_lists(pairs)}})
    long = {"rope_scaling": {"type": "longrope", **_lists(pairs)}}
    yield Value({**long, "max_position_embeddings": 2 * CONTEXT})
    yield Value({**long, ORIGINAL: 128}, unsaid=TOO_SHORT)
    yield Value({**long, ORIGINAL: 32}, unsaid=TOO_SHORT)
    yield Value(scaled("longrope", **_lists(pairs), attention_factor=1.3))
    yield Value(scaled("longrope", **_lists(pairs), factor=4.0), refused="transformers 4 takes 1")


PHI3 = Family(
    {**BASE, ORIGINAL: CONTEXT},
    (
        Setting("theta", "rope", values("rope_theta", 100.0, 1_000_000)),
        *unscaled("rope scaling 'linear' is not supported"),
        Setting("longrope", "rope", tuple(_phi3_long(8))),
        Setting("partial", "rope", values("partial_rotary_factor", 0.5, 0.25)
                + values("partial_rotary_factor", 1.0, idle=True)),
        Setting("window", "window", values("sliding_window", 8, 1)
                + values("sliding_window", 1000, None, idle=True)),
        NORM, tied(False), activations(), HEADS, head_dims(OWN_HEAD),
    ),
    joint="LongRoPE needs",
    fails=("kv_heads", "linear", "dynamic", "longrope"),
)  # fmt: skip
GPT2 = Family(
    {"n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": CONTEXT, "vocab_size": 300,
     "bos_token_id": 1, "eos_token_id": 2},
    (
        Setting("epsilon", "norm", values("layer_norm_epsilon", 0.1, 2.0)
                + values("layer_norm_epsilon", 0.0, idle=None)),
        Setting("activation", "activation", (
            *values("activation_function", "gelu", "silu", unsaid=GELU),
            *values("activation_function", "relu", refused=GELU),
            *values("activation_function", "gelu_pytorch_tanh", "gelu_new", idle=True),
        )),
        Setting("mlp", "heads", values("n_inner", 96, refused="a custom MLP size")
                + values("n_inner", 256, None, idle=True)),
        Setting("scale", "scale", (
            *values("scale_attn_weights", False, None, refused="unscaled attention"),
            *values("scale_attn_by_inverse_layer_idx", True, refused="a scale per layer"),
            *values("reorder_and_upcast_attn", True, idle=True),
        )),
        Setting("heads", "heads", values("n_head", 1, 2, 8)),
        tied(True),
    ),
)  # fmt: skip
LAYER_NORM = Setting(
    "epsilon", "norm",
    (*values("layer_norm_eps", 0.1, 2.0), *values("layer_norm_eps", 0.0, idle=None),
     Value({"layer_norm_eps": -1.0}, refused="'layer_norm_eps'", broken=True)),
)  # fmt: skip
SHARES = (0.5, 1.0)
NEOX_BASE = {key: value for key, value in BASE.items() if key != "num_key_value_heads"}
GPT_NEOX = Family(
    NEOX_BASE,
    (
        *ropes(2, theta="rotary_emb_base"),
        Setting("partial", "rope", (
            *values("rotary_pct", *SHARES),
            *values("rotary_pct", 0.25, idle=True),
            Value({"rotary_pct": 0.2}, broken=True, refused="an even number"),
        )),
        LAYER_NORM,
        Setting("residual", "heads", values("use_parallel_residual", False, None)
                + values("use_parallel_residual", True, idle=True)),
        Setting("attention_bias", "bias",
                values("attention_bias", False, refused="attention without biases")
                + values("attention_bias", True, idle=True)),
        Setting("activation", "activation", (
            *values("hidden_act", "gelu_new", "silu", unsaid=GELU),
            *values("hidden_act", "relu", refused=GELU),
            *values("hidden_act", "gelu", idle=True),
        )),
        tied(False),
    ),
    joint="LongRoPE needs",
)  # fmt: skip
STABLELM = Family(
    BASE,
    (
        *ropes(2),
        Setting("partial", "rope", (
            *values("partial_rotary_factor", *SHARES),
            *values("partial_rotary_factor", 0.25, idle=True),
            Value({"partial_rotary_factor": 0.2}, broken=True, refused="an even number"),
        )),
        LAYER_NORM,
        Setting("residual", "heads", values("use_parallel_residual", True)
                + values("use_parallel_residual", False, idle=True)),
        Setting("head norms", "norm", values("qk_layernorm", True)
                + values("qk_layernorm", False, idle=True)),
        Setting("bias", "bias", values("use_qkv_bias", True)
                + values("use_qkv_bias", False, idle=True)),
        activations(), tied(False), HEADS,
    ),
    fails=("kv_heads",),
    joint="LongRoPE needs",
)  # fmt: skip
GRANITE = Family(
    BASE,
    (
        *ropes(llama3=""), PARTIAL, NORM, ATTENTION_BIAS, MLP_BIAS, tied(False), activations(),
        HEADS, head_dims(OWN_HEAD),
        Setting("attention scale", "scale", values("attention_multiplier", 0.2, -0.5)
                + values("attention_multiplier", 0.0, unsaid="'attention_multiplier'")
                + values("attention_multiplier", 1.0, idle=True)),
        Setting("embedding scale", "scale", values("embedding_multiplier", 12.0)
                + values("embedding_multiplier", 0.0, unsaid="'embedding_multiplier'")
                + values("embedding_multiplier", 1.0, idle=True)),
        Setting("residual scale", "scale", values("residual_multiplier", 0.22, -1.0)
                + values("residual_multiplier", 0.0, unsaid="'residual_multiplier'")),
        Setting("logits scale", "scale", values("logits_scaling", 8.0, 0.5)
                + values("logits_scaling", 0.0, refused="'logits_scaling'", broken=True)),
    ),
    fails=("kv_heads", "linear"),
)  # fmt: skip
KINDS = ["conv", FULL, "conv"]
LFM2 = Family(
    {**BASE, "layer_types": KINDS, "block_auto_adjust_ff_dim": False},
    (
        *ropes(), PARTIAL, HEADS,
        Setting("epsilon", "norm", values("norm_eps", 0.1, 2.0)
                + values("norm_eps", 0.0, idle=None)
                + values("rms_norm_eps", 0.1, idle=True)),
        Setting("tied", "heads", values("tie_embedding", False)
                + values("tie_embedding", True, idle=True)),
        Setting("layer_types", "window", (
            *values("layer_types", ["conv", "conv", FULL]),
            *values("layer_types", [FULL] * 3, ["conv"] * 3, unsaid="layers of one kind"),
            Value({"layer_types": None, "full_attn_idxs": [0, 2]}),
        )),
        Setting("convolution", "heads", (
            *values("conv_L_cache", 2, 5),
            *values("conv_bias", True, refused="a convolution with a bias"),
            *values("conv_bias", False, idle=True),
        )),
        Setting("mlp", "heads", (
            Value({"block_auto_adjust_ff_dim": True, "block_multiple_of": 16}),
            Value({"block_auto_adjust_ff_dim": True, "block_multiple_of": 8,
                   "block_ffn_dim_multiplier": 2.0}),
            *values("block_ff_dim", 80),
        )),
    ),
    fails=("kv_heads",),
)  # fmt: skip
OLMO2 = Family(
    BASE,
    (
        *ropes(), PARTIAL, NORM, tied(False), activations(), HEADS,
        Setting("attention_bias", "bias", (
            *values("attention_bias", True, unsaid=NO_BIAS),
            *values("attention_bias", False, idle=True),
        )),
    ),
    fails=("kv_heads", *(each.name for each in ropes())),
)  # fmt: skip
FOUR = {"num_hidden_layers": 4}
ROTATED = "only every fourth layer can be unrotated"


def _windowed(size: Any, **more: Any) -> Changes:
    return {"use_sliding_window": True, "sliding_window": size, **more}


SMOLLM3 = Family(
    {**BASE, **FOUR},
    (
        *ropes(), PARTIAL, NORM, LONE_BIAS, tied(True), activations(),
        HEADS,
        Setting("mlp_bias", "bias", values("mlp_bias", True, unsaid=NO_BIAS)),
        head_dims(OWN_HEAD),
        Setting("unrotated", "rope", (
            *values("no_rope_layer_interval", 2, 3, unsaid=ROTATED),
            *values("no_rope_layer_interval", 4, idle=True),
            *values("no_rope_layers", [1, 1, 1, 0], idle=True),
            *values("no_rope_layers", [0, 1, 1, 1], [1, 1, 1, 1], unsaid=ROTATED),
        )),
        Setting("window", "window", (
            Value(_windowed(8), unsaid="a sliding window"),
            Value(_windowed(None), idle=True),
            Value({"use_sliding_window": False, "sliding_window": 8}, idle=True),
        )),
        Setting("layer_types", "window", (
            Value(_windowed(8, layer_types=[SLIDING, FULL, SLIDING, FULL]),
                  unsaid="a sliding window"),
            Value({"layer_types": [FULL] * 4}, idle=True),
        )),
    ),
    fails=("kv_heads",),
)  # fmt: skip


def rotations(**full: Any) -> Changes:
    """Return Gemma 4's rotations, with other numbers in layers without a window."""
    usual = {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1e6}
    near = {"rope_type": "default", "rope_theta": 10_000.0}
    return {"rope_parameters": {FULL: {**usual, **full}, SLIDING: near}}


TOGETHER = "do not go together"
LENDERS = "of other layers than the last two"
GEMMA4 = Family(
    {**BASE, "num_hidden_layers": 6, "head_dim": 16, "global_head_dim": 32, "sliding_window": 8,
     "layer_types": [SLIDING, FULL] * 3, "hidden_size_per_layer_input": 16,
     "vocab_size_per_layer_input": 300, "num_kv_shared_layers": 2},
    (
        NORM, LONE_BIAS, tied(True),
        Setting("activation", "activation",
                values("hidden_activation", "gelu", "silu", unsaid=GELU)
                + values("hidden_activation", "gelu_pytorch_tanh", idle=True)),
        Setting("kv_heads", "heads", values("num_key_value_heads", 1, 4)),
        Setting("head_dim", "heads", values("head_dim", 8) + values("global_head_dim", 16, 64)),
        Setting("window", "window", values("sliding_window", 1, 3)),
        Setting("layer_types", "window", (
            *values("layer_types", [FULL, FULL, SLIDING, FULL, SLIDING, FULL]),
            *values("layer_types", [SLIDING, SLIDING, FULL, SLIDING, SLIDING, FULL],
                    unsaid=LENDERS),
            *values("layer_types", [FULL] * 6, unsaid="layers of one kind"),
            *values("layer_types", [FULL] * 4 + [SLIDING, FULL], refused=TOGETHER, broken=True),
        )),
        Setting("borrowing", "heads", (
            *values("num_kv_shared_layers", 0, 4),
            *values("num_kv_shared_layers", 1, 3, unsaid=LENDERS),
            *values("num_kv_shared_layers", 5, refused=TOGETHER, broken=True),
            *values("use_double_wide_mlp", True),
            Value({"use_double_wide_mlp": True, "num_kv_shared_layers": 0}),
        )),
        Setting("inputs", "heads", (
            *values("hidden_size_per_layer_input", 32),
            Value({"hidden_size_per_layer_input": 0, "num_kv_shared_layers": 0}),
            *values("vocab_size_per_layer_input", 320, idle=True,
                    unsaid="'vocab_size_per_layer_input'"),
        )),
        Setting("rope", "rope", (
            Value(rotations(), idle=True),
            Value(rotations(rope_theta=100.0)),
            Value(rotations(partial_rotary_factor=0.5)),
            Value(rotations(partial_rotary_factor=1.0)),
            Value(rotations(factor=4.0)),
            Value({"rope_parameters": {FULL: {"rope_type": "default", "rope_theta": 100.0},
                                       SLIDING: {"rope_type": "default", "rope_theta": 50.0}}}),
            Value({"rope_parameters": {
                FULL: {"rope_type": "default", "rope_theta": 100.0},
                SLIDING: {"rope_type": "proportional", "rope_theta": 50.0,
                          "partial_rotary_factor": 0.5}}},
                  unsaid="in sliding-window layers"),
            Value(rotations(rope_type="linear", factor=2.0), refused="'rope_parameters'"),
        )),
        Setting("final cap", "cap", values("final_logit_softcapping", 5.0, 50.0)),
        Setting("others", "heads", (
            *values("enable_moe_block", True, refused="a mixture of experts", broken=True),
            *values("attention_k_eq_v", True, refused="values are its keys"),
            *values("use_bidirectional_attention", "all", refused="'use_bidirectional"),
            *values("use_bidirectional_attention", "vision", idle=True),
        )),
    ),
    joint=f"{TOGETHER}|{LENDERS}",
    newer=True,
)  # fmt: skip
LINEAR = "linear_attention"
SECTIONS = "'mrope_section'"
QWEN3_5 = Family(
    {**BASE, **FOUR, "head_dim": 32, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
     "linear_key_head_dim": 16, "linear_value_head_dim": 16},
    (
        *ropes(4), tied(False), activations(), LONE_BIAS,
        Setting("kv_heads", "heads", values("num_key_value_heads", 1, 4)),
        Setting("partial", "rope", values("partial_rotary_factor", 0.5, 0.2, 1.0)
                + values("partial_rotary_factor", 0.25, idle=True)),
        Setting("sections", "rope", (
            *(Value(scaled("default", mrope_section=each, mrope_interleaved=True), idle=True)
              for each in ([2, 1, 1], [11, 11, 10])),
            Value(scaled("default", mrope_section=[1, 1, 1]), idle=True, unsaid=SECTIONS),
            Value(scaled("default", mrope_section=[20, 10, 10]), idle=True, unsaid=SECTIONS),
        )),
        Setting("rms_norm_eps", "norm", values("rms_norm_eps", 1e-6, idle=True)
                + values("rms_norm_eps", 0.1, 1e-3, unsaid="'rms_norm_eps'")),
        Setting("head_dim", "heads", values("head_dim", 64)
                + values("head_dim", 16, unsaid=SECTIONS)),
        Setting("layer_types", "window", (
            *values("layer_types", [LINEAR, FULL, FULL, LINEAR], [FULL, LINEAR, LINEAR, LINEAR]),
            *values("layer_types", [LINEAR] * 3 + [FULL], idle=True),
            *values("layer_types", [FULL] * 4, [LINEAR] * 4, unsaid="layers of one kind"),
            *values("full_attention_interval", 2),
            *values("full_attention_interval", 4, idle=True),
        )),
        Setting("delta heads", "heads", (
            *values("linear_num_value_heads", 2, 8),
            *values("linear_num_value_heads", 3, refused="cannot be divided", broken=True),
            *values("linear_num_key_heads", 1, 4),
            Value({"linear_key_head_dim": 8, "linear_value_head_dim": 8}),
            *values("linear_key_head_dim", 8, unsaid="of two sizes"),
            *values("linear_value_head_dim", 32, unsaid="of two sizes"),
        )),
        Setting("taps", "heads", values("linear_conv_kernel_dim", 2, 5)),
        Setting("gate", "heads", values("attn_output_gate", True, idle=True)
                + values("attn_output_gate", False, refused="without output gates")),
        Setting("predictor", "heads", values("mtp_num_hidden_layers", 1, 0, idle=True)
                + values("mtp_use_dedicated_embeddings", True, refused="embedding of its own")),
    ),
    joint="LongRoPE needs|is not supported for . rotated pairs",
    newer=True,
)  # fmt: skip

MAMBA, ATTENTION = "mamba", "attention"
GRANITE_HYBRID = Family(
    {**BASE, "layer_types": [MAMBA, ATTENTION, MAMBA], "mamba_n_heads": 4, "mamba_d_state": 16,
     "num_local_experts": 0, "num_experts_per_tok": 0, "shared_intermediate_size": 48,
     "attention_multiplier": 0.25},
    (
        NORM, tied(False), activations(), HEADS,
        Setting("attention_bias", "bias", values("attention_bias", True)),
        Setting("positions", "rope", (
            *values("position_embedding_type", "rope"),
            *values("position_embedding_type", "nope", None, idle=True),
            Value({"position_embedding_type": "rope", "rope_theta": 100.0}),
            Value({"position_embedding_type": "rope", **llama3()}),
            Value({"position_embedding_type": "rope", **yarn()}),
            Value(llama3(), idle=True),
        )),
        Setting("layer_types", "window", (
            *values("layer_types", [ATTENTION, MAMBA, MAMBA]),
            *values("layer_types", [MAMBA] * 3, unsaid="layers of one kind"),
            *values("layer_types", [ATTENTION] * 3),
            Value({"layer_types": [ATTENTION] * 3, "position_embedding_type": "rope"}),
            *values("layer_types", None, broken=True, unsaid="layers of one kind"),
        )),
        Setting("mamba", "heads", (
            *values("mamba_n_heads", 2, 8),
            *values("mamba_d_state", 8, 32),
            *values("mamba_d_conv", 2),
            *values("mamba_n_groups", 2, refused="several groups"),
            *values("mamba_expand", 1, unsaid="twice as wide"),
            *values("mamba_d_head", "auto", 32, idle=True),
            *values("mamba_chunk_size", 8, idle=True),
            *values("time_step_limit", [0.0, 0.1], refused="'time_step_limit'"),
            *values("mamba_conv_bias", False, refused="without a bias"),
            *values("mamba_proj_bias", True, refused="a bias in Mamba"),
        )),
        Setting("mlp", "heads", values("shared_intermediate_size", 80)
                + values("intermediate_size", 80, idle=True)),
        Setting("experts", "heads", (
            Value({"num_local_experts": 4, "num_experts_per_tok": 2, "intermediate_size": 32}),
            Value({"num_local_experts": 8, "num_experts_per_tok": 1}),
            Value({"num_local_experts": 4, "num_experts_per_tok": 4,
                   "layer_types": [ATTENTION] * 3, "position_embedding_type": "rope"}),
            Value({"num_local_experts": 4, "num_experts_per_tok": 4,
                   "layer_types": [ATTENTION] * 3}, unsaid="attention without positions"),
        )),
        Setting("scales", "scale", (
            *values("attention_multiplier", 0.5), *values("embedding_multiplier", 12.0),
            *values("residual_multiplier", 0.22), *values("logits_scaling", 8.0),
        )),
    ),
    joint="attention without positions",
    fails=("kv_heads",),
)  # fmt: skip
MINISTRAL_ROPE = {
    "rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0, ORIGINAL: 16, "mscale": 1.0,
    "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.1,
}  # fmt: skip

# A rotation that YaRN's range of dimensions is a part of.
WIDE = {"rope_theta": 100.0, ORIGINAL: 32}


def ministral(**numbers: Any) -> Value:
    """Return a value of the rotation, which has the temperature of attention in it."""
    details = {key: numbers.pop(key) for key in ("idle", "refused", "unsaid") if key in numbers}
    return Value({"rope_scaling": {**MINISTRAL_ROPE, **numbers}}, **details)


MINISTRAL3 = Family(
    {**BASE, "head_dim": 16, "rope_scaling": MINISTRAL_ROPE},
    (
        NORM, tied(False), activations(), head_dims(),
        Setting("kv_heads", "heads", values("num_key_value_heads", 1, 4)),
        Setting("temperature", "scale", (
            ministral(llama_4_scaling_beta=0.5), ministral(llama_4_scaling_beta=0.0),
            ministral(max_position_embeddings=64, idle=True),
        )),
        Setting("yarn", "rope", (
            ministral(factor=16.0), ministral(original_max_position_embeddings=8),
            ministral(rope_theta=100.0), ministral(rope_type="linear", unsaid="without YaRN"),
            ministral(rope_type="default", unsaid="without YaRN"),
        )),
        Setting("betas", "rope", (
            ministral(beta_fast=4.0, beta_slow=0.25, **WIDE), ministral(beta_fast=32.0, idle=True),
        )),
        Setting("mscale", "rope", (
            ministral(mscale_all_dim=0.5), ministral(mscale=0.7, mscale_all_dim=1.2),
            ministral(attention_factor=1.3), ministral(mscale=None, mscale_all_dim=None),
        )),
        Setting("truncate", "rope", (ministral(truncate=False, **WIDE, unsaid="'truncate'"),)),
        Setting("window", "window", values("sliding_window", 8)
                + values("sliding_window", 48, None, idle=True)),
    ),
    newer=True,
)  # fmt: skip
LFM2_MOE = Family(
    {**BASE, **FOUR, "layer_types": ["conv", FULL, FULL, "conv"], "num_dense_layers": 1,
     "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
    (
        *ropes(),
        Setting("kv_heads", "heads", values("num_key_value_heads", 1, 4)),
        Setting("epsilon", "norm", values("norm_eps", 0.1, 2.0)
                + values("rms_norm_eps", 0.1, idle=True)),
        Setting("tied", "heads", values("tie_embedding", False)
                + values("tie_embedding", True, idle=True)),
        Setting("layer_types", "window", (
            *values("layer_types", [FULL, "conv", FULL, "conv"]),
            *values("layer_types", [FULL] * 4, unsaid="layers of one kind"),
        )),
        Setting("convolution", "heads", (
            *values("conv_L_cache", 2, 5),
            *values("conv_bias", True, refused="a convolution with a bias"),
        )),
        Setting("experts", "heads", (
            *values("num_experts_per_tok", 1, 4),
            *values("num_experts", 8),
            *values("moe_intermediate_size", 64),
            *values("num_dense_layers", 0, 2, 4),
            *values("norm_topk_prob", False, unsaid="routing without normalised"),
            *values("use_expert_bias", False, unsaid="routing without a bias"),
            *values("routed_scaling_factor", 2.0, refused="a factor on the experts"),
            *values("routed_scaling_factor", 1.0, idle=True),
        )),
    ),
    newer=True,
)  # fmt: skip

ERNIE4_5 = Family(
    {**BASE, "head_dim": 16, "rope_theta": 10000.0},
    (
        *ropes(), PARTIAL, NORM, tied(True), activations(), HEADS, head_dims(),
        Setting("use_bias", "bias", values("use_bias", True, unsaid=NO_BIAS)
                + values("use_bias", False, idle=True)),
    ),
    fails=("kv_heads",),
)  # fmt: skip
SEED_OSS = Family(
    {**BASE, "head_dim": 16},
    (
        *ropes(), PARTIAL, NORM, tied(False), activations(), HEADS, head_dims(),
        Setting("attention_bias", "bias", values("attention_bias", False)
                + values("attention_bias", True, idle=True)),
        Setting("other biases", "bias", values("attention_out_bias", True, unsaid=NO_BIAS)
                + values("mlp_bias", True, unsaid=NO_BIAS)),
        Setting("dropout", "bias", values("residual_dropout", 0.5, idle=True)),
    ),
    fails=("kv_heads",),
)  # fmt: skip


def stretched(alpha: Any) -> Changes:
    """Return Hunyuan's scaling of the rotation's base."""
    return scaled("dynamic", factor=1.0, alpha=alpha)


HUNYUAN = Family(
    {**BASE, "head_dim": 16},
    (
        Setting("theta", "rope", values("rope_theta", 100.0, 500_000)),
        Setting("alpha", "rope", (
            Value(stretched(1000.0)), Value(stretched(2.0)), Value(stretched(1.0), idle=True),
        )),
        Setting("scaling", "rope", (Value(yarn()), Value(scaled("linear", factor=4.0)))),
        PARTIAL, NORM, LONE_BIAS, tied(False), activations(), HEADS, head_dims(),
    ),
    fails=("kv_heads",),
)  # fmt: skip
SIXTY_FOUR = {"num_hidden_layers": 64, "hidden_size": 32, "num_attention_heads": 2}
EXAONE4 = Family(
    {**BASE, **FOUR, "sliding_window": None, "layer_types": [FULL] * 4},
    (
        *ropes(llama3=""), PARTIAL, NORM, tied(False), activations(), HEADS,
        head_dims(OWN_HEAD),
        Setting("window", "window", (
            Value({"sliding_window": 8, "layer_types": [SLIDING, SLIDING, SLIDING, FULL]},
                  unsaid="a sliding window is not supported"),
            Value({"sliding_window": 8, "layer_types": None, "sliding_window_pattern": 2},
                  unsaid="a sliding window is not supported"),
            Value({"sliding_window_pattern": 2}, idle=True),
            *values("sliding_window", 8, unsaid="layers without positions"),
            Value({**SIXTY_FOUR, "sliding_window": 8, "layer_types": None}),
            Value({**SIXTY_FOUR, "sliding_window": 8,
                   "layer_types": [FULL, FULL, SLIDING, SLIDING] * 16}),
            Value({**SIXTY_FOUR, "layer_types": [FULL] * 64}, unsaid="of 64 layers without"),
        )),
    ),
    fails=("kv_heads",),
)  # fmt: skip
GLM4 = Family(
    {**BASE, "head_dim": 16},
    (
        Setting("theta", "rope", values("rope_theta", 100.0, 500_000)),
        Setting("partial", "rope", values("partial_rotary_factor", 0.25, 1.0)
                + values("partial_rotary_factor", 0.5, idle=True)),
        NORM, tied(False), activations(), HEADS, head_dims(),
        Setting("attention_bias", "bias", values("attention_bias", False)
                + values("attention_bias", True, idle=True)),
    ),
    fails=("kv_heads",),
)  # fmt: skip

STARCODER2 = Family(
    {**BASE, "num_key_value_heads": 2},
    (
        *ropes(), PARTIAL, HEADS,
        Setting("epsilon", "norm", values("norm_epsilon", 0.1, 2.0)
                + values("rms_norm_eps", 0.1, idle=True)),
        tied(True), head_dims(OWN_HEAD),
        Setting("activation", "activation",
                values("hidden_act", "gelu", "silu", unsaid=GELU)
                + values("hidden_act", "relu", refused=GELU)
                + values("hidden_act", "gelu_pytorch_tanh", "gelu_new", idle=True)),
        Setting("use_bias", "bias", values("use_bias", False, unsaid="without biases")
                + values("use_bias", True, idle=True)),
        Setting("window", "window", values("sliding_window", 8, 1)
                + values("sliding_window", 48, None, idle=True)),
        Setting("dropout", "bias", values("embedding_dropout", 0.5, idle=True)),
    ),
    fails=("kv_heads", *(each.name for each in ropes())),
)  # fmt: skip
NO_SCALING = Setting(
    "no rope", "rope", values("rope_scaling", None, idle=None, refused="'rope_scaling' is null")
)
APERTUS = Family(
    {**BASE, "rope_scaling": {"rope_type": "default"}, "rope_theta": 10000.0},
    (
        *beside(ropes(llama3="")), PARTIAL, NORM, tied(False), HEADS, head_dims(),
        Setting("activation", "activation",
                values("hidden_act", "silu", "gelu", unsaid="the activation .* is not supported")
                + values("hidden_act", "relu", refused="the activation .* is not supported")
                + values("hidden_act", "xielu", idle=True)),
        ATTENTION_BIAS, NO_SCALING,
    ),
    fails=("kv_heads", "linear"),
)  # fmt: skip
GPT_OSS_ROPE = {"rope_type": "yarn", "factor": 4.0, ORIGINAL: 32}
ONE_KIND = "layers of one kind alone"
GPT_OSS = Family(
    {**BASE, "head_dim": 16, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 8,
     "rope_scaling": GPT_OSS_ROPE},
    (
        *(each for each in beside(ropes()) if each.name != "yarn truncate"),
        NO_SCALING, NORM, tied(False), head_dims(),
        Setting("kv_heads", "heads", values("num_key_value_heads", 1, 4)),
        Setting("activation", "activation", values("hidden_act", "gelu", "relu", idle=True)),
        Setting("experts", "heads", (
            *values("num_experts_per_tok", 1, 4),
            *values("num_local_experts", 8, 3),
            *values("intermediate_size", 96),
        )),
        Setting("clamp", "scale", values("swiglu_limit", 7.0, idle=True)
                + values("swiglu_limit", 3.0, refused="another bound of the experts")
                + values("swiglu_alpha", 2.0, refused="another sigmoid of the experts")),
        Setting("attention_bias", "bias",
                values("attention_bias", False, unsaid="attention without biases")
                + values("attention_bias", True, idle=True)),
        Setting("window", "window", values("sliding_window", 1, 3)),
        Setting("layer_types", "window", (
            *values("layer_types", [FULL, SLIDING, SLIDING]),
            *values("layer_types", [SLIDING, FULL, SLIDING], idle=True),
            *values("layer_types", [FULL] * 3, [SLIDING] * 3, unsaid=ONE_KIND),
        )),
        Setting("other names", "heads", (
            *values("initial_context_length", 64, idle=True),
            *values("experts_per_token", 4, idle=True),
        )),
    ),
)  # fmt: skip
THETAS = "has several bases"
GRANITE_SWA = Family(
    {**BASE, **FOUR, "sliding_window": 8, "attention_multiplier": 0.25},
    (
        *ropes(llama3=""), NORM, ATTENTION_BIAS, MLP_BIAS, tied(True), activations(),
        head_dims(OWN_HEAD),
        Setting("kv_heads", "heads", values("num_key_value_heads", 1, 4)),
        Setting("scales", "scale", (
            *values("attention_multiplier", 0.2, -0.5), *values("embedding_multiplier", 12.0),
            *values("residual_multiplier", 0.22), *values("logits_scaling", 8.0),
            *values("attention_multiplier", 0.0, unsaid="'attention_multiplier'"),
        )),
        Setting("window", "window", values("sliding_window", 1, 3)),
        Setting("layer_types", "window", (
            *values("layer_types", [SLIDING, SLIDING, FULL, FULL], [SLIDING] * 4),
            *values("layer_types", [FULL, SLIDING, SLIDING, SLIDING], idle=True),
            *values("layer_types", [FULL] * 4, unsaid="layers without windows alone"),
        )),
        Setting("bases", "rope", (
            *values("layer_rope_theta", [0, 100.0, 100.0, 100.0], [100.0, 0, 0, 100.0]),
            *values("layer_rope_theta", [500.0] * 4),
            *values("layer_rope_theta", [0, 0, 0, 0], unsaid="layers without positions alone"),
            *values("layer_rope_theta", [0, 10.0, 20.0, 20.0], refused=THETAS),
            *values("layer_rope_theta", [10_000.0] * 4, idle=True),
        )),
    ),
    joint=THETAS,
    newer=True,
)  # fmt: skip
NUMBER = "is not supported"
LENT = {"num_hidden_layers": 25, "layer_types": ([SLIDING] * 4 + [FULL]) * 5,
        "num_kv_shared_layers": 5}  # fmt: skip
GEMMA3N = Family(
    {**BASE, "num_hidden_layers": 5, "head_dim": 16, "hidden_size": 32, "sliding_window": 8,
     "intermediate_size": 8192,
     "hidden_size_per_layer_input": 256, "vocab_size_per_layer_input": 300,
     "num_kv_shared_layers": 0, "activation_sparsity_pattern": [0.95] * 5},
    (
        *layered(ropes()), NORM, LONE_BIAS, tied(True), HEADS, WINDOW,
        Setting("head_dim", "heads", values("head_dim", 32, 8)),
        Setting("activation", "activation",
                values("hidden_activation", "silu", unsaid=GELU)
                + values("hidden_activation", "relu", refused=GELU)),
        Setting("local theta", "rope", values("rope_local_base_freq", 100.0, 2.5)
                + values("rope_local_base_freq", 10000, idle=True)),
        Setting("layer_types", "window", (
            *values("layer_types", [SLIDING, FULL, SLIDING, FULL, FULL]),
            *values("layer_types", [SLIDING] * 4 + [FULL], idle=True),
            *values("layer_types", [FULL] * 5, unsaid=ONE_KIND),
        )),
        Setting("borrowing", "heads", (
            # 25 layers of random weights make a hundred times of what GELU's table rounds.
            Value({**LENT, "activation_sparsity_pattern": [0.95] * 10 + [0.0] * 15}, limit=0.05),
            Value({**LENT, "activation_sparsity_pattern": None}, limit=0.05),
            *values("num_kv_shared_layers", 2, refused=TOGETHER, broken=True),
        )),
        Setting("mlp", "heads", (
            *values("intermediate_size", [8192] * 5, idle=True),
            *values("intermediate_size", [8192, 8192, 8192, 8192, 4096],
                    refused="'intermediate_size'"),
        )),
        Setting("sparsity", "activation", (
            *values("activation_sparsity_pattern", [0.5] * 5, [0.0] * 5, None,
                    unsaid="this pattern of cut gates"),
        )),
        Setting("inputs", "heads", (
            *values("hidden_size_per_layer_input", 32, unsaid="'hidden_size_per_layer_input' 32"),
            *values("vocab_size_per_layer_input", 320, idle=True,
                    unsaid="'vocab_size_per_layer_input'"),
        )),
        Setting("streams", "heads", (
            *values("altup_num_inputs", 2, unsaid="'altup_num_inputs' 2"),
            *values("altup_active_idx", 1, refused="another stream"),
            *values("altup_correct_scale", False, refused="a first stream"),
            *values("altup_coef_clip", 120.0, idle=True),
            *values("laurel_rank", 16, unsaid="'laurel_rank' 16"),
        )),
        Setting("final cap", "cap", values("final_logit_softcapping", 5.0, None,
                                           unsaid="'final_logit_softcapping'")
                + values("final_logit_softcapping", 30.0, idle=True)),
    ),
    # llama.cpp's GELU, three times a layer, is a table of float16.
    limit=2e-3,
    joint="'intermediate_size'|do not go together|'activation_sparsity_pattern'|lists 5",
    fails=("kv_heads", "linear"),
)  # fmt: skip

FAMILIES: dict[str, Family] = {
    "llama": LLAMA,
    "apertus": APERTUS,
    "mistral": MISTRAL,
    "ministral3": MINISTRAL3,
    "mixtral": MIXTRAL,
    "qwen2": QWEN2,
    "qwen3": QWEN3,
    "qwen3_5_text": QWEN3_5,
    "qwen3_moe": QWEN3_MOE,
    "ernie4_5": ERNIE4_5,
    "exaone4": EXAONE4,
    "gemma2": GEMMA2,
    "gemma3_text": GEMMA3,
    "gemma3n_text": GEMMA3N,
    "gemma4_text": GEMMA4,
    "phi3": PHI3,
    "glm4": GLM4,
    "gpt2": GPT2,
    "gpt_neox": GPT_NEOX,
    "gpt_oss": GPT_OSS,
    "granite": GRANITE,
    "granite_swa": GRANITE_SWA,
    "granitemoehybrid": GRANITE_HYBRID,
    "hunyuan_v1_dense": HUNYUAN,
    "lfm2": LFM2,
    "lfm2_moe": LFM2_MOE,
    "olmo2": OLMO2,
    "olmoe": OLMOE,
    "seed_oss": SEED_OSS,
    "smollm3": SMOLLM3,
    "stablelm": STABLELM,
    "starcoder2": STARCODER2,
}
