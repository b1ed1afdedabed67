"""The report of ``pitool plan``: from what was asked to every figure, as data.

Owns what is asked for and which figures answer it; never prints and never looks at this machine or
for a model: both are handed in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from pitool.catalog.boards import find_board
from pitool.catalog.contents import check_content, check_file
from pitool.catalog.files import expand, path_kind
from pitool.catalog.kv_types import CacheTypes
from pitool.catalog.model_shape import CONTEXT_STEP, ModelShape
from pitool.catalog.profiles import find_profile
from pitool.catalog.tables import lookup, names_in
from pitool.catalog.tiers import find_tier
from pitool.errors import BadInput, UsageError
from pitool.planning import alternatives, offers, rentals, vocabulary
from pitool.planning.accelerators import accelerators, cpu_decodes
from pitool.planning.caches import caches_json
from pitool.planning.drafts import DraftPlan, drafts
from pitool.planning.formats import FORMATS, GGUF
from pitool.planning.formats.base import AnyQuantisation, PlannedFormat, PlannedModel
from pitool.planning.memory import Load
from pitool.planning.offers import (
    Match,
    Offer,
    PricedBoard,
    priced_boards,
    read_prices,
)
from pitool.planning.places import HERE, Place, board_place, tier_place, tier_places
from pitool.planning.planner import AUTO, Planner, Row, usable
from pitool.planning.rentals import Change, Rental
from pitool.planning.speed import Correction
from pitool.planning.waiting import Waiting, waiting

MOST_RANK = 1024
# Tokens that stay free for an answer after a prompt.
ANSWER = 256
# What is usually taken.
USUAL = ("Q4_K_M", "Q4_0")


@dataclass(frozen=True, slots=True)
class Options:
    """What is asked of a plan; see the command's help."""

    ram: str | None = None
    board: str | None = None
    context: int | None = None
    prompt: int | None = None
    parallel: int = 1
    kv_type: str | None = None
    profile: str = "balanced"
    quant: str | None = None
    lora: str | None = None
    format: str | None = None
    buy: bool = False
    rent: bool = False
    from_card: str | None = None
    price: tuple[str, ...] = ()
    electricity: float = 0.30
    target_tps: float | None = None

    @property
    def form(self) -> PlannedFormat:
        """The format that is named, or that all names of quantisations are of, or GGUF."""
        if self.format is not None:
            return lookup(FORMATS, self.format, "format", UsageError)
        names = names_in(self.quant or "")
        by_name = (f for f in FORMATS.values() if names and all(map(f.knows, names)))
        return next(by_name, GGUF)

    @property
    def every_format(self) -> bool:
        """Whether neither a format nor a quantisation is named."""
        return self.format is None and self.quant is None


