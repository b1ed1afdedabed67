"""Which of a repository's models to pull for a place: sizes, verdicts, speeds, and the best.

One header is read for the shape. The others are planned by the types that their names say, set
right by their sizes; the one that is taken is planned anew by its own header. All sizes in bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import inf
from typing import Any

from pitool.catalog import gguf
from pitool.catalog.model_shape import ModelShape
from pitool.catalog.profiles import Profile
from pitool.catalog.tensor_types import QUANTISATIONS, Quantisation
from pitool.errors import BadInput, DoesNotFit, PitoolError
from pitool.planning.catalogue import smaller
from pitool.planning.formats import GGUF
from pitool.planning.formats.base import PlannedModel
from pitool.planning.memory import Load
from pitool.planning.places import Place, Verdict
from pitool.planning.planner import FAST_SHARE, Planner, Row, would_fit
from pitool.planning.shapes import header_shape, header_tensors
from pitool.planning.speed import Correction
from pitool.pull.connection import Unavailable
from pitool.pull.headers import read_gguf_header
from pitool.pull.hub import Hub, Repository
from pitool.pull.variants import Variant
from pitool.report.numbers import compare_bytes, format_gigabytes, format_speed

# What is tried where nothing reaches the profile's speed: from here on downwards in quality.
COMPROMISE = "Q4_K_M"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model of a repository at a place.

    ``row``: its plan, by its name or by its own ``header``; ``refused``: why it cannot be run.
    """

    variant: Variant
    row: Row | None
    header: gguf.Header | None = None
    refused: str = ""

    @property
    def needed(self) -> int | None:
        """The most bytes held, its own size in place of the planned one."""
        return None if self.row is None else self.row.peak + self._more

    @property
    def left(self) -> int | None:
        """Bytes of the place's room that stay free, negative where they are missing."""
        return None if self.row is None else self.row.left - self._more

    @property
    def _more(self) -> int:
        """Bytes that the file has beyond its plan; none once its own header is planned."""
        if self.row is None or self.header is not None:
            return 0
        return self.variant.bytes - self.row.artifact.bytes

    @property
    def decode(self) -> float | None:
        """Predicted tokens/s on the slowest of the place's boards; None where none is known."""
        if self.row is None or self.row.slowest == inf:
            return None
        size = self.row.artifact.bytes
        return self.row.slowest * (size / (size + self._more))

    def verdict(self, profile: Profile) -> Verdict | None:
        """Return the verdict of its place; None where nothing can be planned."""
        if self.row is None or self.needed is None:
            return None
        return self.row.place.judge(self.needed, profile)


