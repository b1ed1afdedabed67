"""Writes the ONNX folder of a checkpoint: graph, data, configuration and tokenizer.

The layout is that of onnxruntime-genai's model builder, so that the folder runs there too.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from pathlib import Path

from pitool.architectures.description import Description
from pitool.catalog.onnx_graph import EXPERTS_KEY
from pitool.checkpoint.source import Checkpoint
from pitool.convert.onnx.decoder import DecoderGraph
from pitool.convert.onnx.fused import describe, refusal
from pitool.convert.onnx.graph import Graph
from pitool.convert.onnx.settings import GraphSizes, write_settings
from pitool.convert.onnx.weights import EMBEDDING, HEAD, OnBytes, Weights
from pitool.planning.onnx_weights import OnnxQuantisation, padded_head

# Rotations are stored for so many positions unless more are planned: longer prompts than a board
# processes in minutes.
POSITIONS = 32768
MakeWeights = Callable[[Graph, Checkpoint, OnnxQuantisation, OnBytes], Weights]


def write_onnx(
    folder: Path,
    checkpoint: Checkpoint,
    kind: OnnxQuantisation,
    *,
    context: int = 0,
    on_bytes: OnBytes = lambda _: None,
    on_layer: Callable[[], None] = lambda: None,
    make_weights: MakeWeights = Weights,
) -> Path:
    """Write the model at ``kind`` into ``folder``, which is made; return the folder.

    ``context``: tokens that it must take, within what it was trained for. ``on_bytes`` hears of
    stored bytes; ``make_weights`` stores matrices otherwise. BadInput for a family or setting
    that the graph cannot express.
    """
    model = describe(checkpoint.config)
    if wrong := refusal(checkpoint.config, kind):
        raise wrong
    folder.mkdir(parents=True)
    positions = stored_positions(model, context)
    name = checkpoint.source.id.rpartition("/")[2]
    count = str(_count(checkpoint, model))
    with Graph(folder) as graph:
        weights = make_weights(graph, checkpoint, kind, on_bytes)
        DecoderGraph(graph, weights, model, positions, on_layer).build()
        graph.save(
            name, {"name": name, "quantisation": kind.name, "parameters": count, **_used(model)}
        )
    write_settings(folder, checkpoint, _sizes(model), positions)
    return folder


def _used(model: Description) -> dict[str, str]:
    """Return the property that says how many experts a token uses; nothing without experts."""
    experts = model.experts
    return {EXPERTS_KEY: f"{experts.used} of {experts.count}"} if experts else {}


def _sizes(model: Description) -> GraphSizes:
    sizes = model.sizes
    head = padded_head(sizes.head_dim)
    return GraphSizes(
        sizes.layers, sizes.kv_heads, head, sizes.vocabulary, sizes.heads, sizes.hidden
    )


def stored_positions(model: Description, context: int = 0) -> int:
    """Return for how many positions rotations are stored: the longest context of the artifact.

    There is one table of them, and LongRoPE changes to another one behind its short context.
    """
    reach = model.short_context() or model.sizes.context
    return min(reach, max(POSITIONS, context))


def _count(checkpoint: Checkpoint, model: Description) -> int:
    """Return the number of weights, a shared matrix counted once."""
    tensors = checkpoint.tensors
    twice = {HEAD} if model.tied and EMBEDDING in tensors else set()
    return sum(prod(tensor.shape) for name, tensor in tensors.items() if name not in twice)