@dataclass(frozen=True, slots=True)
class Report:
    """What was asked and what is planned; ``rows`` are by quantisation, then by place.

    ``beside``: the rows of other formats, by their names, where none was named; ``asked``: whether
    quantisation and place were both named, so that the exit code is a verdict; ``here``: whether
    this machine was named. ``notes``: what is to be said beside the figures, of which ``limits``
    are those of the model. ``small``: models that may guess tokens for it.
    """

    options: Options
    form: PlannedFormat
    planner: Planner
    places: tuple[Place, ...]
    rows: tuple[Row, ...]
    beside: Mapping[str, tuple[Row, ...]]
    reason: str
    asked: bool
    here: bool
    notes: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    small: tuple[PlannedModel, ...] = ()

    @property
    def model(self) -> PlannedModel:
        """The model."""
        return self.planner.model

    @property
    def quantisations(self) -> tuple[AnyQuantisation, ...]:
        """The quantisations of the rows."""
        return tuple(dict.fromkeys(row.artifact.quantisation for row in self.rows))

    @property
    def _usable(self) -> list[AnyQuantisation]:
        """Those that one would really use, or that are named."""
        named = self.options.quant is not None
        return [kind for kind in self.quantisations if named or usable(kind)]

    @property
    def largest(self) -> Place:
        """The place with the most room."""
        return self.places[-1]

    def cuts(self) -> list[tuple[Row, Row]]:
        """Return each row at the largest place beside that with all tokens.

        None where the vocabulary stays whole.
        """
        if self.model.whole is None:
            return []
        before = replace(self.planner, model=self.model.whole)
        rows = [row for row in self.rows if row.place == self.largest]
        return [(before.row(row.artifact.quantisation, row.place), row) for row in rows]

    def require(self) -> None:
        """Raise DoesNotFit when all of what was named does not fit."""
        if self.asked:
            self.planner.require_loadable(self.rows)

    @property
    def _shop(self) -> tuple[Planner, list[PricedBoard]]:
        """The boards that are named, or all, and the planner for them.

        What was learnt on this machine holds for no other.
        """
        options = self.options
        named = options.board is not None or options.ram is not None
        planner = self.planner if self.here else replace(self.planner, corrections={})
        places = self.places if named else tier_places()
        return planner, list(priced_boards(places, read_prices(options.price)))

    def offers(self) -> list[Offer]:
        """Return the boards that can be bought for the model."""
        return offers.offers(*self._shop)

    def rentals(self) -> list[Rental]:
        """Return the GPUs that can be rented for the model."""
        return rentals.rentals(self.planner)

    def changes(self) -> tuple[Rental, list[Change]] | None:
        """Return the card that is rented, and what others would save; None where none is named."""
        if self.options.from_card is None:
            return None
        found = self.rentals()
        rental = rentals.find_rental(found, self.options.from_card)
        return rental, list(rentals.changes(found, rental))

    def matches(self) -> list[Match]:
        """Return the boards that decode as fast as is asked."""
        planner, market = self._shop
        return offers.matches(planner, self.options.target_tps or 0, self._usable, market)

    def fastest(self) -> Match | None:
        """Return the board that decodes the fastest."""
        planner, market = self._shop
        return offers.fastest(planner, self._usable, market)

    def to_json(self) -> dict[str, Any]:
        """Return every number."""
        shape, planner = self.model.shape, self.planner
        others = {
            f"{name}_rows": [planner.to_json(row) for row in self.beside.get(name, ())]
            for name in FORMATS
            if name != self.form.name
        }
        return {
            "model": self.model.name,
            "format": self.form.name,
            "typical": self.model.typical,
            "architecture": shape.architecture,
            "parameters": shape.parameters,
            "trained_context": shape.context,
            "context": planner.load.context,
            "kv_type": planner.load.kv_type,
            "value_type": planner.load.cache.values,
            "micro_batch": planner.load.micro_batch,
            "reason": self.reason,
            "notes": [*self.notes, *([self.form.assumed] if self.form.assumed else [])],
            "rows": [planner.to_json(row) for row in self.rows],
            **self._waiting_json(),
            **self._drafts_json(),
            **others,
            **({"caches": caches_json(planner)} if self.form.tunable else {}),
            **self._vocabulary_json(),
            **(self._alternatives_json() | self._offers_json() if self.form.by_bits else {}),
        }

    def waiting(self, row: Row) -> list[Waiting]:
        """Return how long the prompt that is asked of waits with an artifact."""
        tokens = self.options.prompt
        return list(waiting(self.planner, row, tokens)) if tokens else []

    @property
    def usual(self) -> Row | None:
        """What is usually taken at the largest place; None where nothing can be loaded there."""
        return usual_row(row for row in self.rows if row.place == self.largest and row.loads)

    def drafts(self) -> list[DraftPlan]:
        """Return the models that speed up what is usually taken by their guesses."""
        row = self.usual
        return drafts(self.planner, row, self.small) if row and self.form.by_bits else []

    def _drafts_json(self) -> dict[str, Any]:
        found = self.drafts()
        return {"drafts": [each.to_json() for each in found]} if found else {}

    def _waiting_json(self) -> dict[str, Any]:
        if self.options.prompt is None:
            return {}
        return {"waiting": [each.to_json() for row in self.rows for each in self.waiting(row)]}

    def _vocabulary_json(self) -> dict[str, Any]:
        if self.model.vocabulary is None:
            return {}
        whole = [self.planner.to_json(before) for before, _ in self.cuts()]
        return {"vocabulary": asdict(self.model.vocabulary), "rows_with_all_tokens": whole}

    def _alternatives_json(self) -> dict[str, Any]:
        planner, place = self.planner, self.largest
        choices = alternatives.profile_choices(planner, place)
        return {
            "load_methods": [m.to_json() for m in alternatives.load_methods(planner, place)],
            "savings": [s.to_json() for s in alternatives.savings(planner, place)],
            "profiles": {choice.name: choice.to_json() for choice in choices},
        }

    def _offers_json(self) -> dict[str, Any]:
        options, made = self.options, dict[str, Any]()
        if options.target_tps:
            made["reaching"] = [match.to_json() for match in self.matches()]
        if options.buy:
            found = self.offers()
            made["boards"] = [offer.to_json(options.electricity) for offer in found]
            made["choices"] = [choice.to_json() for choice in offers.choices(found)]
            cpu = cpu_decodes()
            made["accelerators"] = [each.to_json(cpu) for each in accelerators().values()]
        if options.rent:
            found_cards = self.rentals()
            made["rented"] = [rental.to_json() for rental in found_cards]
            made["payback"] = self._payback_json(rentals.cheapest(found_cards, offers.FOUR))
            if asked := self.changes():
                made["changes"] = {
                    "from": asked[0].name,
                    "to": [each.to_json() for each in asked[1]],
                }
        return made

    def _payback_json(self, rental: Rental | None) -> dict[str, Any] | None:
        if rental is None:
            return None
        found = rentals.paybacks(self.offers(), rental, self.options.electricity)
        boards = {p.offer.name: {"hours": p.hours, "tokens": p.tokens} for p in found}
        return {"card": rental.name, "boards": boards}


