"""Whether the fused graph can express a model: told by its description, whatever its family.

GroupQueryAttention rotates whole heads, norms are RMS norms before the blocks (and after them in a
sandwich), the MLP is gated. ``decoder`` builds the graph.
"""

from __future__ import annotations

from pitool.architectures import table
from pitool.architectures.description import Description, Layout
from pitool.architectures.rope import Dynamic
from pitool.checkpoint.config import Config
from pitool.convert.onnx.settings import without_tokenizer
from pitool.errors import BadInput, PitoolError
from pitool.planning.onnx_weights import HEAD_MULTIPLE, OnnxQuantisation

GELU, SILU = "gelu_pytorch_tanh", "silu"
_PLAIN = Layout()


def describe(config: Config) -> Description:
    """Return what the graph of a checkpoint is; BadInput when it cannot be expressed."""
    model = table.describe(config)
    if reason := inexpressible(model):
        raise model.error(f"{reason} not supported in ONNX", "convert it with --format gguf")
    return model


def supported(config: Config) -> bool:
    """Tell whether the writer can write a checkpoint; BadInput for settings that nobody knows."""
    if table.find(config.model_type) is None:
        return False
    return inexpressible(table.describe(config)) is None


def is_encoder(config: Config) -> bool:
    """Tell whether a checkpoint gives vectors of texts instead of writing some."""
    return table.find(config.model_type) is not None and table.describe(config).encoder


def inexpressible(model: Description) -> str | None:
    """Return what of a model the graph cannot express, with its verb; None when it can all."""
    layout = model.layout
    rotations = [model.rotation(i) for i in range(model.sizes.layers)]
    dim = model.sizes.head_dim
    found = {
        "a text model inside a multimodal one is": model.wrapped,
        "an encoder is": model.encoder,
        "this mixture of experts is": not (model.experts is None or _plain_experts(model)),
        "recurrent layers are": bool(model.recurrent),
        "learned positions are": bool(layout.positions) or model.rope is None,
        "layer norms are": model.norm.layer,
        "norms after instead of before the blocks are": not layout.before_attention,
        "parallel attention and MLP are": model.parallel,
        "a temperature of attention is": model.temperature is not None,
        "heads of two sizes are": model.local_head_dim > 0,
        "keys and values of other layers are": model.borrowing > 0,
        "sinks of attention are": bool(layout.sinks),
        "several streams of the residual are": model.altup is not None,
        "gates that are cut off are": any(model.sparsity),
        "embeddings of each layer are": model.layer_inputs is not None or bool(layout.scalar),
        "normalised values are": model.value_norm,
        "rotated neighbours are": model.neighbours,
        "norms after the rotation are": model.late_norm,
        "gated attention is": model.output_gate,
        "norms over all heads are": model.head_norm not in ("", "head"),
        "an MLP without a gate is": not (layout.gate or layout.gate_up),
        "its tensor names are": layout.layer != _PLAIN.layer or layout.output != _PLAIN.output,
        f"the activation {model.activation!r} is": model.activation not in (SILU, GELU),
        "partially rotated heads are": any(r and r.dim != dim for r in rotations),
        "rope scaling 'dynamic' is": any(r and isinstance(r.scaling, Dynamic) for r in rotations),
        f"fused heads of size {dim} are": bool(layout.qkv) and dim % HEAD_MULTIPLE != 0,
    }
    return next((what for what, wrong in found.items() if wrong), None)


def _plain_experts(model: Description) -> bool:
    """Tell whether the operator computes the experts: by SiLU, in every layer, normalised."""
    experts = model.experts
    assert experts
    other = experts.sigmoid or experts.biased or experts.shared or experts.clamped or experts.dense
    return experts.normalised and not other and not model.layout.experts_gate_up


def refusal(config: Config, kind: OnnxQuantisation) -> PitoolError | None:
    """Return why a checkpoint cannot be written at a quantisation; None when it can."""
    try:
        model = describe(config)
    except PitoolError as error:
        return error
    folder = config.path.parent
    if wrong := without_tokenizer(folder):
        return wrong
    if wrong := _experts_refusal(model, kind):
        return wrong
    if kind.quantised and model.sizes.hidden % kind.block:
        return BadInput(
            f"{folder}: embedding rows of {model.sizes.hidden} are not a multiple of {kind.block}",
            f"choose smaller blocks, such as {kind.name.partition('_B')[0]}_B16",
        )
    return None


def _experts_refusal(model: Description, kind: OnnxQuantisation) -> PitoolError | None:
    """Return why a mixture of experts cannot be written at a quantisation; None when it can."""
    experts = model.experts
    if experts is None:
        return None
    if kind.dynamic or kind.bits == 16:
        return model.error(
            f"a mixture of experts is not supported in {kind.name}: onnxruntime has no operator"
            " for it",
            "choose INT8 or INT4",
        )
    if kind.quantised and experts.size % kind.block:
        return model.error(
            f"experts of {experts.size} are not a multiple of {kind.block}",
            f"choose smaller blocks, such as {kind.name.partition('_B')[0]}_B16",
        )
    return None
