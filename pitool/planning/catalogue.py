"""The catalogue judged for a place: what each recipe's ready file needs there, and how fast it is.

By the published size of the file where there is one, and the shape of ``sizes.toml`` where the
recipe names one; else both are typical ones. Nothing is asked of the hub. All sizes in bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import Any

from pitool.catalog.model_argument import parse_size
from pitool.catalog.model_shape import ModelShape
from pitool.catalog.profiles import BALANCED, Profile, find_profile
from pitool.catalog.recipes import Recipe, default_recipe, recipes
from pitool.catalog.tensor_types import QUANTISATIONS
from pitool.catalog.tiers import tiers
from pitool.planning.formats import GGUF
from pitool.planning.formats.base import PlannedModel
from pitool.planning.memory import Load
from pitool.planning.places import Place, Verdict, tier_of
from pitool.planning.planner import Planner, Row
from pitool.planning.shapes import sizes, typical_shape
from pitool.planning.speed import NONE, Correction
from pitool.planning.type_mixture import assign_types, keep_grids, whole_grid

# Tokens/s at which people read: 240 words a minute are 5 to 6.
READING = 5.0
MODEST = "2gb"
# What may be recommended to anybody.
OPEN = ("Apache-2.0", "MIT")
RANK = {Verdict.FITS: 0, Verdict.TIGHT: 1, Verdict.NO: 2}


@dataclass(frozen=True, slots=True)
class Entry:
    """A recipe at a place; ``bytes``: of its file; ``estimated``: whether that is the planner's.

    ``needed``: the most bytes held; ``left``: of the place's room, negative where missing;
    ``decode``: tokens/s on the slowest of the place's boards, None where none is known.
    """

    name: str
    recipe: Recipe
    bytes: int
    estimated: bool
    needed: int
    left: int
    verdict: Verdict
    decode: float | None
    recommended: bool = False

    @property
    def fits(self) -> bool:
        """Whether it fits, tight not counted."""
        return self.verdict is Verdict.FITS

    def to_json(self) -> dict[str, Any]:
        """Return every number, and where the file is."""
        found = self.recipe.gguf
        return {
            "name": self.name,
            "quantisation": self.recipe.quantisation,
            "licence": self.recipe.licence,
            "summary": self.recipe.summary,
            "context": self.recipe.context,
            "bytes": self.bytes,
            "bytes_estimated": self.estimated,
            "needed_bytes": self.needed,
            "left_bytes": self.left,
            "verdict": self.verdict.value,
            "decode": self.decode,
            "recommended": self.recommended,
            "repository": found.repository if found else None,
            "file": (found.file or None) if found else None,
            "revision": found.revision if found else None,
            "checked": bool(found and found.checked),
        }


def judge(
    name: str,
    recipe: Recipe,
    place: Place,
    profile: Profile | None = None,
    corrections: Mapping[str, Correction] | None = None,
) -> Entry:
    """Return a recipe at a place."""
    profile = profile or find_profile(BALANCED)
    published = recipe.gguf.bytes if recipe.gguf else None
    shape = _shape(recipe, published)
    load = Load(min(recipe.context, GGUF.reach(shape)), profile.micro_batch)
    correction = corrections or {GGUF.name: NONE}
    kind = QUANTISATIONS[recipe.quantisation]
    model = PlannedModel(name, shape, grids=whole_grid(shape, kind))
    planner = Planner(model, profile, load, correction)
    row = planner.row(kind, place)
    count = published or row.artifact.bytes
    more = count - row.artifact.bytes
    needed = row.peak + more
    return Entry(
        name,
        recipe,
        count,
        published is None,
        needed,
        row.left - more,
        place.judge(needed, profile),
        _decode(row, count, recipe),
    )


def _shape(recipe: Recipe, published: int | None) -> ModelShape:
    """Return the shape of a recipe's model: the row that it names, else a typical one.

    Some makers' files hold a tied embedding twice: the size of the file, or the count of weights,
    tells.
    """
    row = sizes().get(parse_size(recipe.size) or 0) if recipe.size else None
    if row is None:
        return typical_shape(recipe.parameters)
    kind = QUANTISATIONS[recipe.quantisation]

    def apart(shape: ModelShape) -> int:
        if published is None:
            return abs(shape.parameters - recipe.parameters)
        typed = keep_grids(assign_types(shape, kind), kind, whole_grid(shape, kind))
        return abs(sum(t.bytes for t in typed) - published)

    return min((replace(row, tied=each).shape for each in (True, False)), key=apart)


def _decode(row: Row, count: int, recipe: Recipe) -> float | None:
    """Return the decode speed of a file of so many bytes, of which a token may need only some."""
    if row.slowest == inf:
        return None
    share = (recipe.active or recipe.parameters) / recipe.parameters
    return row.slowest * row.artifact.bytes / (count * share)


def catalogue(place: Place, corrections: Mapping[str, Correction] | None = None) -> list[Entry]:
    """Return every recipe that can be pulled, judged for a place, the recommended one first.

    Then what fits and is as fast as reading, the largest model first; then what is slower, the
    fastest first; then what is tight, and what does not fit.
    """
    profile = find_profile(BALANCED)
    found = [
        judge(name, recipe, place, profile, corrections)
        for name, recipe in recipes().items()
        # What this version cannot run is for the next one.
        if recipe.gguf and recipe.quantisation in QUANTISATIONS
    ]
    chosen = recommended(found, place)
    marked = [replace(entry, recommended=entry.name == chosen) for entry in found]
    return sorted(marked, key=lambda entry: (not entry.recommended, *_order(entry)))


def recommended(found: list[Entry], place: Place) -> str | None:
    """Return the name of the largest open model that fits and decodes as fast as people read.

    One for a single purpose is not recommended. Where nothing is so fast the fastest that fits.
    Where no speed is known, as on a laptop, the default of a small board: it is here in minutes.
    """
    fitting = [e for e in found if e.fits and e.recipe.licence in OPEN and not e.recipe.special]
    timed = [e for e in fitting if e.decode is not None]
    if not timed:
        tier = min(tier_of(place), MODEST, key=list(tiers()).index)
        name, _ = default_recipe(tier)
        return name if any(e.name == name for e in fitting) else None
    fast = [e for e in timed if (e.decode or 0) >= READING]
    if fast:
        return max(fast, key=_merit).name
    return max(timed, key=lambda e: e.decode or 0).name


def smaller(place: Place, below: int) -> Entry | None:
    """Return the best entry that fits a place with fewer weights than ``below``; None for none."""
    fitting = [
        e
        for e in catalogue(place)
        if e.fits and e.recipe.parameters < below and not e.recipe.special
    ]
    return max(fitting, key=_merit, default=None)


def quick(place: Place, below: int) -> Entry | None:
    """Return the best entry with fewer weights than ``below`` that is as fast as people read."""
    fitting = [
        e
        for e in catalogue(place)
        if e.fits and e.recipe.parameters < below and not e.recipe.special
        if e.decode is not None and e.decode >= READING
    ]
    return max(fitting, key=_merit, default=None)


def _merit(entry: Entry) -> tuple[int, str]:
    """Return what makes one model better than another: its weights, then how new it is."""
    return entry.recipe.parameters, entry.recipe.released or "9999"


def _order(entry: Entry) -> tuple[float, ...]:
    slow = entry.decode is not None and entry.decode < READING
    return (
        RANK[entry.verdict],
        slow,
        -(entry.decode or 0) if slow else -entry.recipe.parameters,
    )