@dataclass(frozen=True)
class Choice:
    """The candidates of a repository at a place, the best quality first, and how one is taken."""

    hub: Hub
    repository: Repository
    variants: Sequence[Variant]
    place: Place
    profile: Profile
    context: int | None = None
    corrections: Mapping[str, Correction] = field(default_factory=dict)

    @cached_property
    def candidates(self) -> list[Candidate]:
        """Every variant, planned by one header."""
        made = [self._by_name(variant) for variant in self.variants]
        return sorted(made, key=_quality)

    @cached_property
    def _first(self) -> tuple[ModelShape, int] | None:
        """The shape and the header's size by the first header that can be read."""
        ggufs = [v for v in self.variants if v.format == GGUF.name]
        # The smallest ones are often of types that this version does not know.
        for variant in sorted(ggufs, key=lambda v: v.quantisation != COMPROMISE):
            try:
                header = self._read(variant)
                return header_shape(header), header.size
            except Unavailable:
                raise
            except BadInput as error:
                self._errors.append(error)
        return None

    @cached_property
    def _headers(self) -> dict[str, gguf.Header]:
        return {}

    def _read(self, variant: Variant) -> gguf.Header:
        """Return a header, some megabytes, which are fetched once."""
        if variant.name not in self._headers:
            self._headers[variant.name] = read_gguf_header(self.hub, self.repository, variant)
        return self._headers[variant.name]

    @cached_property
    def _errors(self) -> list[BadInput]:
        return []

    def _by_name(self, variant: Variant) -> Candidate:
        if variant.format != GGUF.name or self._first is None:
            return Candidate(variant, None)
        shape, header = self._first
        planner = self._planner(PlannedModel("", shape, header=header))
        known = QUANTISATIONS.get(_llama_cpps(variant.quantisation))
        kinds = [known] if known else list(QUANTISATIONS.values())
        rows = [planner.row(kind, self.place) for kind in kinds]
        nearest = min(rows, key=lambda row: abs(row.artifact.bytes - variant.bytes))
        return Candidate(variant, nearest)

    def exact(self, variant: Variant) -> Candidate:
        """Return a variant planned by its own header; BadInput where it cannot be run."""
        if variant.format != GGUF.name:
            return Candidate(variant, None)
        header = self._read(variant)
        return Candidate(variant, plan_header(self, header), header)

    def planner_of(self, header: gguf.Header) -> tuple[Planner, Quantisation]:
        """Return the planner of a GGUF, and its quantisation."""
        name = header.quantisation
        kind = QUANTISATIONS.get(name) or Quantisation(name, 0, name)
        model = PlannedModel(
            header.name, header_shape(header), {name: header_tensors(header)}, header=header.size
        )
        return self._planner(model), kind

    def _planner(self, model: PlannedModel) -> Planner:
        load = Load(
            min(self.context or self.profile.context, GGUF.reach(model.shape)),
            micro_batch=self.profile.micro_batch,
            kv_type=self.profile.kv_type,
        )
        return Planner(model, self.profile, load, self.corrections)

    def best(self, preferred: str = "") -> tuple[Candidate, str]:
        """Return what to pull, planned by its own header, and why, in a line.

        ``preferred``: a file or a quantisation, which is taken where it fits. DoesNotFit with
        the numbers where nothing fits.
        """
        passed: list[str] = []
        for candidate, reason in self._in_order(preferred):
            try:
                found = self.exact(candidate.variant)
            except Unavailable:
                raise
            except BadInput as error:
                passed.append(f"{candidate.variant.quantisation} was skipped: {error.what}")
                continue
            if found.verdict(self.profile) in (None, Verdict.FITS):
                return found, "; ".join([reason, *passed])
            passed.append(f"{found.variant.quantisation} was skipped: its header needs more")
        raise self._nothing(passed)

    def _in_order(self, preferred: str) -> Iterator[tuple[Candidate, str]]:
        """Yield what fits, the best first, each with the reason for which it would be taken."""
        fitting = [c for c in self.candidates if c.verdict(self.profile) is Verdict.FITS]
        unknown = [c for c in self.candidates if c.row is None]
        title = self.place.title
        mine = [c for c in fitting if preferred in (c.variant.name, c.variant.quantisation)]
        fast = [c for c in fitting if self._fast(c)]
        modest = [c for c in fitting if _quality(c)[0] >= _rank(COMPROMISE)]
        steps = (
            (mine, f"what the recipe recommends, and it fits {title}"),
            (fast, f"the best quality that fits {title}"),
            (modest, f"fits {title}"),
            (fitting[::-1], f"the smallest that fits {title}"),
            (unknown, "what it needs is not known beforehand"),
        )
        given: set[str] = set()
        for found, why in steps:
            for candidate in found:
                if candidate.variant.name not in given:
                    given.add(candidate.variant.name)
                    yield (
                        candidate,
                        f"{candidate.variant.quantisation}: {why}{self._pace(candidate)}",
                    )

    def _pace(self, candidate: Candidate) -> str:
        """Return how fast it is, as the end of a reason; nothing where that is unknown."""
        if candidate.decode is None:
            return ""
        enough = candidate.decode >= self._least(candidate)
        return " at reading speed" if enough else "; a smaller model would be faster"

    def _least(self, candidate: Candidate) -> float:
        """Return the tokens/s that the profile asks of a quantisation."""
        assert candidate.row
        kind, asked = candidate.row.artifact.quantisation, self.profile.candidates
        otherwise = min(asked.values()) if kind.quantised else max(asked.values())
        return asked.get(kind.name, otherwise)

    def _fast(self, candidate: Candidate) -> bool:
        """Tell whether it decodes as fast as the profile asks, with kernels that are fast here."""
        assert candidate.row
        if candidate.decode is None:
            return candidate.row.artifact.quantisation.quantised
        share = GGUF.fast_share(candidate.row.artifact, self.place)
        return candidate.decode >= self._least(candidate) and share >= FAST_SHARE

    def require(self, candidate: Candidate) -> None:
        """Raise DoesNotFit for a candidate that cannot be loaded, with what would help."""
        if candidate.row is None or candidate.verdict(self.profile) is not Verdict.NO:
            return
        needed, room = compare_bytes(candidate.needed or 0, self.place.room)
        shape = None if candidate.header is None else self.planner_of(candidate.header)[0]
        remedies = shape.remedies(candidate.row) if shape else []
        raise DoesNotFit(
            f"{candidate.variant.quantisation} does not fit {self.place.title}: it needs {needed},"
            f" and a model may use {room}",
            would_fit(r for r in remedies if r.startswith(("--context", "--ram"))),
        )

    def _nothing(self, passed: Sequence[str]) -> PitoolError:
        if self._errors and all(c.row is None for c in self.candidates):
            return self._errors[0]
        planned = [c for c in self.candidates if c.needed is not None]
        if not planned:
            return BadInput(passed[0] if passed else "nothing can be run", "choose another model")
        smallest = min(planned, key=lambda c: c.needed or 0)
        needed, room = compare_bytes(smallest.needed or 0, self.place.budget(self.profile))
        name = smallest.variant.quantisation
        return DoesNotFit(
            f"nothing of {self.repository.id} fits {self.place.title}: the smallest, {name},"
            f" needs {needed}, and a model may use {room}",
            _instead(self.place, planned[0]),
        )


