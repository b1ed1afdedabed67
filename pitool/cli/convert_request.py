"""From the options of ``pitool convert`` to a source and a plan; never prints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pitool.catalog.bundles import default_folder
from pitool.catalog.files import path_kind
from pitool.catalog.profiles import BALANCED, Profile, find_profile
from pitool.catalog.recipes import Recipe
from pitool.catalog.tables import lookup
from pitool.catalog.tiers import Tier, find_tier
from pitool.checkpoint import hub
from pitool.checkpoint.source import (
    Source,
    choose_tokenizer,
    find_adapters,
    find_source,
    with_revision,
)
from pitool.cli.kv_type import parse
from pitool.convert import layer_cost
from pitool.convert.download import find_grids, read_settings
from pitool.convert.effort import Effort, find_effort
from pitool.convert.engines import OpenEngine
from pitool.convert.gguf import calibrate, stored
from pitool.convert.gguf.artifacts import header_of
from pitool.convert.gguf.fitting import FIT
from pitool.convert.gguf.importance import NONE
from pitool.convert.plan import ConvertPlan, Names, Whole, make_plan, split_names
from pitool.convert.sources import check_headers
from pitool.convert.trim.source import trim
from pitool.convert.trim.texts import Texts, find_texts
from pitool.errors import UsageError
from pitool.planning.formats import FORMATS, GGUF, ONNX
from pitool.planning.formats.base import PlannedFormat
from pitool.planning.places import HERE, Place
from pitool.planning.planner import AUTO
from pitool.planning.report import find_places
from pitool.planning.speed import Correction
from pitool.report.numbers import parse_bytes

FITTED = "--fit, --size and --target-tps"


def is_fitted(options: Mapping[str, Any]) -> bool:
    """Tell whether a GGUF is asked for whose types are solved for."""
    return bool(options["fit"] or options["size"] or options["target_tps"])


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for, found; ``size`` in bytes; ``warning``: what must be said first.

    ``corrections``: of predicted speeds, learnt by tune and bench where the place is this machine.
    ``texts``: those that choose the tokens of a vocabulary, None where it stays whole.
    """

    options: dict[str, Any]
    source: Source
    tier_name: str
    tier: Tier
    place: Place
    profile: Profile
    target: Path
    size: int | None
    warning: str | None = None
    corrections: Mapping[str, Correction] = field(default_factory=dict)
    texts: Texts | None = None

    @property
    def stored(self) -> bool:
        """Whether the source is a GGUF."""
        return self.source.folder is not None and path_kind(self.source.folder) == "file"

    @property
    def recipe(self) -> Recipe | None:
        """The recipe that decides: a profile that is named does so in its place."""
        return None if self.options["profile"] else self.source.recipe

    def with_settings(self, talk: Callable[[str], object]) -> Request:
        """Return the request with the model's settings on this machine, its weights not yet."""
        if self.source.folder:
            return self
        talk(f"reading the settings of {self.source.id} from the hub")
        return replace(self, source=hub.fetch_settings(self.source))

    def trimmed(
        self, scratch: Path, open_engine: OpenEngine, talk: Callable[[str], object]
    ) -> Request:
        """Return the request with the vocabulary cut, where texts say to what.

        Settings and tokenizer with the new ids lie in ``scratch``.
        """
        if self.texts is None:
            return self
        talk(f"choosing the tokens of the vocabulary by {self.texts.chosen_by}")
        return replace(self, source=trim(self.source, self.texts, scratch, open_engine))

    @property
    def effort(self) -> Effort:
        """How much time rounding may take."""
        return find_effort(self.options["effort"])

    @property
    def tokenizer_note(self) -> str:
        """What must be said of an adapter's own chat template; nothing where there is none."""
        assert self.source.folder
        return choose_tokenizer(self.source, self.source.folder).note

    def plan(self) -> ConvertPlan:
        """Return the plan; DoesNotFit with the numbers where there is none."""
        assert self.source.folder
        names, recipe = self._names(), self.recipe
        source, whole = self.source, self.source.whole
        config = settings = read_settings(whole)
        before = None
        if source.trim:
            config = read_settings(source)
            before = Whole(settings, lambda: header_of(whole, settings))
        plan = make_plan(
            config,
            self.tier_name,
            self.tier,
            names.gguf,
            self.options["context"] or (recipe.context if recipe else None),
            onnx=names.onnx,
            techniques=names.techniques,
            size=self.size,
            target=self.options["target_tps"],
            cache=parse(self.options["kv_type"]),
            importance=self.options["calibration"] != NONE,
            profile=self.profile,
            place=self.place,
            corrections=self.corrections,
            solves=self.effort.solves,
            header=lambda: header_of(source, config),
            found=find_grids(whole, settings) if names.gguf else None,
            whole=before,
        )
        check_headers(whole, settings)
        note = layer_cost.hindrance(self.effort, config)
        return replace(plan, reason="\n".join(filter(None, (plan.reason, note))))

    def _names(self) -> Names:
        """Return the quantisations that are asked for: names, ``auto`` or nothing."""
        quant, form = self.options["quant"], self._named_format()
        sized = is_fitted(self.options)
        gguf_only = f"{FITTED} can only make a GGUF" if sized else self._gguf_only()
        if gguf_only and form not in (None, GGUF):
            raise UsageError(gguf_only, f"drop --format {form.name}")
        if not sized and gguf_only:
            form = GGUF
        if not sized and (own := self._as_it_is()):
            return Names(own, "", "")
        if quant and quant.lower() != AUTO:
            names = split_names(f"{quant},{FIT.name}" if sized else quant)
            others = {GGUF: names.onnx or names.techniques, ONNX: names.gguf}
            if form and (other := others[form]):
                if gguf_only and not sized:
                    raise UsageError(gguf_only, f"drop {other} from --quant")
                raise UsageError(
                    f"--format {form.name} excludes {other}",
                    f"drop --format, or {other} from --quant",
                )
            return names
        if sized:
            return Names(FIT.name, "", "")
        return self._chosen(form, auto=bool(quant))

    def _as_it_is(self) -> str:
        """Return the quantisation of a GGUF that is only copied; nothing for any other."""
        if not self.stored:
            return ""
        assert self.source.folder
        own = stored.Stored(self.source.folder).kind
        requantise = self.options["requantise"]
        kept = stored.unchanged(own, self.options["quant"], requantise=requantise)
        return own.name if kept else ""

    def _named_format(self) -> PlannedFormat | None:
        name = self.options["format_"]
        return lookup(FORMATS, name, "format", UsageError) if name else None

    def _chosen(self, form: PlannedFormat | None, *, auto: bool) -> Names:
        """Return what the recipe names, and ``auto`` for the formats of which it names none."""
        recipe = self.recipe
        formats = (form.name,) if form else (recipe and recipe.formats) or tuple(FORMATS)
        named = Names("", "", "")
        if recipe and not auto and recipe.quantisation != AUTO:
            named = split_names(recipe.quantisation)
        onnx = named.onnx or ("" if named.techniques else AUTO)
        return Names(
            (named.gguf or AUTO) if GGUF.name in formats else "",
            onnx if ONNX.name in formats else "",
            named.techniques if ONNX.name in formats else "",
        )

    def _gguf_only(self) -> str:
        """Return why ONNX is impossible, or nothing."""
        if self.source.apart:
            return "--lora-separate works only with GGUF"
        return "a GGUF source can only become GGUF" if self.stored else ""


