"""ONNX under onnxruntime: what a folder needs in memory, how fast it is, and its format's row.

onnxruntime maps the data file and repacks (prepacks) each matrix at load; the mapped pages of what
it repacked are let go, but for the scales of blocks, of which it also keeps a copy beside the one
in the repacked matrix. Held against the worker by ``benchmarks.memory``.

No figure of onnxruntime's speed on these boards is published. It is taken to stream weights at
llama.cpp's bandwidth and to multiply at its rates (``recipes/onnxruntime.toml``), with a wide
range; a bench corrects that. All sizes in bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path

from pitool.catalog import onnx, onnx_graph, tables
from pitool.catalog.boards import Board
from pitool.catalog.manifest import MemoryLine
from pitool.catalog.model_shape import EMBEDDING, HEAD, ModelShape
from pitool.errors import PitoolError, UsageError
from pitool.planning.formats.base import (
    AnyQuantisation,
    ArtifactPlan,
    PlannedFormat,
    PlannedModel,
)
from pitool.planning.memory import (
    CHAT,
    CHAT_BYTES,
    KV_CACHE,
    RUNTIME,
    Load,
    MemoryPlan,
    most_context,
)
from pitool.planning.onnx_weights import (
    ALIGNMENT,
    ONNX_QUANTISATIONS,
    OnnxQuantisation,
    OnnxTensor,
    exported_tensors,
    find_onnx_quantisation,
    is_onnx_quantisation,
    padded_head,
    rotation_bytes,
    stored_tensors,
    stored_weights,
)
from pitool.planning.places import Place
from pitool.planning.speed import NONE, Correction, Estimate

POSITIONS = 32768
# Resident memory measured on x86_64 with Python 3.11 and onnxruntime 1.32: the worker with the code
# that a session of 135M to 1B takes beside all other lines, and what a token of the vocabulary adds
# in the tokenizers library.
RUNTIME_BYTES = 66_000_000
VOCABULARY_ENTRY_BYTES = 430
# Of a folder, beside its tensors: what a tensor and its operation take in the graph, and what a
# token takes in tokenizer.json, 43 to 60 in those of Qwen2.5, SmolLM2, TinyLlama and the sample.
GRAPH_ENTRY_BYTES = 500
TOKENIZER_ENTRY_BYTES = 46
# Linux maps so much of a file that is in the page cache around what is read.
FAULT_AROUND_BYTES = 64 * 1024
# An exported graph returns its KV cache anew: the engine's, the one before and the one after.
EXPORTED_CACHES = 3


@dataclass(frozen=True, slots=True)
class OnnxPlan(ArtifactPlan):
    """The plan of an ONNX folder."""

    quantisation: OnnxQuantisation
    tensors: tuple[OnnxTensor, ...]

    @property
    def bits_per_weight(self) -> float:
        """Stored bits over the number of weights; rotations are no weights."""
        stored = sum(t.bytes for t in self.tensors if not t.name.startswith("rope."))
        return stored * 8 / self.weights


class Onnx(PlannedFormat):
    """The format that onnxruntime runs."""

    title = "ONNX"
    engine = "onnx"
    runtime = package = "onnxruntime"
    assumed = "onnxruntime speeds are estimates: none are published for these boards"
    tunable = False
    names_kernels = False
    streams = True
    quantisations = ONNX_QUANTISATIONS
    common = tuple(ONNX_QUANTISATIONS)
    summed = timed = ("FP16", "INT8", "INT4")
    beside = ("INT8", "INT4")

    def __init__(self) -> None:
        self.name = "onnx"

    def knows(self, name: str) -> bool:
        """Tell whether a user's word is a quantisation of ONNX; its block size may be none."""
        return is_onnx_quantisation(name)

    def find(self, name: str) -> OnnxQuantisation:
        """Return the quantisation that a user typed, in any case; UsageError names the nearest."""
        return find_onnx_quantisation(name)

    def suited(self, place: Place) -> tuple[OnnxQuantisation, ...]:
        """Return what ``auto`` tries: 8 bits as the boards multiply them best, and 4 bits.

        MatMulNBits takes 16 instructions for an 8-bit weight on a CPU without dotprod, dynamic
        INT8 half of one.
        """
        eight = "INT8" if place.dotprod else "INT8_DYNAMIC"
        return ONNX_QUANTISATIONS[eight], ONNX_QUANTISATIONS["INT4"]

    def artifact(
        self,
        model: PlannedModel,
        quantisation: AnyQuantisation,
        place: Place,
        load: Load,
        correction: Correction,
    ) -> OnnxPlan:
        """Return what the model is at a quantisation, written by pitool or exported by optimum."""
        assert isinstance(quantisation, OnnxQuantisation)
        plan = plan_folder(model.shape, quantisation, load, exported=model.exported)
        kv_bytes = onnx_cache_bytes(model.shape, quantisation, load.context)
        found = estimates(
            place.boards,
            model.shape,
            quantisation,
            plan.tensors,
            kv_bytes=kv_bytes,
            correction=correction,
        )
        return replace(plan, estimates=found)

    def longest_context(self, model: PlannedModel, artifact: ArtifactPlan, budget: int) -> int:
        """Return the most tokens of context, a multiple of 256, that fit ``budget``; 0 for none."""
        kind, load, shape = artifact.quantisation, artifact.load, model.shape
        assert isinstance(kind, OnnxQuantisation)
        plan = plan_exported if model.exported else plan_onnx
        return most_context(
            self.reach(shape), lambda n: plan(shape, kind, replace(load, context=n)).total <= budget
        )

    def state_bytes(self, shape: ModelShape, artifact: ArtifactPlan, tokens: int) -> int:
        """Return the bytes of a saved prefill: keys and values."""
        kind = artifact.quantisation
        assert isinstance(kind, OnnxQuantisation)
        return onnx_cache_bytes(shape, kind, tokens)

    def reach(self, shape: ModelShape) -> int:
        """Return the trained context, or where LongRoPE takes other factors, that before."""
        return shape.short_context or shape.context

    def limit(self, shape: ModelShape, _context: int) -> str:
        """Name LongRoPE, of which a graph has the short factors alone."""
        if not (short := shape.short_context):
            return ""
        return (
            f"this model rotates texts of more than {short} tokens by other factors (LongRoPE),"
            f" which a graph does not have: an ONNX folder gets no more than {short} tokens of"
            " context, a GGUF does"
        )

    def refusal(self, model: PlannedModel) -> PitoolError | None:
        """Return an error for embeddings, and for experts that the writer is not known to write."""
        if model.shape.encoder:
            return UsageError(
                "this is a model for embeddings, and the ONNX engine has no vectors",
                "plan it with --format gguf",
            )
        if not model.shape.experts or model.expressible:
            return None
        return UsageError(
            "the ONNX writer does not support this mixture of experts", "plan it with --format gguf"
        )

    def copies(self, _place: Place) -> str:
        """Say why every matrix is held again."""
        return "prepacked copies: onnxruntime repacks every matrix and releases the file's pages"

    def streamed_bytes(self, entry: Path) -> int | None:
        """Return the bytes of weights that decoding a token reads, by the graph of a folder."""
        return onnx_graph.streamed_bytes(onnx.read_folder(entry).graph)


