"""The plan of a conversion, made before anything is downloaded or written."""

from __future__ import annotations

from dataclasses import dataclass

from pitool.checkpoint.config import Config
from pitool.convert.gguf.families import find_family
from pitool.convert.gguf.families.base import model_shape
from pitool.errors import DoesNotFit, UsageError
from pitool.spec.formats import Quantisation, find_quantisation
from pitool.spec.memory import Load, format_bytes
from pitool.spec.model import ModelShape
from pitool.spec.plan import ArtifactPlan, Place, Planner, Row, Subject, Verdict, tier_place
from pitool.spec.profiles import BALANCED, Profile, find_profile
from pitool.spec.tiers import Tier

AUTO = "auto"


@dataclass(frozen=True, slots=True)
class ConvertPlan:
    """All artifacts of a conversion; ``reason`` explains an automatic choice.

    ``place`` has ``budget`` bytes for a model; ``board``: id of the one board that it is planned
    for, None for every board of the tier.
    """

    model: ModelShape
    tier_name: str
    tier: Tier
    place: str
    budget: int
    artifacts: tuple[ArtifactPlan, ...]
    reason: str = ""
    board: str | None = None


def make_plan(
    config: Config,
    tier_name: str,
    tier: Tier,
    quantisations: str,
    context: int | None,
    *,
    profile: Profile | None = None,
    place: Place | None = None,
) -> ConvertPlan:
    """Return the plan; DoesNotFit with the numbers when nothing that was asked for fits.

    ``quantisations``: names separated by commas, or ``auto``. ``place``: one board instead of the
    smallest of the tier.
    """
    family = find_family(config)
    model = model_shape(family, config)
    tuple(family.metadata(config))  # refuses what it cannot describe, before a download
    profile = profile or find_profile(BALANCED)
    place = place or tier_place(tier_name, tier)
    planner = Planner(Subject("", model), profile, profile_load(profile, model, context))
    board = next(iter(place.boards)) if place.name != place.tier else None
    if quantisations == AUTO:
        row, reason = planner.choose(place)
        _require(planner, row)
        rows = [row]
    else:
        rows, reason = [planner.row(kind, place) for kind in _named(quantisations)], ""
        for row in rows:
            _require(planner, row)
    artifacts = tuple(row.artifact for row in rows)
    budget = place.budget(profile)
    return ConvertPlan(model, tier_name, tier, place.name, budget, artifacts, reason, board)


def profile_load(profile: Profile, model: ModelShape, context: int | None) -> Load:
    """Return how a profile loads a model; the context is never longer than trained."""
    wanted = min(context or profile.context, model.context)
    return Load(wanted, micro_batch=profile.micro_batch, kv_type=profile.kv_type)


def _named(quantisations: str) -> list[Quantisation]:
    names = [name.strip() for name in quantisations.split(",") if name.strip()]
    if not names:
        raise UsageError("--quant names no quantisation", "give one such as Q4_K_M, or auto")
    return list(dict.fromkeys(find_quantisation(name) for name in names))


def _require(planner: Planner, row: Row) -> None:
    """Refuse what does not fit or is tight, with the numbers and all that would help."""
    if row.verdict is Verdict.FITS:
        return
    remedies = planner.remedies(row)
    verb = "is tight" if row.verdict is Verdict.TIGHT else "does not fit"
    raise DoesNotFit(
        f"{row.artifact.quantisation.name} with {row.artifact.context} tokens of context {verb}:"
        f" it needs {format_bytes(row.peak)}, {row.place.name} has"
        f" {format_bytes(row.place.budget(planner.profile))} for a model",
        f"{' or '.join(remedies)} would fit" if remedies else "take a smaller model",
    )
