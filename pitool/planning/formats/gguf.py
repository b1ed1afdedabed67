"""GGUF under llama.cpp: what a file needs in memory, how fast it is, and its format's row.

The figures of llama.cpp's buffers are sums over the model's shape, checked against what the pinned
version reports. The constants of speeds are the board's own (``recipes/boards.toml``);
``benchmarks/predict.py`` fits them and compares with what was published. All sizes in bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pitool.catalog import gguf
from pitool.catalog.boards import Board
from pitool.catalog.manifest import MemoryLine, Speed
from pitool.catalog.model_shape import CONTEXT_STEP, ModelShape, loaded_within
from pitool.catalog.tensor_types import (
    QUANTISATIONS,
    TENSOR_TYPES,
    Quantisation,
    find_quantisation,
)
from pitool.errors import BadInput
from pitool.planning.decode import DecodeSeconds, decode_seconds
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
    checkpoints,
    most_context,
)
from pitool.planning.places import Place
from pitool.planning.prefill import count_alike, prefill_seconds
from pitool.planning.shapes import header_shape, header_tensors
from pitool.planning.speed import NONE, Correction, Estimate
from pitool.planning.type_mixture import TypedTensor, assign_types, keep_grids, own_grid

# Resident memory measured on x86_64 with Python 3.11, as what runs of a 135M model take beside all
# other lines: the worker, and what a token of the vocabulary adds to it.
RUNTIME_BYTES = 55 * 1024 * 1024
VOCABULARY_ENTRY_BYTES = 224
# Of a header: what stands beside names and tokens, an entry of the table of tensors beside its
# name, and a token with its type and merge.
METADATA_BYTES = 4096
TENSOR_ENTRY_BYTES = 44
TOKEN_BYTES = 40
Threads = Literal["best", "all"]


@dataclass(frozen=True, slots=True)
class GgufPlan(ArtifactPlan):
    """The plan of a GGUF file."""

    quantisation: Quantisation
    tensors: tuple[TypedTensor, ...]


class Gguf(PlannedFormat):
    """The format that llama.cpp runs."""

    title = "GGUF"
    engine = "llamacpp"
    runtime = "llama.cpp"
    package = "llama-cpp-python"
    planned_by_header = True
    streams = True
    parallel = True
    quantisations = QUANTISATIONS
    common = ("F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "Q3_K_M", "Q2_K")
    summed = ("F16", "Q8_0", "Q4_K_M")
    timed = ("F16", "Q8_0", "Q6_K", "Q4_K_M", "Q2_K")
    by_bits = ("F16", "Q8_0", "Q4_K_M")
    smaller_caches = ("q8_0", "q4_0")
    loading_counts = True

    def __init__(self) -> None:
        self.name = "gguf"

    def knows(self, name: str) -> bool:
        """Tell whether a user's word is a type of llama.cpp's."""
        return name.upper() in QUANTISATIONS

    def find(self, name: str) -> Quantisation:
        """Return the quantisation that a user typed, in any case; UsageError names the nearest."""
        return find_quantisation(name)

    def artifact(
        self,
        model: PlannedModel,
        quantisation: AnyQuantisation,
        place: Place,
        load: Load,
        correction: Correction,
    ) -> GgufPlan:
        """Return what the model is at a quantisation: of a file that exists, by its own tensors."""
        assert isinstance(quantisation, Quantisation)
        shape = model.shape
        tensors = model.stored.get(quantisation.name) or keep_grids(
            assign_types(shape, quantisation, importance=model.importance),
            quantisation,
            model.grids,
        )
        kv_bytes = kv_cache_bytes(shape, load.context, load.kv_type, load.value_type)
        memory = plan_memory(shape, tensors, load, repacked=place.repacked)
        return GgufPlan(
            quantisation,
            load,
            tensors,
            sum(t.tensor.weights for t in tensors),
            memory,
            estimates(
                place.boards,
                shape,
                tensors,
                kv_bytes=kv_bytes,
                correction=correction,
                interleaved=None if load.repack else frozenset(),
            ),
            loading_peak(memory, shape, tensors, load, repacked=place.repacked),
            _besides(model, tensors),
        )

    def longest_context(self, model: PlannedModel, artifact: ArtifactPlan, budget: int) -> int:
        """Return the most tokens of context, a multiple of 256, that fit ``budget``; 0 for none."""
        if artifact.loading > budget:
            return 0
        shape, load = model.shape, artifact.load
        left = budget - artifact.memory.total + _context_bytes(shape, load)
        return most_context(
            self.reach(shape), lambda n: _context_bytes(shape, replace(load, context=n)) <= left
        )

    def state_bytes(self, shape: ModelShape, artifact: ArtifactPlan, tokens: int) -> int:
        """Return the bytes of a saved prefill: keys and values, and a recurrent state.

        Of a layer with a window, llama.cpp leaves out what no later token looks at.
        """
        cache = artifact.load.cache
        kinds = [TENSOR_TYPES[name.upper()] for name in (cache.keys, cache.values)]
        numbers = sum(min(w or tokens, tokens) * row for w, row in shape.layer_caches())
        return shape.state_bytes + sum(numbers * k.block_bytes // k.block for k in kinds)

    def prompt_seconds(
        self, shape: ModelShape, artifact: ArtifactPlan, place: Place, board: str, tokens: int
    ) -> float:
        """Return the time of a prompt, whose attention grows with its square."""
        assert isinstance(artifact, GgufPlan)
        alike = count_alike(shape, artifact.tensors)
        here = place.boards[board]
        fast = here.repacked if artifact.load.repack else frozenset[str]()
        usual = prefill_seconds(here, shape, alike, fast)
        longer = prefill_seconds(here, shape, alike, fast, tokens)
        return super().prompt_seconds(shape, artifact, place, board, tokens) * longer / usual

    def reach(self, shape: ModelShape) -> int:
        """Return the trained context, or where llama.cpp leaves out a window, its size."""
        return shape.windowless or shape.context

    def context(self, shape: ModelShape, asked: int | None, usual: int) -> int:
        """Return the tokens of context to plan for; more than LongRoPE's short ones if asked for.

        llama.cpp chooses LongRoPE's factors by the context that is loaded, transformers by the
        length of the text: so that a text of any length is computed alike, the usual context ends
        with the short factors.
        """
        return super().context(shape, asked, min(usual, _short(shape) or usual))

    def limit(self, shape: ModelShape, context: int) -> str:
        """Name the window that llama.cpp leaves out, and where LongRoPE takes other factors."""
        said = (_window_limit(shape), _longrope_limit(shape, context), _stretched(shape, context))
        return "\n".join(filter(None, said))

    def cost_of(self, entry: Path, context: int) -> str:
        """Say that LongRoPE's factors are those for long texts, by the file's header.

        What is wrong with a file is said by those who load it.
        """
        with suppress(BadInput):
            return _stretched(header_shape(gguf.read_header(entry)), context)
        return ""

    def grid_of(self, model: PlannedModel) -> Quantisation | None:
        """Return the quantisation on whose grid the weights of a model lie, None for none."""
        name = own_grid(model.shape, model.grids)
        return next((q for q in QUANTISATIONS.values() if q.base == name), None)

    def given(self, model: PlannedModel) -> Iterator[tuple[Quantisation, str]]:
        """Yield what a model has lost nothing more at, with the reason: its files, its grid."""
        kinds = (QUANTISATIONS.get(name) or Quantisation(name, 0, name) for name in model.stored)
        yield from ((kind, "the file as it is") for kind in kinds if kind.quantised)
        if own := self.grid_of(model):
            yield own, "the weights were trained for it"

    def usual(self, model: PlannedModel) -> list[AnyQuantisation]:
        """Return the common quantisations, and those of files and of the model's grid."""
        own = self.grid_of(model)
        names = dict.fromkeys([*self.common, *model.stored, *([own.name] if own else [])])
        return [QUANTISATIONS.get(name) or Quantisation(name, 0, name) for name in names]

    def fast_share(self, artifact: ArtifactPlan, place: Place) -> float:
        """Return the share of the layers' bytes in types that ggml interleaves on the boards.

        It is 1 for floats, and where no board interleaves any.
        """
        assert isinstance(artifact, GgufPlan)
        if not (artifact.quantisation.quantised and place.repacked):
            return 1.0
        layers = [t for t in artifact.tensors if t.tensor.name.startswith("blk.")]
        matrices = [t for t in layers if len(t.tensor.shape) > 1]
        fast = sum(t.bytes for t in matrices if t.type.name in place.repacked)
        return fast / max(sum(t.bytes for t in matrices), 1)

    def copies(self, place: Place) -> str:
        """Say what is kept twice: which types, on which boards, and how else it would be."""
        boards = [key for key, board in place.boards.items() if board.repacked]
        return (
            f"repacked copies: ggml interleaves {', '.join(sorted(place.repacked))} for"
            f" {', '.join(boards) or 'this CPU'}; weights are loaded, not mapped, so only an"
            " embedding shared with the head is in memory twice"
        )

    def interleaves(self, entry: Path, types: frozenset[str]) -> bool:
        """Tell whether most bytes of a file are of tensor types that ggml interleaves."""
        if not types:
            return False
        sizes = Counter[bool]()
        for tensor in gguf.read_header(entry).tensors:
            sizes[tensor.type.name in types] += tensor.bytes
        return sizes[True] > sizes[False]

    def memory_of(
        self, entry: Path, load: Load, repacked: frozenset[str]
    ) -> tuple[MemoryLine, ...]:
        """Return the memory plan of a file, by its header."""
        header = gguf.read_header(entry)
        shape, tensors = header_shape(header), header_tensors(header)
        return plan_memory(shape, tensors, load, repacked=repacked).lines

    def speed_of(self, entry: Path, board_id: str, board: Board) -> Speed:
        """Return the predicted speed of a file at an empty context, by its header."""
        header = gguf.read_header(entry)
        return estimate(board_id, board, header_shape(header), header_tensors(header)).speed

    def streamed_bytes(self, entry: Path) -> int:
        """Return the bytes of weights that decoding a token reads, by the file's header.

        An embedding beside a head of its own is read one row a token; of experts only some are.
        """
        header = gguf.read_header(entry)
        model = header_shape(header)
        return sum(round(t.bytes * model.read_share(t.name)) for t in header.tensors)