def usual_row(rows: Iterable[Row]) -> Row | None:
    """Return the first of the rows that is usually taken, else the first; None for no rows."""
    rows = list(rows)
    return next((row for row in rows if row.quantisation in USUAL), next(iter(rows), None))


def make_report(
    options: Options,
    model: PlannedModel,
    places: Sequence[Place],
    *,
    corrections: Mapping[str, Correction] | None = None,
    notes: Iterable[str] = (),
    small: Iterable[PlannedModel] = (),
) -> Report:
    """Return the report on a model at places.

    ``corrections`` and ``notes``: what was learnt and found where the place is this machine;
    ``small``: models that may guess tokens for it.
    """
    profile, form = find_profile(options.profile), options.form
    read_prices(options.price)  # a wrong one is said also where none is needed
    load = Load(
        _context(options, model.shape, profile.context),
        micro_batch=profile.micro_batch,
        adapter=adapter_bytes(options.lora, model.shape) if options.lora else 0,
        sequences=options.parallel if form.parallel else 1,
    ).with_cache(CacheTypes.parse(options.kv_type or profile.kv_type))
    if wrong := form.refusal(model):
        raise wrong
    planner = Planner(model, profile, load, corrections or {})
    kinds, reason = _quantisations(planner, form, places, options.quant)
    cut = vocabulary.lines(model.vocabulary) if model.vocabulary else ()
    limits = (*cut, *model.remarks, *_limits(options, planner))
    named = bool(corrections is not None or options.ram or options.board)
    return Report(
        options,
        form,
        planner,
        tuple(places),
        tuple(planner.rows(kinds, places)),
        dict(_beside(planner, form, places)) if options.every_format else {},
        reason,
        asked=bool(options.quant) and named,
        here=options.board == HERE,
        notes=(*notes, *limits),
        limits=limits,
        small=tuple(small),
    )


