"""What a comparison found: a result a technique, and all of them with what they stand on."""

from __future__ import annotations

from dataclasses import dataclass

from pitool.quality.divergence import Divergence


@dataclass(frozen=True, slots=True)
class EngineFigures:
    """What was measured of the artifact on a real engine on this machine.

    ``peak_memory`` in bytes, None where the system does not say; ``prefill`` and ``decode`` in
    tokens/s, medians; ``latency``: mean seconds from a prompt to the end of its answer.
    """

    load_seconds: float
    peak_memory: int | None
    prefill: float
    decode: float
    latency: float


@dataclass(frozen=True, slots=True)
class TechniqueResult:
    """A technique, and what became of it; ``error`` says why nothing did.

    ``kernel``: the runtime that runs the artifact, None where the figures of quality are those of
    dequantized weights and there are none of speed. ``bits``: nominal, ``bits_per_weight``:
    stored. ``planned``: bytes that the artifact needs in memory, by the plan. ``needs``: what it
    could not do without. ``similarity``: of ``answers`` to the baseline's.
    """

    technique: str
    title: str
    effect: str
    source: str
    bits: float
    needs: tuple[str, ...]
    note: str = ""
    kernel: str | None = None
    format: str | None = None
    bytes: int = 0
    bits_per_weight: float = 0.0
    planned: int | None = None
    convert_seconds: float = 0.0
    convert_memory: int | None = None
    quality: Divergence | None = None
    running: EngineFigures | None = None
    similarity: float | None = None
    answers: tuple[str, ...] = ()
    error: str | None = None

    @property
    def done(self) -> bool:
        """Whether the technique was made and measured."""
        return self.error is None

    @property
    def trained(self) -> bool:
        """Whether the technique trains weights."""
        return "torch" in self.needs


@dataclass(frozen=True, slots=True)
class Comparison:
    """All rows of a model, the baseline among them, and what they were measured on.

    ``tier``: name and bytes that a model may use, where one was named.
    """

    model: str
    parameters: int
    machine: str
    threads: int
    text: str
    tokens: int
    calibration: str
    prompts: tuple[str, ...]
    rows: tuple[TechniqueResult, ...]
    versions: dict[str, str]
    tier: str | None = None
    budget: int | None = None

    @property
    def done(self) -> tuple[TechniqueResult, ...]:
        """The rows with figures."""
        return tuple(row for row in self.rows if row.done)

    @property
    def baseline(self) -> TechniqueResult | None:
        """The row that the others are compared with."""
        return next((row for row in self.done if row.technique == "fp32"), None)

    def compression(self, row: TechniqueResult) -> float | None:
        """Return how many times smaller than the baseline a row is."""
        base = self.baseline
        return base.bytes / row.bytes if base and row.bytes else None

    def fits(self, row: TechniqueResult) -> bool | None:
        """Tell whether a row fits the tier; None where there is no tier or no kernel."""
        if self.budget is None or row.kernel is None or row.planned is None:
            return None
        return row.planned <= self.budget