def _short(shape: ModelShape) -> int:
    """Return the context up to which LongRoPE's factors are the short ones; 0 for no others."""
    return loaded_within(shape.short_context)


def _window_limit(shape: ModelShape) -> str:
    if not shape.windowless:
        return ""
    return (
        f"llama.cpp does not apply this model's sliding window of {shape.windowless} tokens: a"
        " GGUF computes what the checkpoint does up to there, and its context ends there"
    )


def _longrope_limit(shape: ModelShape, context: int) -> str:
    short = _short(shape)
    if not context <= short < (shape.windowless or shape.context):
        return ""
    return (
        f"this model has other factors for texts of more than {short} tokens (LongRoPE), which"
        " llama.cpp uses for every text once more context is loaded: a GGUF gets up to"
        f" {short} tokens of context unless --context asks for more"
    )


def _stretched(shape: ModelShape, context: int) -> str:
    """Say what more context than LongRoPE's short one does; empty where it is no more."""
    short = _short(shape)
    if not 0 < short < context:
        return ""
    return (
        f"with {context} tokens of context llama.cpp uses this model's factors for texts of more"
        f" than {short} tokens (LongRoPE) for every text: shorter ones are answered differently"
        f" from the checkpoint and from what the certificate says; --context {short} avoids this"
    )


