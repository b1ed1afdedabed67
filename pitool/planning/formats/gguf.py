"""GGUF under llama.cpp: the format's row, and how much context a file has. All sizes in bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from pitool.catalog import gguf
from pitool.catalog.boards import Board
from pitool.catalog.manifest import MemoryLine, Speed
from pitool.catalog.model_shape import ModelShape, loaded_within
from pitool.catalog.tensor_types import (
    QUANTISATIONS,
    TENSOR_TYPES,
    Quantisation,
    find_quantisation,
)
from pitool.errors import BadInput
from pitool.planning.formats.base import (
    AnyQuantisation,
    ArtifactPlan,
    PlannedFormat,
    PlannedModel,
)
from pitool.planning.formats.gguf_memory import (
    context_bytes,
    kv_cache_bytes,
    loading_peak,
    plan_memory,
)
from pitool.planning.formats.gguf_speed import estimate, estimates
from pitool.planning.memory import Load, most_context
from pitool.planning.places import Place
from pitool.planning.prefill import count_alike, prefill_seconds
from pitool.planning.shapes import header_shape, header_tensors
from pitool.planning.speed import Correction
from pitool.planning.type_mixture import TypedTensor, assign_types, keep_grids, own_grid

# Of a header: what stands beside names and tokens, an entry of the table of tensors beside its
# name, and a token with its type and merge.
METADATA_BYTES = 4096
TENSOR_ENTRY_BYTES = 44
TOKEN_BYTES = 40


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

    def stored(self, name: str) -> Quantisation:
        """Return the quantisation of a file, whose name may be that of its most used type."""
        return QUANTISATIONS.get(name) or Quantisation(name, 0, name)

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
        left = budget - artifact.memory.total + context_bytes(shape, load)
        return most_context(
            self.reach(shape), lambda n: context_bytes(shape, replace(load, context=n)) <= left
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
        kinds = map(self.stored, model.stored)
        yield from ((kind, "the file as it is") for kind in kinds if kind.quantised)
        if own := self.grid_of(model):
            yield own, "the weights were trained for it"

    def usual(self, model: PlannedModel) -> list[AnyQuantisation]:
        """Return the common quantisations, and those of files and of the model's grid."""
        own = self.grid_of(model)
        names = dict.fromkeys([*self.common, *model.stored, *([own.name] if own else [])])
        return list(map(self.stored, names))

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
