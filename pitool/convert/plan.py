"""The plan of a conversion, made before anything is downloaded or written."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from pitool.checkpoint.config import Config
from pitool.convert.gguf.families import find_family
from pitool.convert.gguf.families.base import model_shape
from pitool.errors import DoesNotFit, UsageError
from pitool.spec.boards import Board, boards_with
from pitool.spec.formats import QUANTISATIONS, Quantisation, find_quantisation
from pitool.spec.manifest import Speed
from pitool.spec.memory import (
    Load,
    MemoryPlan,
    format_bytes,
    longest_context,
    plan_memory,
)
from pitool.spec.model import ModelShape
from pitool.spec.quantisation import TypedTensor, assign_types
from pitool.spec.speed import predict
from pitool.spec.tiers import Tier

AUTO = "auto"
DEFAULT_CONTEXT = 4096

# What auto tries, best quality first, and the decode rate that must be reached on the slowest
# board of the tier for the quality to be worth its time: above the rate nobody waits, below
# reading speed everybody does.
READING_SPEED = 8.0
AUTO_CHOICES = (
    ("F16", 100.0),
    ("Q8_0", READING_SPEED),
    ("Q6_K", READING_SPEED),
    ("Q5_K_M", READING_SPEED),
    ("Q4_K_M", READING_SPEED),
)
AUTO_SMALLEST = ("Q4_K_M", "Q4_0", "Q3_K_M", "Q2_K")


@dataclass(frozen=True, slots=True)
class ArtifactPlan:
    """What one artifact will be: exact tensor bytes, memory, and speed for each board."""

    quantisation: Quantisation
    context: int
    tensors: tuple[TypedTensor, ...]
    memory: MemoryPlan
    speeds: tuple[Speed, ...]

    @property
    def bytes(self) -> int:
        """Bytes of the tensors."""
        return sum(tensor.bytes for tensor in self.tensors)

    @property
    def bits_per_weight(self) -> float:
        """Stored bits over the number of weights."""
        return self.bytes * 8 / sum(t.tensor.weights for t in self.tensors)


@dataclass(frozen=True, slots=True)
class ConvertPlan:
    """All artifacts of a conversion; ``reason`` explains an automatic choice."""

    model: ModelShape
    tier_name: str
    tier: Tier
    artifacts: tuple[ArtifactPlan, ...]
    reason: str = ""


def make_plan(
    config: Config, tier_name: str, tier: Tier, quantisations: str, context: int | None
) -> ConvertPlan:
    """Return the plan; DoesNotFit with the numbers when nothing that was asked for fits.

    ``quantisations``: names separated by commas, or ``auto``.
    """
    family = find_family(config)
    model = model_shape(family, config)
    tuple(family.metadata(config))  # refuses what it cannot describe, before a download
    wanted = min(context or DEFAULT_CONTEXT, model.context)
    boards = boards_with(tier_name)
    if quantisations == AUTO:
        artifact, reason = _choose(model, wanted, tier_name, tier, boards)
        return ConvertPlan(model, tier_name, tier, (artifact,), reason)
    names = [name.strip() for name in quantisations.split(",") if name.strip()]
    if not names:
        raise UsageError("--quant names no quantisation", "give one such as Q4_K_M, or auto")
    chosen = dict.fromkeys(find_quantisation(name) for name in names)
    artifacts = tuple(plan_artifact(model, q, wanted, boards) for q in chosen)
    for artifact in artifacts:
        if artifact.memory.total > tier.model_bytes:
            raise _too_large(model, artifact, tier_name, tier, boards)
    return ConvertPlan(model, tier_name, tier, artifacts)


def plan_artifact(
    model: ModelShape, quantisation: Quantisation, context: int, boards: dict[str, Board]
) -> ArtifactPlan:
    """Return what ``model`` is at a quantisation and a context."""
    tensors = assign_types(model, quantisation)
    repacks = any(board.dotprod for board in boards.values())
    return ArtifactPlan(
        quantisation,
        context,
        tensors,
        plan_memory(model, tensors, Load(context), dotprod=repacks),
        tuple(predict(key, board, model, tensors) for key, board in boards.items()),
    )


def _choose(
    model: ModelShape, context: int, tier_name: str, tier: Tier, boards: dict[str, Board]
) -> tuple[ArtifactPlan, str]:
    """Return the best artifact for the tier and why; DoesNotFit when there is none."""
    for name, rate in AUTO_CHOICES:
        artifact = plan_artifact(model, QUANTISATIONS[name], context, boards)
        slowest = min((s.decode for s in artifact.speeds), default=inf)
        if artifact.memory.total <= tier.model_bytes and slowest >= rate:
            return artifact, (
                f"{name}: the best quality that fits {tier_name} and decodes at"
                f" {slowest:.0f} tokens/s or more on its boards"
            )
    for name in AUTO_SMALLEST:
        artifact = plan_artifact(model, QUANTISATIONS[name], context, boards)
        if artifact.memory.total <= tier.model_bytes:
            return artifact, f"{name}: fits {tier_name}; a smaller model would be faster"
    raise _too_large(model, artifact, tier_name, tier, boards)


def _too_large(
    model: ModelShape,
    artifact: ArtifactPlan,
    tier_name: str,
    tier: Tier,
    boards: dict[str, Board],
) -> DoesNotFit:
    """Return the refusal, with what would fit: a context, a quantisation, or another tier."""
    return DoesNotFit(
        f"{artifact.quantisation.name} with {artifact.context} tokens of context needs"
        f" {format_bytes(artifact.memory.total)}, {tier_name} has"
        f" {format_bytes(tier.model_bytes)} for a model",
        _remedy(model, artifact, tier, boards),
    )


def _remedy(model: ModelShape, artifact: ArtifactPlan, tier: Tier, boards: dict[str, Board]) -> str:
    repacks = any(board.dotprod for board in boards.values())
    context = longest_context(
        model, artifact.tensors, Load(artifact.context), tier.model_bytes, dotprod=repacks
    )
    if context:
        return f"--context {context} would fit"
    for name in AUTO_SMALLEST:
        smaller = plan_artifact(model, QUANTISATIONS[name], artifact.context, boards)
        if smaller.memory.total <= tier.model_bytes:
            return f"--quant {name} would fit"
    return "take a smaller model or a larger --ram"
