"""Plans: what a model needs at a quantisation, where it fits, and what to do where it does not.

The one place where verdicts are made; ``convert``, ``plan``, ``list`` and the chat show them.
All sizes in bytes.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import inf

from pitool.catalog.boards import Board, Ram, boards_with
from pitool.catalog.manifest import Certificate, Speed
from pitool.catalog.model_shape import ModelShape
from pitool.catalog.profiles import Profile
from pitool.catalog.tensor_types import QUANTISATIONS, Quantisation, repacked_types
from pitool.catalog.tiers import Tier, tiers
from pitool.planning.memory import (
    MIB,
    Load,
    MemoryPlan,
    kv_cache_bytes,
    loading_peak,
    longest_context,
    plan_memory,
)
from pitool.planning.speed import NONE, Correction, Estimate, estimate
from pitool.planning.type_mixture import TypedTensor, assign_types

# What leaves the choice of a quantisation to the plan.
AUTO = "auto"
SMALLER_KV = ("q8_0", "q4_0")
# Below this share of its bytes a quantisation gains little from the boards' fast kernels.
FAST_SHARE = 0.5
# The rows of a plan's table, best quality first.
COMMON = ("F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "Q3_K_M", "Q2_K")


class Verdict(enum.StrEnum):
    """``TIGHT``: it loads, but eats into what should stay free for the page cache and spikes."""

    FITS = "fits"
    TIGHT = "tight"
    NO = "no"


@dataclass(frozen=True, slots=True)
class Subject:
    """The model of a plan.

    ``stored``: the tensors of artifacts that exist, by quantisation; the others are computed.
    ``certificates``: their measured quality. ``typical``: the shape is that of a size, not of a
    real model. ``importance``: it is quantised with an importance matrix. ``exported``: its ONNX
    graphs are optimum's, not pitool's own.
    """

    name: str
    shape: ModelShape
    stored: Mapping[str, tuple[TypedTensor, ...]] = field(default_factory=dict)
    certificates: Mapping[str, Certificate] = field(default_factory=dict)
    typical: bool = False
    importance: bool = False
    exported: bool = False

    def tensors(self, quantisation: Quantisation) -> tuple[TypedTensor, ...]:
        """Return the tensors of the artifact that exists, or would be made."""
        return self.stored.get(quantisation.name) or assign_types(
            self.shape, quantisation, importance=self.importance
        )


@dataclass(frozen=True, slots=True)
class Place:
    """Where a model is to run.

    ``room``: what Linux manages less what the operating system uses; ``margin``: what of it should
    stay free; ``boards``: those that it may be, by id; ``features``: of a CPU that is no board's.
    """

    name: str
    tier: str
    room: int
    margin: int
    boards: Mapping[str, Board]
    features: tuple[str, ...] = ()

    @property
    def repacked(self) -> frozenset[str]:
        """Names of the tensor types that ggml interleaves on any of its boards."""
        own = repacked_types(self.features)
        return own.union(*(board.repacked for board in self.boards.values()))

    def budget(self, profile: Profile) -> int:
        """Return what a plan may use and still be said to fit."""
        return max(self.room - round(self.margin * profile.margin), 0)


def tier_place(name: str, tier: Tier) -> Place:
    """Return the smallest board of a tier."""
    room = (tier.mem_total_mib - tier.os_mib) * MIB
    return Place(name, name, room, tier.margin_mib * MIB, boards_with(name))


def board_place(key: str, board: Board, ram: Ram) -> Place:
    """Return a board with one of its RAM sizes."""
    tier = tiers()[ram.tier]
    room = (ram.mem_total_mib - tier.os_mib) * MIB
    return Place(f"{key}-{ram.tier}", ram.tier, room, tier.margin_mib * MIB, {key: board})


def tier_places() -> list[Place]:
    """Return every tier, the smallest first."""
    return [tier_place(name, tier) for name, tier in tiers().items()]


@dataclass(frozen=True, slots=True)
class ArtifactPlan:
    """What one artifact will be: exact tensor bytes, memory, and speed for each board."""

    quantisation: Quantisation
    context: int
    tensors: tuple[TypedTensor, ...]
    memory: MemoryPlan
    estimates: tuple[Estimate, ...]
    load: Load
    format: str = "gguf"

    @property
    def speeds(self) -> tuple[Speed, ...]:
        """The predicted speeds as a manifest keeps them."""
        return tuple(e.speed for e in self.estimates)

    @property
    def bytes(self) -> int:
        """Bytes of the tensors."""
        return sum(tensor.bytes for tensor in self.tensors)

    @property
    def bits_per_weight(self) -> float:
        """Stored bits over the number of weights."""
        return self.bytes * 8 / sum(t.tensor.weights for t in self.tensors)


@dataclass(frozen=True, slots=True)
class Row:
    """An artifact at a place.

    ``left``: bytes of the room that stay free, negative where they are missing; ``peak``: the
    most bytes held at any time, loading included; ``longest_context``: tokens, 0 for none.
    """

    artifact: ArtifactPlan
    place: Place
    verdict: Verdict
    left: int
    peak: int
    longest_context: int


@dataclass(frozen=True, slots=True)
class Planner:
    """One model under one profile; ``load`` says how it is loaded and with how much context.

    ``correction`` and ``onnx_correction``: of predicted speeds under llama.cpp and under
    onnxruntime, learnt on the machine that is planned for.
    """

    subject: Subject
    profile: Profile
    load: Load
    correction: Correction = NONE
    onnx_correction: Correction = NONE

    def artifact(self, quantisation: Quantisation, place: Place) -> ArtifactPlan:
        """Return what the model is at a quantisation."""
        tensors = self.subject.tensors(quantisation)
        shape = self.subject.shape
        kv_bytes = kv_cache_bytes(shape, self.load.context, self.load.kv_type)
        return ArtifactPlan(
            quantisation,
            self.load.context,
            tensors,
            plan_memory(shape, tensors, self.load, repacked=place.repacked),
            tuple(
                estimate(key, board, shape, tensors, kv_bytes=kv_bytes, correction=self.correction)
                for key, board in place.boards.items()
            ),
            self.load,
        )

    def row(self, quantisation: Quantisation, place: Place) -> Row:
        """Return the artifact at a place with its verdict."""
        artifact = self.artifact(quantisation, place)
        shape, tensors = self.subject.shape, artifact.tensors
        loading = loading_peak(shape, tensors, self.load, repacked=place.repacked)
        peak = max(loading, artifact.memory.total)
        budget = place.budget(self.profile)
        longest = 0
        if loading <= budget:
            longest = longest_context(shape, tensors, self.load, budget, repacked=place.repacked)
        verdict = judge(peak, place, self.profile)
        return Row(artifact, place, verdict, place.room - peak, peak, longest)

    def rows(self, quantisations: Iterable[str], places: Iterable[Place]) -> list[Row]:
        """Return every quantisation at every place, by quantisation."""
        places = list(places)
        return [self.row(QUANTISATIONS[q], place) for q in quantisations for place in places]

    def choose(self, place: Place) -> tuple[Row, str]:
        """Return what ``auto`` takes at a place and why; a row that does not fit when none does.

        Best quality first; passed over is what does not fit, is slower than the profile asks, or
        is mostly of types that a board with fast kernels has none for. The reason has two lines.
        """
        passed = ""
        for name, least in self.profile.candidates.items():
            row = self.row(QUANTISATIONS[name], place)
            against = _against(row, least)
            if not against:
                best = f"{name}: the best quality that fits {place.name} and decodes at"
                room = f"{row.left / 1e9:.2f} GB stay free"
                why = f"; {passed}" if passed else ", and nothing better is asked for"
                return (
                    row,
                    f"{best} {_slowest(row):.0f} tokens/s or more on its boards\n{room}{why}",
                )
            passed = f"{name} was passed over: {against}"
        for name in self.profile.fallback:
            row = self.row(QUANTISATIONS[name], place)
            if row.verdict is Verdict.FITS:
                return row, f"{name}: fits {place.name}; a smaller model would be faster\n{passed}"
        return row, f"nothing fits {place.name}"

    def remedies(self, row: Row) -> list[str]:
        """Return the options, each by itself enough, with which a row would fit."""
        if row.verdict is Verdict.FITS:
            return []
        return list(self._remedies(row))

    def _remedies(self, row: Row) -> Iterator[str]:
        if row.longest_context:
            yield f"--context {row.longest_context}"
        for kind in SMALLER_KV:
            smaller = replace(self, load=replace(self.load, kv_type=kind))
            kept = smaller.row(row.artifact.quantisation, row.place)
            if self.load.kv_type == "f16" and _fits(kept):
                yield f"--kv-type {kind}"
                break
        for name in COMMON:
            other = self.row(QUANTISATIONS[name], row.place)
            if other.artifact.bytes < row.artifact.bytes and _fits(other):
                yield f"--quant {name}"
                break
        for place in tier_places():
            if place.room > row.place.room and _fits(self.row(row.artifact.quantisation, place)):
                yield f"--ram {place.tier}"
                break


def _slowest(row: Row) -> float:
    return min((e.decode for e in row.artifact.estimates), default=inf)


def _against(row: Row, least: float) -> str:
    """Return what speaks against a candidate, if anything."""
    if row.verdict is not Verdict.FITS:
        return f"it is {row.verdict.value} by {abs(row.left) / 1e9:.2f} GB"
    if _slowest(row) < least:
        return f"it decodes at {_slowest(row):.1f} tokens/s, below {least:.0f}"
    kind = row.artifact.quantisation
    if kind.quantised and row.place.repacked and fast_share(row) < FAST_SHARE:
        return f"only {fast_share(row):.0%} of its weights have fast kernels"
    return ""


def fast_share(row: Row) -> float:
    """Return the share of the layers' bytes in types that the boards have fast kernels for."""
    layers = [t for t in row.artifact.tensors if t.tensor.name.startswith("blk.")]
    matrices = [t for t in layers if len(t.tensor.shape) > 1]
    fast = sum(t.bytes for t in matrices if t.type.name in row.place.repacked)
    return fast / max(sum(t.bytes for t in matrices), 1)


def _fits(row: Row) -> bool:
    return row.verdict is Verdict.FITS


def judge(needed: int, place: Place, profile: Profile) -> Verdict:
    """Return the verdict on so many bytes."""
    return verdict_on(needed, place.room, place.room - place.budget(profile))


def verdict_on(needed: int, room: int, margin: int) -> Verdict:
    """Return the verdict on bytes that are needed where there is ``room``.

    ``margin``: what of the room should stay free.
    """
    if needed <= room - margin:
        return Verdict.FITS
    return Verdict.TIGHT if needed <= room else Verdict.NO
