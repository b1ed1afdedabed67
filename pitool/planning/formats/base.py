"""What a format of artifacts is to the rest of pitool, and what is planned of an artifact.

``Format`` is the one answer to every question of which format it is: the names of its runtime,
what its runtime can be set to, what can be known of a file without a manifest. Its own defaults
are those of a format of which nothing is known, which an engine from outside may bring.
``PlannedFormat`` adds the sums. Owns no table; that is ``formats.FORMATS``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pitool.catalog.boards import Board
from pitool.catalog.manifest import CacheQuality, Certificate, MemoryLine, Speed, Vocabulary
from pitool.catalog.model_shape import ModelShape
from pitool.errors import PitoolError
from pitool.planning.memory import Load, MemoryPlan
from pitool.planning.places import Place
from pitool.planning.speed import Correction, Estimate
from pitool.planning.type_mixture import Grids, TypedTensor


class AnyQuantisation(Protocol):
    """What the quantisations of all formats have in common; ``format`` is a key of ``FORMATS``."""

    @property
    def name(self) -> str:
        """As a user types it, in capitals."""

    @property
    def format(self) -> str:
        """Name of the format that it belongs to."""

    @property
    def quantised(self) -> bool:
        """Whether it has fewer bits than a half-precision float."""


class SizedTensor(Protocol):
    """A tensor of which the stored bytes are known."""

    @property
    def bytes(self) -> int:
        """Stored bytes."""


@dataclass(frozen=True, slots=True)
class PlannedModel:
    """The model of a plan.

    ``stored``: the tensors of GGUFs that exist, by quantisation; the others are computed.
    ``certificates``: the measured quality of artifacts. ``typical``: the shape is that of a size,
    not of a real model. ``importance``: it is quantised with an importance matrix. ``exported``:
    its ONNX graphs are optimum's, not pitool's own. ``header``: bytes of a GGUF of it before the
    tensors; None where its vocabulary is not at hand. ``grids``: the types that hold its tensors
    without loss, as far as its weights were looked at. ``remarks``: sentences on what of it is
    converted, and how exactly. ``expressible``: pitool's own writer makes its ONNX graph.
    ``caches``: what types of the KV cache were measured to cost, by quantisation.
    ``vocabulary``: what is left of one that is to be cut, and ``whole`` the model before that.
    """

    name: str
    shape: ModelShape
    stored: Mapping[str, tuple[TypedTensor, ...]] = field(default_factory=dict)
    certificates: Mapping[str, Certificate] = field(default_factory=dict)
    typical: bool = False
    importance: bool = False
    exported: bool = False
    header: int | None = None
    grids: Grids = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    expressible: bool = False
    caches: Mapping[str, Sequence[CacheQuality]] = field(default_factory=dict)
    vocabulary: Vocabulary | None = None
    whole: PlannedModel | None = None


@dataclass(frozen=True, slots=True)
class ArtifactPlan:
    """What one artifact will be: bytes of its files, memory, and speed for each board.

    ``weights``: how many the model has; ``loading``: the most bytes held while it is loaded,
    before there is a context; ``besides``: bytes of its files that are no tensor's.
    """

    quantisation: AnyQuantisation
    load: Load
    tensors: Sequence[SizedTensor]
    weights: int
    memory: MemoryPlan
    estimates: tuple[Estimate, ...] = ()
    loading: int = 0
    besides: int = 0

    @property
    def format(self) -> str:
        """Name of the format."""
        return self.quantisation.format

    @property
    def context(self) -> int:
        """Tokens of context that it is planned for."""
        return self.load.context

    @property
    def peak(self) -> int:
        """The most bytes held at any time, loading included."""
        return max(self.loading, self.memory.total)

    @property
    def speeds(self) -> tuple[Speed, ...]:
        """The predicted speeds as a manifest keeps them."""
        return tuple(e.speed for e in self.estimates)

    @property
    def tensor_bytes(self) -> int:
        """Bytes of the tensors."""
        return sum(tensor.bytes for tensor in self.tensors)

    @property
    def bytes(self) -> int:
        """Bytes of its files, header and metadata included."""
        return self.tensor_bytes + self.besides

    @property
    def bits_per_weight(self) -> float:
        """Stored bits over the number of weights."""
        return self.tensor_bytes * 8 / self.weights


class Format:
    """A format by its ``name``, as manifests have it, and what is asked of every format.

    ``title``: as sentences have it; ``engine``: the name by which its engine signs results;
    ``runtime`` and ``package``: what runs it, and the Python package that brings that;
    ``assumed``: why its predicted speeds are no more than an assumption, empty where they rest on
    published figures; ``tunable``: whether the runtime has llama.cpp's settings (batches, type of
    the KV cache, flash attention, repacking, a pool of threads for prefill); ``names_kernels``:
    whether the runtime says which kernels it was built with; ``planned_by_header``: whether
    ``memory_of`` knows a plan; ``streams``: whether ``streamed_bytes`` are known; ``parallel``:
    whether the runtime writes several answers at once.
    """

    title: str
    engine: str
    runtime: str
    package: str = ""
    assumed: str = ""
    tunable: bool = True
    names_kernels: bool = True
    planned_by_header: bool = False
    streams: bool = False
    parallel: bool = False

    def __init__(self, name: str) -> None:
        self.name = name
        self.title = self.engine = self.runtime = name

    def interleaves(self, _entry: Path, _types: frozenset[str]) -> bool:
        """Tell whether most bytes of an artifact are of tensor types that ggml interleaves."""
        return False

    def memory_of(
        self, _entry: Path, _load: Load, _repacked: frozenset[str]
    ) -> tuple[MemoryLine, ...] | None:
        """Return the memory plan of an artifact that no manifest describes; None for unknown."""
        return None

    def speed_of(self, _entry: Path, _board_id: str, _board: Board) -> Speed | None:
        """Return the predicted speed of an artifact that no manifest describes, if known."""
        return None

    def cost_of(self, _entry: Path, _context: int) -> str:
        """Say what an artifact computes otherwise for this much context; empty for nothing."""
        return ""

    def streamed_bytes(self, _entry: Path) -> int | None:
        """Return the bytes of weights that decoding a token reads; None where they are unknown."""
        return None


class PlannedFormat(Format, ABC):
    """A format whose artifacts are planned before they exist.

    ``quantisations``: by name, the best quality first; ``common``: those that a report compares;
    ``summed`` and ``timed``: those of them whose sums and speeds it shows; ``beside``: those that
    it shows in a report on another format; ``by_bits``: those at 16, 8 and 4 bits that boards and
    GPUs are compared with, empty where they are not; ``smaller_caches``: the types of the KV cache
    that take less than f16; ``loading_counts``: whether loading may take more than running.
    """

    quantisations: Mapping[str, AnyQuantisation]
    common: tuple[str, ...]
    summed: tuple[str, ...]
    timed: tuple[str, ...]
    beside: tuple[str, ...] = ()
    by_bits: tuple[str, ...] = ()
    smaller_caches: tuple[str, ...] = ()
    loading_counts: bool = False

    @abstractmethod
    def knows(self, name: str) -> bool:
        """Tell whether a user's word is a quantisation of this format."""

    @abstractmethod
    def find(self, name: str) -> AnyQuantisation:
        """Return the quantisation that a user typed, in any case; UsageError names the nearest."""

    @abstractmethod
    def artifact(
        self,
        model: PlannedModel,
        quantisation: AnyQuantisation,
        place: Place,
        load: Load,
        correction: Correction,
    ) -> ArtifactPlan:
        """Return what the model is at a quantisation, with its speeds on the place's boards."""

    @abstractmethod
    def longest_context(self, model: PlannedModel, artifact: ArtifactPlan, budget: int) -> int:
        """Return the most tokens of context, a multiple of 256, that fit ``budget``; 0 for none."""

    @abstractmethod
    def state_bytes(self, shape: ModelShape, artifact: ArtifactPlan, tokens: int) -> int:
        """Return the bytes of a saved prefill of so many tokens."""

    def prompt_seconds(
        self, _shape: ModelShape, artifact: ArtifactPlan, place: Place, board: str, tokens: int
    ) -> float:
        """Return the time in which a prompt of so many tokens is read on a board of a place."""
        del place
        (found,) = (each for each in artifact.estimates if each.board == board)
        return tokens / found.prefill

    def reach(self, shape: ModelShape) -> int:
        """Return for how many tokens of context an artifact computes what its checkpoint does."""
        return shape.context

    def context(self, shape: ModelShape, asked: int | None, usual: int) -> int:
        """Return the tokens of context to plan for: what is asked for or usual, within reach."""
        return min(asked or usual, self.reach(shape))

    def limit(self, _shape: ModelShape, _context: int) -> str:
        """Say what keeps the context below the trained one, or what this much costs.

        Empty where nothing does.
        """
        return ""

    def usual(self, _model: PlannedModel) -> list[AnyQuantisation]:
        """Return the quantisations that a report on a model compares where none is named."""
        return [self.quantisations[name] for name in self.common]

    def refusal(self, _model: PlannedModel) -> PitoolError | None:
        """Return why a model cannot be had in this format, or None."""
        return None

    def fast_share(self, _artifact: ArtifactPlan, _place: Place) -> float:
        """Return the share of the layers' bytes that the place's boards have fast kernels for."""
        return 1.0

    def copies(self, _place: Place) -> str:
        """Say which weights are held twice, and why; empty where none are."""
        return ""