def _context(options: Options, shape: ModelShape, usual: int) -> int:
    """Return the tokens of context to plan for, which hold the prompt that is asked of.

    UsageError for a prompt that does not fit what is asked for or what the model has.
    """
    prompt = options.prompt or 0
    room = -(-(prompt + ANSWER) // CONTEXT_STEP) * CONTEXT_STEP if prompt else 0
    context = options.form.context(shape, options.context, max(usual, room))
    if prompt >= context:
        raise UsageError(
            f"a prompt of {prompt} tokens does not fit {context} tokens of context",
            "use a larger --context, as far as the model has one, or a shorter --prompt",
        )
    return context


def _limits(options: Options, planner: Planner) -> Iterator[str]:
    """Yield why less context is planned than the model was trained for, or than is requested."""
    shape = planner.model.shape
    if limit := options.form.limit(shape, planner.load.context):
        yield limit
    if options.context and options.context > shape.context:
        yield f"{options.context} tokens were requested, but the model was trained for fewer"


def _beside(
    planner: Planner, form: PlannedFormat, places: Sequence[Place]
) -> Iterator[tuple[str, tuple[Row, ...]]]:
    """Yield the rows of each other format that the model can be had in."""
    for other in FORMATS.values():
        if other is not form and other.refusal(planner.model) is None:
            yield other.name, tuple(planner.rows(other.usual(planner.model), places))


def find_places(ram: str | None, board: str | None) -> list[Place]:
    """Return the places that are named: a tier, a board's RAM sizes, or every tier."""
    if board is None:
        return [tier_place(*find_tier(ram))] if ram else tier_places()
    found = find_board(board)
    sizes = [r for r in found.ram if ram is None or r.tier == find_tier(ram)[0]]
    if not sizes:
        sold = ", ".join(size.tier for size in found.ram)
        raise UsageError(f"{found.name} has no {ram}", f"choose from: {sold}")
    return [board_place(board, found, size) for size in sizes]


def _quantisations(
    planner: Planner, form: PlannedFormat, places: Sequence[Place], quant: str | None
) -> tuple[list[AnyQuantisation], str]:
    """Return what is planned, and the reasons of an automatic choice."""
    if quant is None:
        return form.usual(planner.model), ""
    if form is GGUF and quant.strip().lower() == AUTO:
        chosen = [planner.choose(place) for place in places]
        best = dict.fromkeys(row.artifact.quantisation for row, _ in chosen)
        return list(best), "\n".join(reason for _, reason in chosen)
    names = names_in(quant)
    if not names:
        raise UsageError("--quant is empty", "choose one such as Q4_K_M, or auto")
    for other in FORMATS.values():
        if foreign := [n for n in names if other.knows(n) and not form.knows(n)]:
            raise UsageError(
                f"{foreign[0]} is a quantisation of {other.title}, not of {form.title}",
                "plan one format at a time",
            )
    return list(dict.fromkeys(form.find(name) for name in names)), ""


def adapter_bytes(lora: str, shape: ModelShape) -> int:
    """Return the bytes of a LoRA adapter in half precision: of a folder, or of a rank.

    A rank is taken to be on every matrix of the layers, which is the most that is usual.
    """
    if lora.isdecimal():
        rank = int(lora)
        if not 0 < rank <= MOST_RANK:
            raise UsageError(
                f"a LoRA rank of {rank} is not between 1 and {MOST_RANK}",
                "choose a rank in that range",
            )
        matrices = (
            t.shape for t in shape.tensors if t.name.startswith("blk.") and len(t.shape) > 1
        )
        return sum(2 * rank * (s[-1] + s[-2]) for s in matrices)
    folder = expand(lora)
    files = [folder / f"adapter_model.{end}" for end in ("safetensors", "bin")]
    found = [file for file in files if path_kind(file) == "file"]
    if not found:
        raise BadInput(
            f"{lora} contains no adapter_model.safetensors", "use a PEFT folder or a rank"
        )
    check_file(found[0])
    if found[0].suffix == ".safetensors":
        check_content(found[0])  # a pointer of Git LFS has another size
    return found[0].stat().st_size
