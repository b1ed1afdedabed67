"""The plan of a conversion, made before anything is downloaded or written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from pitool.catalog.kv_types import CacheTypes
from pitool.catalog.model_shape import ModelShape
from pitool.catalog.profiles import BALANCED, Profile, find_profile
from pitool.catalog.tables import names_in, nearest
from pitool.catalog.tensor_types import QUANTISATIONS, Quantisation
from pitool.catalog.tiers import Tier
from pitool.checkpoint.config import Config
from pitool.convert.gguf.choice import plan_gguf
from pitool.convert.gguf.fitting import FIT, Fitting
from pitool.convert.gguf.grids import Found, types_of
from pitool.convert.gguf.model import Model, find_model
from pitool.convert.gguf.stored import Stored
from pitool.convert.onnx.choice import plan_onnx
from pitool.convert.onnx.fused import supported
from pitool.convert.scope import text_alone
from pitool.convert.techniques import IMATRIX, TECHNIQUES
from pitool.convert.techniques.planned import plan_technique
from pitool.errors import UsageError
from pitool.planning.formats import GGUF, ONNX
from pitool.planning.formats.base import ArtifactPlan, PlannedModel
from pitool.planning.formats.gguf import GgufPlan
from pitool.planning.formats.onnx import OnnxPlan
from pitool.planning.memory import Load
from pitool.planning.places import Place, tier_place
from pitool.planning.planner import Planner
from pitool.planning.shapes import header_tensors
from pitool.planning.speed import Correction

P = TypeVar("P", bound=ArtifactPlan)


@dataclass(frozen=True, slots=True)
class ConvertPlan:
    """All artifacts of a conversion; ``reason`` explains an automatic choice.

    ``place`` has ``budget`` bytes for a model; ``board``: id of the one board that it is planned
    for, None for every board of the tier. ``fitting``: of the GGUF of a given size, if any.
    ``whole``: the same artifacts with the whole vocabulary, by quantisation, where that is cut.
    """

    model: ModelShape
    tier_name: str
    tier: Tier
    place: str
    budget: int
    artifacts: tuple[ArtifactPlan, ...]
    reason: str = ""
    board: str | None = None
    fitting: Fitting | None = None
    whole: Mapping[str, ArtifactPlan] = field(default_factory=dict)

    def of(self, kind: type[P]) -> tuple[P, ...]:
        """Return the artifacts of one kind: ``GgufPlan``, ``OnnxPlan`` or ``TechniquePlan``."""
        return tuple(a for a in self.artifacts if type(a) is kind)

    @property
    def rounded(self) -> list[Quantisation]:
        """The types of GGUFs that are quantised here; a GGUF's own type is copied."""
        own = self.fitting.planner.model.stored if self.fitting else {}
        kinds = [a.quantisation for a in self.of(GgufPlan)]
        return [kind for kind in kinds if kind.quantised and kind.name not in own]


@dataclass(frozen=True, slots=True)
class Whole:
    """A model before its vocabulary was cut; ``header``: counts the bytes before its tensors."""

    config: Config
    header: Callable[[], int]


@dataclass(frozen=True, slots=True)
class Names:
    """Quantisations by who makes them, each with commas between."""

    gguf: str
    onnx: str
    techniques: str