def _besides(model: PlannedModel, tensors: Iterable[TypedTensor]) -> int:
    """Bytes of a file that are no tensor's: its header, and zeros up to where the next begins."""
    header = typical_header(model.shape) if model.header is None else model.header
    return header + sum(gguf.padded(t.bytes) - t.bytes for t in tensors)


def typical_header(model: ModelShape) -> int:
    """Return about how many bytes come before the tensors, where the vocabulary is not at hand."""
    table = sum(TENSOR_ENTRY_BYTES + len(t.name) for t in model.tensors)
    return gguf.padded(METADATA_BYTES + table + model.vocabulary * TOKEN_BYTES)


def plan_memory(
    model: ModelShape, tensors: Iterable[TypedTensor], load: Load, *, repacked: frozenset[str]
) -> MemoryPlan:
    """Return what llama.cpp will hold; ``repacked``: types that it interleaves for the CPU."""
    tensors = tuple(t for t in tensors if model.loaded(t.tensor))
    weights = sum(t.bytes for t in tensors)
    copies = _repacked_bytes(model, tensors, load, repacked) if load.repack else 0
    states = model.state_bytes * load.sequences
    lines = [
        MemoryLine("weights", weights),
        MemoryLine("repacked copies", copies),
        MemoryLine("LoRA adapter", load.adapter),
        MemoryLine(KV_CACHE, cache_bytes(model, load)),
        MemoryLine("recurrent state", states),
        MemoryLine("state checkpoints", states * checkpoints(model.state_bytes, load.sequences)),
        MemoryLine("compute buffers", compute_bytes(model, load)),
        MemoryLine(RUNTIME, RUNTIME_BYTES + model.vocabulary * VOCABULARY_ENTRY_BYTES),
        MemoryLine(CHAT, CHAT_BYTES),
    ]
    return MemoryPlan(tuple(line for line in lines if line.bytes))


