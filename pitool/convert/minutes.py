"""How long a conversion takes on this machine: said before it begins.

Counts tokens that are read and written, and weights that are rounded. How fast this machine
multiplies is measured once; how many times as long each step takes was measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pitool.checkpoint.config import Config
from pitool.convert import layer_cost, token_counts
from pitool.convert.effort import Effort
from pitool.convert.gguf import losses
from pitool.convert.gguf.fitting import FIT
from pitool.convert.gguf.importance import NONE, SELF
from pitool.convert.layerwise import unwalkable
from pitool.convert.onnx import layers
from pitool.convert.plan import ConvertPlan
from pitool.planning.formats.onnx import OnnxPlan
from pitool.quality import kinds
from pitool.quality.divergence import WINDOW
from pitool.report.numbers import format_seconds

# Times a product of large matrices in float32: a token that llama.cpp writes among others; one that
# it reads for an importance matrix, or to compare all of its logits; one that it reads with a part
# of the model rounded; and one in transformers. SmolLM2-135M on two cores.
WRITING, READING, TRYING, REFERENCE = 6.0, 4.5, 2.5, 4.0
# Seconds a weight on one core: ggml's search with an importance matrix, and copying.
ROUNDING, COPYING = 1.5e-7, 4e-9


@dataclass(frozen=True, slots=True)
class Step:
    """A part of a conversion and the seconds that it takes."""

    name: str
    seconds: float


def describe(
    plan: ConvertPlan, config: Config, effort: Effort, calibration: str, cores: int
) -> str:
    """Return a line on how long a conversion takes, and which of its steps take long."""
    found = list(steps(plan, config, effort, calibration, cores))
    total = sum(step.seconds for step in found)
    long = sorted((s for s in found if s.seconds > total / 10), key=lambda s: -s.seconds)
    parts = ", ".join(f"{step.name} {format_seconds(step.seconds)}" for step in long)
    return f"time: about {format_seconds(total)} with --effort {effort.name} ({parts})"


def steps(
    plan: ConvertPlan, config: Config, effort: Effort, calibration: str, cores: int
) -> Iterator[Step]:
    """Yield the steps of a conversion, downloads left out; ``cores``: of this machine."""
    model = plan.model
    weights = model.parameters
    # Seconds of a token in a product of large matrices: only what a token is multiplied with.
    token = layer_cost.seconds_each() * sum(
        t.weights * model.read_share(t.name) for t in model.tensors
    )
    rounded = plan.rounded
    weighted = any(kind.weighted for kind in rounded)
    onnx = [each.quantisation for each in plan.of(OnnxPlan)] if effort.feedback else []
    walks = [layers.takes_ends(kind) for kind in onnx if layers.takes(kind, config)]
    if effort.feedback and not unwalkable(config):
        walks += [True] * len(rounded)
    files = len(plan.artifacts) + (1 if rounded else 0)
    if (weighted or walks) and calibration != NONE and not model.encoder:
        count = (effort.tokens or token_counts.CALIBRATION).find(weights)
        if calibration == SELF:
            yield Step("writing a text", count * token * WRITING)
        if weighted:
            yield Step("importance matrix", count * token * READING)
        if FIT in rounded:
            chosen = [t for t in model.tensors if losses.candidates(t)]
            names = [t.name for t in chosen]
            tried = sum(
                min(t.weights, losses.SAMPLE_ROWS * t.shape[-1]) * len(losses.candidates(t))
                for t in chosen
            )
            yield Step("rounding errors", tried * ROUNDING)
            each = losses.WINDOWS * WINDOW * token * TRYING + weights * COPYING
            yield Step("sensitivity", (len(losses.groups(names, effort.bands)) + 1) * each)
        if walks:
            walked = (layer_cost.estimate(effort, model, ends=ends) for ends in walks)
            yield Step("error feedback", sum(walked))
    yield Step("rounding", weights * ROUNDING / max(cores, 1) * len(rounded))
    read = token_counts.REFERENCE.find(weights)
    read += len(kinds.KINDS) * kinds.tokens_beside(read)
    yield Step("reference", read * token * REFERENCE)
    yield Step("comparison", files * (read * token * READING + weights * COPYING))