def plan_folder(
    shape: ModelShape, kind: OnnxQuantisation, load: Load, *, exported: bool = False
) -> OnnxPlan:
    """Return the plan of an ONNX folder, its speeds aside; ``exported``: by optimum."""
    if exported:
        tensors, memory = exported_tensors(shape, kind), plan_exported(shape, kind, load)
    else:
        positions = stored_positions(shape, load)
        tensors, memory = stored_tensors(shape, kind, positions), plan_onnx(shape, kind, load)
    besides = _besides(shape, kind, tensors)
    return OnnxPlan(kind, load, tensors, shape.parameters, memory, besides=besides)


def stored_positions(shape: ModelShape, load: Load) -> int:
    """Return for how many positions a graph has rotations."""
    return min(shape.short_context or shape.context, max(POSITIONS, load.context))


def _besides(shape: ModelShape, kind: OnnxQuantisation, tensors: Iterable[OnnxTensor]) -> int:
    """About how many bytes of a folder are no tensor's: the graph, zeros, and the tokenizer."""
    total = shape.vocabulary * TOKENIZER_ENTRY_BYTES
    for t in tensors:
        scales = kind.scale_bytes(t) if t.copied and kind.quantised else 0
        total += GRAPH_ENTRY_BYTES - (t.bytes - scales) % -ALIGNMENT - scales % -ALIGNMENT
    return total


def plan_exported(model: ModelShape, kind: OnnxQuantisation, load: Load) -> MemoryPlan:
    """Return what the worker will hold of an exported graph with a full context."""
    plain, copied, scales = _exported_bytes(model, kind)
    return plan_stored(model, plain + scales, copied + scales, 4, load, caches=EXPORTED_CACHES)


@lru_cache(maxsize=64)
def _exported_bytes(model: ModelShape, kind: OnnxQuantisation) -> tuple[int, int, int]:
    """Bytes that stay as they are, that are copied, and of the scales of these."""
    stored = exported_tensors(model, kind)
    plain = sum(t.bytes for t in stored if not t.copied and t.name != EMBEDDING)
    copied = sum(t.bytes for t in stored if t.copied)
    return plain, copied, sum(kind.scale_bytes(t) for t in stored if t.copied)


def plan_onnx(model: ModelShape, kind: OnnxQuantisation, load: Load) -> MemoryPlan:
    """Return what the worker will hold with a full context.

    An embedding that is the head stays mapped beside its repacked copy; of another one, what lies
    around the rows that are read. Half-precision matrices stay mapped beside copies in float32.
    """
    mapped, copied, rows = _weight_bytes(model, kind)
    mapped += min(rows, load.context * FAULT_AROUND_BYTES)
    mapped += rotation_bytes(model, kind, stored_positions(model, load))
    return plan_stored(model, mapped, copied, kind.float_bytes, load)


