"""The planner: what a model needs at a quantisation, where it fits, and what would help.

The one place where verdicts on plans are made; ``convert``, ``plan``, ``list`` and the chat show
them. All sizes in bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any

from pitool.catalog.kv_types import USUAL, CacheTypes
from pitool.catalog.profiles import Profile
from pitool.catalog.tensor_types import QUANTISATIONS, TENSOR_TYPES
from pitool.errors import DoesNotFit
from pitool.planning.formats import FORMATS, GGUF
from pitool.planning.formats.base import AnyQuantisation, ArtifactPlan, PlannedModel
from pitool.planning.memory import Load
from pitool.planning.places import Place, Verdict, tier_places
from pitool.planning.speculating import speculative_decodes
from pitool.planning.speed import NONE, Correction
from pitool.report.numbers import (
    compare_bytes,
    compare_fixed,
    format_bytes,
    format_gigabytes,
    format_share,
    format_speed,
)

# What leaves the choice of a quantisation to the plan.
AUTO = "auto"
# Fewer bits than these cost more quality than a smaller model with more of them.
LEAST_BITS = 4.0
# Below this share of its bytes a quantisation gains little from the boards' fast kernels.
FAST_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Row:
    """A quantisation at a place: its plan, with verdict and speeds.

    ``left``: bytes of the room that stay free, negative where they are missing;
    ``longest_context``: tokens, 0 for none.
    """

    artifact: ArtifactPlan
    place: Place
    verdict: Verdict
    left: int
    longest_context: int

    @property
    def quantisation(self) -> str:
        """Name of the quantisation."""
        return self.artifact.quantisation.name

    @property
    def peak(self) -> int:
        """The most bytes held at any time, loading included."""
        return self.artifact.peak

    @property
    def fits(self) -> bool:
        """Whether it fits, tight not counted."""
        return self.verdict is Verdict.FITS

    @property
    def loads(self) -> bool:
        """Whether it can be loaded at all."""
        return self.verdict is not Verdict.NO

    @property
    def slowest(self) -> float:
        """The decode tokens/s on the slowest of the place's boards."""
        return min((e.decode for e in self.artifact.estimates), default=inf)


