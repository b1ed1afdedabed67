"""Recipes: which model a tier runs by default, and how it is made.

One file a model in ``recipes/models/``; the file's name is the recipe's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pitool.catalog import tables
from pitool.catalog.tiers import tiers
from pitool.errors import UsageError


@dataclass(frozen=True, slots=True)
class Published:
    """A GGUF of a model that is ready on the hub: ``file`` of ``repository`` at ``revision``.

    ``file``: empty where its name is not known: that of the recipe's quantisation; ``bytes`` and
    ``sha256`` where they were published; ``checked``: whether all of it was seen on the hub
    itself, not only in what others wrote of it.
    """

    repository: str
    file: str = ""
    revision: str = "main"
    bytes: int | None = None
    sha256: str | None = None
    checked: bool = False


@dataclass(frozen=True, slots=True)
class Recipe:
    """A model with the settings that are known to serve well.

    ``source``: hub id; ``revision``: commit or branch; ``licence``: SPDX identifier;
    ``parameters``: count of weights; ``tiers``: tiers it can be converted for without further
    flags; ``default_for``: tiers where it is what ``convert`` without a model makes;
    ``quantisation``: names of quantisations or of the lab's techniques with commas between, or
    ``auto``, which is also what formats without a name get; ``context``: tokens; ``released``:
    YYYY-MM, where that is known; ``formats``: what is made of it, every one where none is named;
    ``active``: weights that a token needs, where not all; ``size``: the row of ``sizes.toml``
    that has its shape, where one has; ``special``: it is for one purpose, and recommended to
    nobody who did not ask; ``gguf``: what is pulled instead of converted.
    """

    source: str
    revision: str
    licence: str
    parameters: int
    tiers: tuple[str, ...]
    default_for: tuple[str, ...]
    quantisation: str
    context: int
    summary: str
    released: str | None = None
    formats: tuple[str, ...] = ()
    active: int | None = None
    size: str | None = None
    special: bool = False
    gguf: Published | None = None


def load_recipes(folder: Path | None = None) -> dict[str, Recipe]:
    """Return every recipe by its name, in the order of the names."""
    folder = folder or tables.recipes_folder() / "models"
    return {
        path.stem: tables.build(Recipe, tables.read_toml(path), path.name)
        for path in sorted(folder.glob("*.toml"), key=lambda path: path.stem)
    }


@cache
def recipes() -> dict[str, Recipe]:
    """Return the installed recipes."""
    return load_recipes()


def default_recipe(tier: str) -> tuple[str, Recipe]:
    """Return name and recipe of what ``tier`` runs by default."""
    for name, recipe in recipes().items():
        if tier in recipe.default_for:
            return name, recipe
    raise UsageError(f"{tier} has no default recipe", "choose a model")


def default_tiers() -> list[str]:
    """Return the tiers that have a default, the smallest first."""
    chosen = {tier for recipe in recipes().values() for tier in recipe.default_for}
    return [tier for tier in tiers() if tier in chosen]


def find_recipe(name: str) -> Recipe | None:
    """Return the recipe with this name, else the first with this hub id, else None."""
    known = recipes()
    return known.get(name) or next((r for r in known.values() if r.source == name), None)