def plan_header(choice: Choice, header: gguf.Header) -> Row:
    """Return the plan of a GGUF by its own header."""
    planner, kind = choice.planner_of(header)
    return planner.row(kind, choice.place)


def _llama_cpps(label: str) -> str:
    """Return llama.cpp's name of a quantisation, without what makers put around it."""
    return label.removeprefix("UD-").removesuffix("_G64")


def _rank(name: str) -> int:
    """Return the place of a quantisation among all, the best quality first."""
    return list(QUANTISATIONS).index(name)


def _quality(candidate: Candidate) -> tuple[float, int, str]:
    """Return what sorts the best quality first: its type, then its size."""
    size = -candidate.variant.bytes
    if candidate.row is None:
        return inf, size, candidate.variant.name
    return _rank(candidate.row.quantisation), size, candidate.variant.name


def _instead(place: Place, candidate: Candidate) -> str:
    """Name a smaller model of the catalogue that fits a place."""
    weights = candidate.row.artifact.weights if candidate.row else 0
    found = smaller(place, weights)
    if found is None:
        return "choose less --context"
    return f"choose a smaller model, such as: pitool pull {found.name}"


def describe(candidate: Candidate) -> str:
    """Return memory and speed of what is taken, as the end of a sentence."""
    if candidate.row is None or candidate.needed is None:
        return "what it needs in memory is not known beforehand"
    text = f"needs {format_gigabytes(candidate.needed)} GB"
    if candidate.decode is not None:
        text += f", decodes at about {format_speed(candidate.decode)} tokens/s"
    return text


def to_json(candidate: Candidate, profile: Profile) -> dict[str, Any]:
    """Return every number of a candidate."""
    verdict = candidate.verdict(profile)
    return {
        "name": candidate.variant.name,
        "format": candidate.variant.format,
        "quantisation": candidate.variant.quantisation,
        "files": len(candidate.variant.files),
        "bytes": candidate.variant.bytes,
        "needed_bytes": candidate.needed,
        "left_bytes": candidate.left,
        "verdict": verdict.value if verdict else None,
        "decode": candidate.decode,
        "exact": candidate.header is not None,
    }