def make_plan(
    config: Config,
    tier_name: str,
    tier: Tier,
    quantisations: str,
    context: int | None,
    *,
    onnx: str = "",
    techniques: str = "",
    size: int | None = None,
    target: float | None = None,
    cache: CacheTypes | None = None,
    solves: bool = False,
    importance: bool = False,
    profile: Profile | None = None,
    place: Place | None = None,
    corrections: Mapping[str, Correction] | None = None,
    header: Callable[[], int] | None = None,
    found: Found | None = None,
    whole: Whole | None = None,
) -> ConvertPlan:
    """Return the plan; DoesNotFit with the numbers when nothing that was asked for fits.

    ``quantisations`` of GGUF and those of ``onnx``: names separated by commas, or ``auto``, or
    nothing; ``techniques`` of the lab: names; ``FIT`` of GGUF has ``size`` bytes at most, or what
    there is room for, and decodes ``target`` tokens/s or more. ``cache``: types of the KV cache.
    ``solves``: of ``auto``, see ``plan_gguf``. ``importance``: there will be an importance matrix.
    ``place``: one board instead of the smallest of the tier; ``corrections``: of speeds predicted
    there. ``header``: counts the bytes of a GGUF before its tensors, where the vocabulary is at
    hand. ``found``: the matrices that seem to lie on grids, None where the weights are not at
    hand. ``whole``: the model before its vocabulary was cut.
    """
    source = find_model(config, convertible=bool(quantisations))
    model = source.shape
    profile = profile or find_profile(BALANCED)
    place = place or tier_place(tier_name, tier)
    own = source.kind if isinstance(source, Stored) else None
    planned = _planned(
        config, source, header if quantisations else None, found, importance=importance
    )
    form = GGUF if quantisations or techniques else ONNX
    load = Load(
        form.context(model, context, profile.context),
        micro_batch=profile.micro_batch,
        kv_type=profile.kv_type,
    )
    load = load.with_cache(cache) if cache else load
    planner = Planner(planned, profile, load, corrections or {})
    board = next(iter(place.boards)) if place.name != place.tier else None
    fitting = Fitting(planner, place, size, target)
    rows, reason, fitting = plan_gguf(fitting, quantisations, own, found, solves=solves)
    made = [plan_technique(planner, place, config, name) for name in names_in(techniques)]
    onnx_rows, left_out = plan_onnx(planner, place, config, onnx, alone=not (rows or made))
    artifacts: tuple[ArtifactPlan, ...] = (
        *(row.artifact for row in rows),
        *(row.artifact for row in onnx_rows),
        *made,
    )
    if not artifacts:
        raise UsageError("--quant is empty", "choose one such as Q4_K_M, or auto")
    made_of = dict.fromkeys([form, *([ONNX] if onnx_rows else [])])
    limits = (each.limit(model, load.context) for each in made_of)
    remark = source.remark if rows else ""
    lines = (reason, *limits, remark, text_alone(config), *left_out)
    reason = "\n".join(line for line in lines if line)
    budget = place.budget(profile)
    before = {}
    if whole:
        own_model = find_model(whole.config, convertible=False)
        header = whole.header if quantisations else None
        all_tokens = _planned(whole.config, own_model, header, found, importance=importance)
        before = _planned_whole(replace(planner, model=all_tokens), place, artifacts)
    return ConvertPlan(
        model, tier_name, tier, place.name, budget, artifacts, reason, board, fitting, before
    )


def _planned(
    config: Config,
    source: Model,
    header: Callable[[], int] | None,
    found: Found | None,
    *,
    importance: bool,
) -> PlannedModel:
    exported = not supported(config)
    stored = {}
    if isinstance(source, Stored):
        stored = {source.kind.name: header_tensors(source.header)}
    return PlannedModel(
        "", source.shape, stored, importance=importance, exported=exported,
        header=header() if header else None, grids=types_of(found or {}),
        expressible=not exported,
    )  # fmt: skip


def _planned_whole(
    planner: Planner, place: Place, artifacts: Sequence[ArtifactPlan]
) -> dict[str, ArtifactPlan]:
    """Return what artifacts would be with all tokens; none for a given size, and of techniques."""
    kinds = [a.quantisation for a in artifacts if isinstance(a, GgufPlan | OnnxPlan)]
    return {k.name: planner.row(k, place).artifact for k in kinds if k is not FIT}


def split_names(quantisations: str) -> Names:
    """Return the names by who makes them; UsageError names the nearest of all to another word.

    A technique that is a type of llama.cpp's is that of GGUF.
    """
    sides: tuple[list[str], list[str], list[str]] = [], [], []
    for name in names_in(quantisations):
        plain = name.lower().removesuffix(IMATRIX).upper()
        if ONNX.knows(name):
            sides[1].append(name)
        elif plain in (*QUANTISATIONS, FIT.name):
            sides[0].append(plain)
        elif name.lower() in TECHNIQUES:
            sides[2].append(name.lower())
        else:
            known = [*QUANTISATIONS, *ONNX.quantisations, *map(str.upper, TECHNIQUES)]
            raise UsageError(f"unknown quantisation {name!r}", nearest(name.upper(), known))
    return Names(*(",".join(names) for names in sides))