def _find_place(tier: str, board: str | None) -> tuple[Place, Mapping[str, Correction]]:
    """Return the place that is planned for, and what was learnt of speeds there."""
    if board == HERE:
        from pitool.device.detect import detect
        from pitool.device.here import this_machine

        here = this_machine(detect())
        return here.place, here.corrections
    (place,) = find_places(tier, board)
    return place, {}


def find_request(options: dict[str, Any]) -> Request:
    """Return what the options ask for; wrong ones raise before anything is read or fetched."""
    tier_name, tier = find_tier(options["ram"])
    place, corrections = _find_place(tier_name, options["board"])
    profile = find_profile(options["profile"] or BALANCED)
    calibrate.check(options["calibration"])
    parse(options["kv_type"])
    calibrate.check_effort(options["calibration"], find_effort(options["effort"]))
    size = parse_bytes(options["size"]) if options["size"] else None
    source = find_source(options["model"], tier_name, gguf_too=True)
    source = with_revision(source, options["revision"])
    source = replace(source, text=options["text"] or source.text)
    adapters = find_adapters(options["lora"], options["lora_scale"])
    if options["lora_separate"] and not adapters:
        raise UsageError("--lora-separate needs --lora", "give the adapter's folder with --lora")
    merged, apart = ((), adapters) if options["lora_separate"] else (adapters, ())
    source = replace(source, adapters=merged, apart=apart)
    texts = find_texts(options["languages"], options["keep_text"])
    if texts and apart:
        raise UsageError(
            "--lora-separate cannot be combined with a vocabulary that is cut",
            "merge the adapter, or drop --languages and --keep-text",
        )
    name = f"{source.id.rpartition('/')[2]}-{tier_name}{f'-{texts.name}' if texts else ''}"
    target = options["out"] or default_folder() / name
    request = Request(
        options, source, tier_name, tier, place, profile, target, size,
        corrections=corrections, texts=texts,
    )  # fmt: skip
    if request.stored:
        sized = is_fitted(options)
        requantise = options["requantise"]
        warning = stored.check(source, options["quant"], requantise=requantise, sized=sized)
        return replace(request, warning=warning)
    return request