@dataclass(frozen=True, slots=True)
class Planner:
    """One model under one profile; ``load`` says how it is loaded and with how much context.

    ``corrections``: of predicted speeds by the name of the format, learnt on the machine that is
    planned for.
    """

    model: PlannedModel
    profile: Profile
    load: Load
    corrections: Mapping[str, Correction] = field(default_factory=dict)

    def row(self, quantisation: AnyQuantisation, place: Place) -> Row:
        """Return the artifact at a place with its verdict."""
        form = FORMATS[quantisation.format]
        correction = self.corrections.get(form.name, NONE)
        within = min(self.load.context, form.reach(self.model.shape))
        load = replace(self.load, context=within)
        artifact = form.artifact(self.model, quantisation, place, load, correction)
        longest = form.longest_context(self.model, artifact, place.budget(self.profile))
        verdict = place.judge(artifact.peak, self.profile)
        return Row(artifact, place, verdict, place.room - artifact.peak, longest)

    def rows(self, quantisations: Iterable[AnyQuantisation], places: Iterable[Place]) -> list[Row]:
        """Return every quantisation at every place, by quantisation."""
        places = list(places)
        return [self.row(kind, place) for kind in quantisations for place in places]

    def under(self, profile: Profile) -> Planner:
        """Return the planner with another profile and its own settings."""
        context = GGUF.context(self.model.shape, None, profile.context)
        load = replace(
            self.load,
            context=context,
            micro_batch=profile.micro_batch,
            kv_type=profile.kv_type,
            value_type=None,
        )
        return replace(self, profile=profile, load=load)

    def choose(self, place: Place) -> tuple[Row, str]:
        """Return the GGUF that ``auto`` takes at a place and why; a row that does not fit for none.

        What a quantised file has, or the one on whose grid the weights lie; else the best quality
        first. Passed over is what does not fit, is slower than the profile asks, or is mostly of
        types that a board with fast kernels has none for. The reason has up to two lines.
        """
        for kind, why in GGUF.given(self.model):
            row = self.row(kind, place)
            if row.fits:
                fits = f"fits {place.title} with {format_gigabytes(row.left)} GB free"
                return row, f"{kind.name}: {why}, and it {fits}"
        passed = ""
        for name, least in self.profile.candidates.items():
            row = self.row(GGUF.find(name), place)
            against = _against(row, least)
            if not against:
                best = f"{name}: the best quality that fits {place.title} and decodes at"
                room = f"{format_gigabytes(row.left)} GB free"
                why = f"; {passed}" if passed else "; no candidate has better quality"
                speed = f"{format_speed(row.slowest)} tokens/s or more on its boards"
                return row, f"{best} {speed}\n{room}{why}"
            passed = f"{name} was skipped: {against}"
        for name in self.profile.fallback:
            row = self.row(GGUF.find(name), place)
            if row.fits:
                return row, f"{name}: fits {place.title}; a smaller model would be faster\n{passed}"
        return row, f"nothing fits {place.title}"

    def remedies(self, row: Row) -> list[str]:
        """Return the options, each by itself enough, with which a row would fit."""
        return [] if row.fits else list(self._remedies(row))

    def _remedies(self, row: Row) -> Iterator[str]:
        kind = row.artifact.quantisation
        form = FORMATS[kind.format]
        if row.longest_context:
            yield f"--context {row.longest_context}"
        for cache in form.smaller_caches if str(self.load.cache) == USUAL else ():
            load = self.load.with_cache(CacheTypes(cache, cache))
            if replace(self, load=load).row(kind, row.place).fits:
                yield f"--kv-type {cache}"
                break
        for fewer in range(self.load.sequences - 1, 0, -1):
            if replace(self, load=replace(self.load, sequences=fewer)).row(kind, row.place).fits:
                yield f"--parallel {fewer}"
                break
        for name in form.common:
            other = self.row(form.quantisations[name], row.place)
            small = other.artifact.bytes < row.artifact.bytes
            if small and other.fits and usable(other.artifact.quantisation):
                yield f"--quant {name}"
                break
        for place in tier_places():
            if place.room > row.place.room and self.row(kind, place).fits:
                yield f"--ram {place.tier}"
                break

    def require(self, row: Row, remedies: Iterable[str] | None = None) -> None:
        """Raise DoesNotFit for what does not fit or is tight, with the numbers and what would help.

        ``remedies``: those to name, where they are not the planner's own.
        """
        if row.fits:
            return
        verb = "is tight" if row.loads else "does not fit"
        needed, budget = compare_bytes(row.peak, row.place.budget(self.profile))
        raise DoesNotFit(
            f"{row.quantisation} with {row.artifact.context} tokens of context {verb}: it needs"
            f" {needed}, and {row.place.title} has {budget} for a model",
            would_fit(self.remedies(row) if remedies is None else remedies),
        )

    def to_json(self, row: Row) -> dict[str, Any]:
        """Return every number of a row."""
        artifact, form = row.artifact, FORMATS[row.artifact.format]
        shape = self.model.shape
        speeds = {
            e.board: e.to_json() | {"speculative": speculative_decodes(shape, e)}
            for e in artifact.estimates
        }
        return {
            "quantisation": row.quantisation,
            "place": row.place.name,
            "tier": row.place.tier,
            "bytes": artifact.bytes,
            "tensor_bytes": artifact.tensor_bytes,
            "bits_per_weight": artifact.bits_per_weight,
            "memory": {line.name: line.bytes for line in artifact.memory.lines},
            "memory_bytes": artifact.memory.total,
            "peak_bytes": row.peak,
            "room_bytes": row.place.room,
            "budget_bytes": row.place.budget(self.profile),
            "verdict": row.verdict.value,
            "left_bytes": row.left,
            "longest_context": row.longest_context,
            "would_fit": self.remedies(row),
            "assumed_speed" if form.assumed else "speed": speeds,
        }

    def require_loadable(self, rows: Iterable[Row]) -> None:
        """Raise DoesNotFit where none of the rows, of which there are some, can be loaded."""
        rows = list(rows)
        if any(row.loads for row in rows):
            return
        row = rows[-1]
        raise DoesNotFit(
            f"{row.quantisation} needs {format_bytes(-row.left)} more memory than"
            f" {row.place.title} has",
            would_fit(self.remedies(row)),
        )


def usable(quantisation: AnyQuantisation) -> bool:
    """Tell whether one would really use a quantisation: four bits a weight, or trained for less."""
    kind = QUANTISATIONS.get(quantisation.name)
    return kind is None or kind.trained or TENSOR_TYPES[kind.base.upper()].bits >= LEAST_BITS


def would_fit(remedies: Iterable[str]) -> str:
    """Return remedies as what to do next."""
    remedies = list(remedies)
    return f"{' or '.join(remedies)} would fit" if remedies else "choose a smaller model"


def _against(row: Row, least: float) -> str:
    """Return what speaks against a candidate, if anything."""
    if not row.fits:
        lack = "leaves too little free" if row.loads else "does not fit"
        return f"it {lack}, by {format_gigabytes(abs(row.left))} GB"
    if row.slowest < least:
        found, wanted = compare_fixed(row.slowest, least, digits=1)
        return f"it decodes at {found} tokens/s, below {wanted}"
    share = FORMATS[row.artifact.format].fast_share(row.artifact, row.place)
    return (
        f"only {format_share(share)} of its weights have fast kernels" if share < FAST_SHARE else ""
    )