def _repacked_bytes(
    model: ModelShape, tensors: Iterable[TypedTensor], load: Load, repacked: frozenset[str]
) -> int:
    """Bytes of interleaved weights that lie in memory beside the plain ones.

    A tied embedding is kept twice: plain for its rows, interleaved as the head. The others are
    kept twice only when the file is mapped.
    """
    total = 0
    for t in tensors:
        if t.type.name not in repacked or len(t.tensor.shape) < 2:
            continue
        head = t.tensor.name == "token_embd.weight"
        if (head and model.tied) or (load.mapped and not head):
            total += t.bytes
    return total


def cache_bytes(model: ModelShape, load: Load) -> int:
    """Bytes of keys and values of all answers that are written at once."""
    return kv_cache_bytes(model, load.tokens, load.kv_type, load.value_type)


def kv_cache_bytes(
    model: ModelShape, context: int, kv_type: str, value_type: str | None = None
) -> int:
    """Bytes of keys and values for ``context`` tokens (llama.cpp rounds it up to 256).

    ``value_type``: of the values, None for that of the keys. Layers with a window keep all tokens
    as well: the engine leaves ``swa_full`` on.
    """
    return sum(kv_cache_by_layer(model, context, kv_type, value_type))


def kv_cache_by_layer(
    model: ModelShape, context: int, kv_type: str, value_type: str | None = None
) -> list[int]:
    """Bytes of each layer, as ``kv_cache_bytes`` counts them."""
    cells = -(-context // CONTEXT_STEP) * CONTEXT_STEP
    kinds = [TENSOR_TYPES[name.upper()] for name in (kv_type, value_type or kv_type)]
    return [
        cells * sum(row * kind.block_bytes // kind.block for kind in kinds)
        for _, row in model.layer_caches()
    ]


def compute_bytes(model: ModelShape, load: Load) -> int:
    """Bytes of llama.cpp's graph and output: activations or logits, attention mask, logits."""
    batch = min(load.micro_batch, load.tokens)
    activations = batch * 4 * (3 * model.feed_forward + 4 * model.hidden)
    mask = batch * load.tokens * 2
    logits = max(load.outputs, load.sequences) * model.vocabulary * 4
    return max(activations, logits) + mask + logits


def _context_bytes(model: ModelShape, load: Load) -> int:
    """Bytes of the lines that depend on the context."""
    return cache_bytes(model, load) + compute_bytes(model, load)


def loading_peak(
    memory: MemoryPlan,
    model: ModelShape,
    tensors: Iterable[TypedTensor],
    load: Load,
    *,
    repacked: frozenset[str],
) -> int:
    """Return the most bytes held while the weights are read, before there is a context.

    ``memory``: what is held then. A tensor that is interleaved is read whole into a buffer of its
    own first.
    """
    held = memory.total - _context_bytes(model, load)
    staged = (t.bytes for t in tensors if t.type.name in repacked and len(t.tensor.shape) > 1)
    return held + (max(staged, default=0) if load.repack and not load.mapped else 0)


def estimate(
    board_id: str,
    board: Board,
    model: ModelShape,
    tensors: Iterable[TypedTensor],
    *,
    kv_bytes: int = 0,
    threads: Threads = "best",
    interleaved: frozenset[str] | None = None,
) -> Estimate:
    """Return the speeds of a model on one board; see ``estimates``."""
    boards = {board_id: board}
    (found,) = estimates(
        boards, model, tensors, kv_bytes=kv_bytes, threads=threads, interleaved=interleaved
    )
    return found


def estimates(
    boards: Mapping[str, Board],
    model: ModelShape,
    tensors: Iterable[TypedTensor],
    *,
    kv_bytes: int = 0,
    threads: Threads = "best",
    correction: Correction = NONE,
    interleaved: frozenset[str] | None = None,
) -> tuple[Estimate, ...]:
    """Return the speeds of a model with these stored tensors on each board.

    ``kv_bytes``: of the full KV cache; ``threads``: ``best`` of a sweep, or ``all`` cores;
    ``interleaved``: types that ggml interleaves at load, by default all that it can on the board.
    """
    alike = count_alike(model, tensors)

    def on(board_id: str, board: Board) -> Estimate:
        fast = board.repacked if interleaved is None else interleaved
        bandwidth = 1e9 * (board.bandwidth_gbs if threads == "best" else board.bandwidth_all_gbs)
        decode = decode_seconds(board, model, alike, fast, bandwidth)
        full = decode + DecodeSeconds(kv_bytes / bandwidth, 0.0)
        prefill = prefill_seconds(board, model, alike, fast)
        return Estimate(
            board_id,
            correction.prefill / max(prefill, 1e-9),
            correction.decode / max(decode.total, 1e-9),
            correction.decode / max(full.total, 1e-9),
            "products" if decode.products > decode.reading else "memory",
            board.prefill_error,
            board.decode_error,
        )

    return tuple(on(*each) for each in boards.items())