@lru_cache(maxsize=64)
def _weight_bytes(model: ModelShape, kind: OnnxQuantisation) -> tuple[int, int, int]:
    """Bytes that are mapped, that are copied, and of an embedding of which rows are read alone."""
    mapped = copied = rows = 0
    for t in stored_weights(model, kind):
        if t.name == EMBEDDING and not t.copied:
            rows = t.bytes
        elif t.name == EMBEDDING or not t.copied or kind.bits == 16:
            mapped += t.bytes
        else:
            mapped += kind.scale_bytes(t)
        if t.copied:
            copied += 2 * t.bytes if kind.bits == 16 else t.bytes + kind.scale_bytes(t)
    return mapped, copied, rows


def plan_stored(
    model: ModelShape,
    mapped: int,
    copied: int,
    float_bytes: int,
    load: Load,
    *,
    caches: int = 1,
) -> MemoryPlan:
    """Return what the worker will hold of a graph with so many bytes mapped and repacked.

    ``float_bytes``: of a number that is not quantised, which the KV cache's are; of it there are
    ``caches`` at a time.
    """
    lines = [
        MemoryLine("weights", mapped),
        MemoryLine("prepacked copies", copied),
        MemoryLine("LoRA adapter", load.adapter),
        MemoryLine(KV_CACHE, caches * _cache_bytes(model, float_bytes, load.context)),
        MemoryLine("compute buffers", _compute_bytes(model, load)),
        MemoryLine(RUNTIME, RUNTIME_BYTES + model.vocabulary * VOCABULARY_ENTRY_BYTES),
        MemoryLine(CHAT, CHAT_BYTES),
    ]
    return MemoryPlan(tuple(line for line in lines if line.bytes))


def _compute_bytes(model: ModelShape, load: Load) -> int:
    """Bytes of activations, the 8-bit ones that they are rounded to included, and of logits."""
    batch = min(load.micro_batch, load.context)
    activations = batch * 4 * (3 * model.feed_forward + 11 * model.hidden)
    logits = load.outputs * model.vocabulary * 4
    return max(activations, logits) + logits


def onnx_cache_bytes(model: ModelShape, kind: OnnxQuantisation, context: int) -> int:
    """Return the bytes of keys and values: float32, or float16 in a half-precision graph."""
    return _cache_bytes(model, kind.float_bytes, context)


def _cache_bytes(model: ModelShape, float_bytes: int, context: int) -> int:
    row = model.kv_heads * padded_head(model.head_dim)
    return 2 * model.layers * context * row * float_bytes


@dataclass(frozen=True, slots=True)
class Assumed:
    """The shares by which predictions may be wrong, and where they are from."""

    decode_error: float
    prefill_error: float
    sources: dict[str, str]


@cache
def assumed(path: Path | None = None) -> Assumed:
    """Return what is assumed."""
    path = path or tables.recipes_folder() / "onnxruntime.toml"
    return tables.build(Assumed, tables.read_toml(path)["assumed"], path.name)


def streamed_bytes(model: ModelShape, tensors: Iterable[OnnxTensor]) -> int:
    """Return the bytes that a decode reads: of experts those used.

    All but rotations, and an embedding beside a head.
    """
    tensors = tuple(tensors)
    separate = any(t.name == HEAD for t in tensors)
    used = model.experts_used / model.experts if model.experts else 1.0
    return sum(
        round(t.bytes * (used if "_exps." in t.name else 1.0))
        for t in tensors
        if not t.name.startswith("rope.") and not (separate and t.name == EMBEDDING)
    )


def estimates(
    boards: Mapping[str, Board],
    model: ModelShape,
    kind: OnnxQuantisation,
    tensors: Iterable[OnnxTensor],
    *,
    kv_bytes: int = 0,
    correction: Correction = NONE,
) -> tuple[Estimate, ...]:
    """Return the speeds of a model with these stored tensors on each board.

    ``kv_bytes``: of the full cache.
    """
    errors = assumed()
    matrices = [t for t in model.tensors if len(t.shape) > 1]
    work = {t.name: 2 * t.weights * model.read_share(t.name) for t in matrices}
    inner = sum(n for name, n in work.items() if name not in (EMBEDDING, HEAD))
    multiplied = sum(work.values())
    streamed = streamed_bytes(model, tensors)

    def on(board_id: str, board: Board) -> Estimate:
        cost = board.costs.cost("Q8_0" if kind.quantised else "F16", interleaved=board.dotprod)
        rate, bandwidth = 1e9 * board.prefill_gflops / cost, 1e9 * board.bandwidth_gbs
        products, streaming = multiplied / rate, streamed / bandwidth
        return Estimate(
            board_id,
            correction.prefill / max(inner / rate, 1e-9),
            correction.decode / max(streaming, products, 1e-9),
            correction.decode / max(streaming + kv_bytes / bandwidth, products, 1e-9),
            "products" if products > streaming else "memory",
            max(errors.prefill_error, board.prefill_error),
            max(errors.decode_error, board.decode_error),
        )

    return tuple(on(*each) for each in boards.items())
