"""The decoders that the fused graph can express, one function a family: the one table of them.

A family says what its checkpoints' settings mean for the graph; ``decoder`` builds it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import sqrt

from pitool.catalog import tables
from pitool.checkpoint.config import Config, Rope
from pitool.convert.gguf.families.base import Sizes, read_sizes
from pitool.convert.onnx.rotary import Rotary, make_rotary
from pitool.convert.onnx.settings import without_tokenizer
from pitool.errors import BadInput, PitoolError
from pitool.planning.onnx_weights import OnnxQuantisation

GELU = ("gelu_pytorch_tanh", "gelu_new")
SILU = ("silu", "swish")


@dataclass(frozen=True, slots=True)
class Decoder:
    """A decoder with RMS norms, rotary grouped-query attention and a gated MLP.

    ``rotaries``: for each layer, None for one without positions. ``windows``: for each layer, how
    many tokens back it attends to, 0 for all. ``scale``: of the attention scores. ``gelu``: tanh
    GELU instead of SiLU. ``fused``: query, key and value lie in one matrix, gate and up in
    another. ``head_norm``: queries and keys are normalised by head. ``sandwich``: a norm follows
    each block too. ``norm_offset`` is added to norm weights. ``softcap`` and ``final_softcap``
    bound scores and logits, 0 for none. ``residual_scale`` multiplies each block's result.
    """

    sizes: Sizes
    epsilon: float
    tied: bool
    rotaries: tuple[Rotary | None, ...]
    windows: tuple[int, ...]
    scale: float
    gelu: bool = False
    fused: bool = False
    head_norm: bool = False
    sandwich: bool = False
    norm_offset: float = 0.0
    embedding_scale: float = 1.0
    residual_scale: float = 1.0
    logits_scale: float = 1.0
    softcap: float = 0.0
    final_softcap: float = 0.0


def read_decoder(config: Config) -> Decoder:
    """Return what the graph of a checkpoint is; BadInput when it cannot be expressed."""
    if config.model_type not in FAMILIES:
        raise BadInput(
            f"{config.path.parent} is a {config.model_type!r} model, which the ONNX writer does"
            " not know",
            f"it writes {', '.join(FAMILIES)}",
        )
    return FAMILIES[config.model_type](config)


def supported(config: Config) -> bool:
    """Tell whether the writer knows the family; GroupQueryAttention rotates whole heads only."""
    rope = config.values.get("rope_parameters") or config.values
    whole = rope.get("partial_rotary_factor", 1.0) in (None, 1.0)
    return config.model_type in FAMILIES and (whole or config.model_type != "phi3")


def refusal(config: Config, kind: OnnxQuantisation) -> PitoolError | None:
    """Return why a checkpoint cannot be written at a quantisation; None when it can."""
    try:
        decoder = read_decoder(config)
    except PitoolError as error:
        return error
    folder = config.path.parent
    if wrong := without_tokenizer(folder):
        return wrong
    if kind.quantised and decoder.sizes.hidden % kind.block:
        return BadInput(
            f"{folder}: its embedding's rows of {decoder.sizes.hidden} are no whole blocks of"
            f" {kind.block}",
            f"take smaller blocks, such as {kind.name.partition('_B')[0]}_B16",
        )
    return None


def _llama(config: Config) -> Decoder:
    sizes = read_sizes(config)
    return Decoder(
        sizes=sizes,
        epsilon=config.number("rms_norm_eps", 1e-6),
        tied=config.flag("tie_word_embeddings", default=False),
        rotaries=(make_rotary(config, config.rope(), sizes.head_dim),) * sizes.layers,
        windows=(0,) * sizes.layers,
        scale=1 / sqrt(sizes.head_dim),
        gelu=_gelu(config, "hidden_act", "silu"),
    )


def _mistral(config: Config) -> Decoder:
    plain = _llama(config)
    window = config.values.get("sliding_window")
    size = config.count("sliding_window") if window is not None else 0
    return replace(plain, windows=(size,) * plain.sizes.layers)


def _qwen2(config: Config) -> Decoder:
    plain = _llama(config)
    if not config.flag("use_sliding_window", default=False):
        return plain
    layers, first = plain.sizes.layers, config.values.get("max_window_layers", 28)
    types = config.values.get("layer_types") or [
        "full_attention" if i < first else "sliding_attention" for i in range(layers)
    ]
    return replace(plain, windows=_windows(config, types, layers))


def _qwen3(config: Config) -> Decoder:
    return replace(_qwen2(config), head_norm=True)


def _smollm3(config: Config) -> Decoder:
    plain = _qwen2(config)
    layers, interval = plain.sizes.layers, config.count("no_rope_layer_interval", 4)
    turned = config.values.get("no_rope_layers") or [
        int((i + 1) % interval != 0) for i in range(layers)
    ]
    if len(turned) != layers:
        raise BadInput(f"{config.path}: 'no_rope_layers' names {len(turned)} layers", _REPAIR)
    rotaries = (r if on else None for r, on in zip(plain.rotaries, turned, strict=True))
    tied = config.flag("tie_word_embeddings", default=True)
    return replace(plain, tied=tied, rotaries=tuple(rotaries))


def _phi3(config: Config) -> Decoder:
    if config.number("partial_rotary_factor", 1.0) != 1.0:
        raise BadInput(f"{config.path}: heads that are rotated in part are not supported", _OTHER)
    plain = _mistral(config)
    if plain.sizes.head_dim % 16:
        raise BadInput(f"{config.path}: fused heads of {plain.sizes.head_dim} numbers", _OTHER)
    return replace(plain, fused=True)


def _granite(config: Config) -> Decoder:
    return replace(
        _llama(config),
        scale=config.number("attention_multiplier", 1.0),
        embedding_scale=config.number("embedding_multiplier", 1.0),
        residual_scale=config.number("residual_multiplier", 1.0),
        logits_scale=1 / config.number("logits_scaling", 1.0),
    )


def _gemma2(config: Config) -> Decoder:
    sizes = read_sizes(config)
    types = config.values.get("layer_types") or [
        "full_attention" if i % 2 else "sliding_attention" for i in range(sizes.layers)
    ]
    return Decoder(
        sizes=sizes,
        epsilon=config.number("rms_norm_eps", 1e-6),
        tied=config.flag("tie_word_embeddings", default=True),
        rotaries=(make_rotary(config, config.rope(), sizes.head_dim),) * sizes.layers,
        windows=_windows(config, types, sizes.layers),
        scale=config.number("query_pre_attn_scalar", 256) ** -0.5,
        gelu=_gelu(config, "hidden_activation", GELU[0]),
        sandwich=True,
        norm_offset=1.0,
        embedding_scale=sqrt(sizes.hidden),
        softcap=_cap(config, "attn_logit_softcapping", 50.0),
        final_softcap=_cap(config, "final_logit_softcapping", 30.0),
    )


def _gemma3(config: Config) -> Decoder:
    sizes = read_sizes(config)
    every = config.count("sliding_window_pattern", 6)
    types = config.values.get("layer_types") or [
        "sliding_attention" if (i + 1) % every else "full_attention" for i in range(sizes.layers)
    ]
    windows = _windows(config, types, sizes.layers)
    far, near = _gemma3_rotaries(config, sizes.head_dim)
    capless = Config({**config.values, "layer_types": types}, config.path)
    return replace(
        _gemma2(capless),
        head_norm=True,
        rotaries=tuple(near if window else far for window in windows),
        softcap=_cap(config, "attn_logit_softcapping", 0.0),
        final_softcap=_cap(config, "final_logit_softcapping", 0.0),
    )


def _gemma3_rotaries(config: Config, dim: int) -> tuple[Rotary, Rotary]:
    """Return the rotations of full and of sliding layers, from either layout of transformers."""
    both = config.values.get("rope_parameters") or {}
    if "full_attention" in both:
        far, near = (
            Config({"rope_parameters": both[kind]}, config.path).rope()
            for kind in ("full_attention", "sliding_attention")
        )
    else:
        values = {"rope_theta": 1e6, **config.values}
        far = Config(values, config.path).rope()
        near = Rope(config.number("rope_local_base_freq", 10000.0), "default", {})
    return make_rotary(config, far, dim), make_rotary(config, near, dim)


_REPAIR = "repair the checkpoint"
_OTHER = "convert it to GGUF"


def _gelu(config: Config, key: str, default: str) -> bool:
    """Tell GELU from SiLU; BadInput for any other activation."""
    name = config.values.get(key) or default
    if name not in (*GELU, *SILU):
        raise BadInput(
            f"{config.path}: the activation {name!r} is not supported in ONNX",
            f"supported are {', '.join((*SILU, *GELU))}",
        )
    return name in GELU


def _cap(config: Config, key: str, default: float) -> float:
    """Return a bound, 0 where it is null."""
    if key in config.values and config.values[key] is None:
        return 0.0
    return config.number(key, default)


def _windows(config: Config, types: list[str], layers: int) -> tuple[int, ...]:
    if len(types) != layers:
        raise BadInput(f"{config.path}: 'layer_types' names {len(types)} layers", _REPAIR)
    wrong = set(types) - {"full_attention", "sliding_attention"}
    if wrong:
        name = tables.nearest(str(wrong.pop()), ["full_attention", "sliding_attention"])
        raise BadInput(f"{config.path}: 'layer_types' has an unknown type", name)
    size = config.count("sliding_window", 4096)
    return tuple(size if kind == "sliding_attention" else 0 for kind in types)


FAMILIES: dict[str, Callable[[Config], Decoder]] = {
    "llama": _llama,
    "mistral": _mistral,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "smollm3": _smollm3,
    "phi3": _phi3,
    "granite": _granite,
    "gemma2": _gemma2,
    "gemma3_text": _gemma3,
}
