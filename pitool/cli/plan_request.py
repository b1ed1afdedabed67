"""From the options of ``pitool plan`` to a planned report; never prints."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pitool.catalog.boards import Ram, find_board
from pitool.catalog.files import what_is
from pitool.catalog.model_shape import ModelShape
from pitool.catalog.profiles import find_profile
from pitool.catalog.tables import names_in
from pitool.catalog.tensor_types import find_quantisation
from pitool.catalog.tiers import find_tier
from pitool.cli.plan_source import find_subject
from pitool.errors import BadInput, DoesNotFit, UsageError
from pitool.planning.memory import Load
from pitool.planning.offers import Sold, read_prices, sold
from pitool.planning.onnx_weights import is_onnx_quantisation
from pitool.planning.plan import (
    AUTO,
    COMMON,
    Place,
    Planner,
    Row,
    Subject,
    Verdict,
    board_place,
    tier_place,
    tier_places,
)
from pitool.planning.speed import NONE
from pitool.report.numbers import format_bytes

if TYPE_CHECKING:
    from pitool.device.here import Here

HERE = "here"


@dataclass(frozen=True, slots=True)
class Options:
    """What the command was called with; see its help."""

    model: str | None = None
    ram: str | None = None
    board: str | None = None
    context: int | None = None
    kv_type: str | None = None
    profile: str = "balanced"
    quant: str | None = None
    lora: str | None = None
    format: str | None = None
    buy: bool = False
    rent: bool = False
    price: tuple[str, ...] = ()
    electricity: float = 0.30
    target_tps: float | None = None
    plot: Path | None = None
    markdown: bool = False
    as_json: bool = False

    @property
    def onnx(self) -> bool:
        """Whether ONNX alone is asked for: by the format, or by the names of quantisations."""
        names = names_in(self.quant or "")
        by_name = bool(names) and all(map(is_onnx_quantisation, names))
        return self.format == "onnx" or (self.format is None and by_name)

    @property
    def both(self) -> bool:
        """Whether neither a format nor a quantisation is named."""
        return self.format is None and self.quant is None


@dataclass(frozen=True, slots=True)
class Report:
    """What was asked and what is planned; ``rows`` are by quantisation, then by place.

    ``asked``: whether quantisation and place were both named, so that the exit code is a verdict.
    """

    options: Options
    planner: Planner
    places: tuple[Place, ...]
    quantisations: tuple[str, ...]
    rows: tuple[Row, ...]
    reason: str
    asked: bool
    notes: tuple[str, ...] = ()

    @property
    def subject(self) -> Subject:
        """The model."""
        return self.planner.subject

    @property
    def shop(self) -> tuple[Planner, list[Sold]]:
        """The boards that are named, or all, and the planner for them.

        What was learnt on this machine holds for no other.
        """
        options = self.options
        named = options.board is not None or options.ram is not None
        places = self.places if named else tier_places()
        planner = self.planner if options.board == HERE else replace(self.planner, correction=NONE)
        return planner, list(sold(places, read_prices(options.price)))

    def require(self) -> None:
        """Raise DoesNotFit when all of what was named does not fit."""
        if not self.asked or any(row.verdict is not Verdict.NO for row in self.rows):
            return
        row = self.rows[-1]
        remedies = self.planner.remedies(row)
        raise DoesNotFit(
            f"{row.artifact.quantisation.name} does not fit {row.place.name} by"
            f" {format_bytes(-row.left)}",
            f"{' or '.join(remedies)} would fit" if remedies else "take a smaller model",
        )


def read_request(options: Options) -> Report:
    """Return the report that the options of the command ask for."""
    profile = find_profile(options.profile)
    read_prices(options.price)  # a wrong one is said also where none is needed
    found = find_here(options.ram, options.board)
    places = [found.place] if found else find_places(options.ram, options.board)
    named = bool(found or options.ram or options.board)
    subject = find_subject(options.model, places[-1].tier if named and not found else None)
    load = Load(
        min(options.context or profile.context, subject.shape.context),
        micro_batch=profile.micro_batch,
        kv_type=options.kv_type or profile.kv_type,
        adapter=adapter_bytes(options.lora, subject.shape) if options.lora else 0,
    )
    planner = Planner(subject, profile, load)
    if found:
        planner = replace(
            planner, correction=found.correction, onnx_correction=found.onnx_correction
        )
    gguf = not options.onnx
    names, reason = _quantisations(planner, places, options.quant if gguf else None)
    rows = tuple(planner.rows(names, places))
    asked = bool(options.quant) and named and gguf
    notes = [*(found.notes if found else ())]
    if options.context and options.context > load.context:
        notes.append(f"{options.context} tokens were asked for; it was trained for fewer")
    return Report(options, planner, tuple(places), names, rows, reason, asked, tuple(notes))


def find_here(ram: str | None, board: str | None) -> Here | None:
    """Return this machine where it is asked for, or where it is a board and none is named."""
    if ram is not None or board not in (None, HERE):
        return None
    from pitool.device.detect import detect
    from pitool.device.here import here

    machine = detect()
    return here(machine) if board == HERE or machine.board_id else None


def find_places(ram: str | None, board: str | None) -> list[Place]:
    """Return the places that are named: a tier, a board's RAM sizes, or every tier."""
    if board is None:
        return [tier_place(*find_tier(ram))] if ram else tier_places()
    found = find_board(board)
    sizes = [r for r in found.ram if ram is None or r.tier == find_tier(ram)[0]]
    if not sizes:
        raise UsageError(f"{found.name} has no {ram}", f"it is sold with {_sizes(found.ram)}")
    return [board_place(board, found, size) for size in sizes]


def _sizes(sizes: tuple[Ram, ...]) -> str:
    return ", ".join(size.tier for size in sizes)


def _quantisations(
    planner: Planner, places: list[Place], quant: str | None
) -> tuple[tuple[str, ...], str]:
    if quant is None:
        return tuple(dict.fromkeys([*COMMON, *planner.subject.stored])), ""
    if quant.strip().lower() == AUTO:
        chosen = [planner.choose(place) for place in places]
        best = dict.fromkeys(row.artifact.quantisation.name for row, _ in chosen)
        return tuple(best), "\n".join(reason for _, reason in chosen)
    names = names_in(quant)
    if not names:
        raise UsageError("--quant names no quantisation", "give one such as Q4_K_M, or auto")
    if others := [name for name in names if is_onnx_quantisation(name)]:
        raise UsageError(f"{others[0]} is of ONNX, not of GGUF", "plan one format at a time")
    return tuple(dict.fromkeys(find_quantisation(name).name for name in names)), ""


def adapter_bytes(lora: str, shape: ModelShape) -> int:
    """Return the bytes of a LoRA adapter in half precision: of a folder, or of a rank.

    A rank is taken to be on every matrix of the layers, which is the most that is usual.
    """
    if lora.isdecimal():
        rank = int(lora)
        if not 0 < rank <= 1024:
            raise UsageError(f"a LoRA rank of {rank} is not between 1 and 1024", "give such a rank")
        matrices = (
            t.shape for t in shape.tensors if t.name.startswith("blk.") and len(t.shape) > 1
        )
        return sum(2 * rank * (s[-1] + s[-2]) for s in matrices)
    folder = Path(lora).expanduser()
    files = [folder / f"adapter_model.{end}" for end in ("safetensors", "bin")]
    found = [file for file in files if what_is(file) == "file"]
    if not found:
        raise BadInput(f"{lora} holds no adapter_model.safetensors", "name a PEFT folder or a rank")
    return found[0].stat().st_size
