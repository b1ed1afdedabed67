"""What a user asks to pull: a recipe or a repository, and what is chosen of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pitool.catalog.bundles import default_folder
from pitool.catalog.files import expand, path_kind
from pitool.catalog.recipes import Recipe, find_recipe, recipes
from pitool.catalog.tables import nearest
from pitool.errors import BadInput, DoesNotFit, PitoolError, UsageError
from pitool.planning.places import Verdict
from pitool.pull.bundle import target_name
from pitool.pull.choice import Candidate, Choice
from pitool.pull.hub import Repository, RevisionGone, is_id
from pitool.pull.variants import Variant, find_variants, named_variants

Open = Callable[[str, str], Repository]
"""Returns what a repository holds at a revision; see ``Hub.repository``."""


@dataclass(frozen=True, slots=True)
class Request:
    """A repository at a revision; ``quantisation``: the one that was named, empty for none.

    ``recipe``: whose file is preferred, and whose licence is known, if it was one.
    """

    repository: str
    revision: str
    quantisation: str = ""
    recipe: Recipe | None = None

    @property
    def preferred(self) -> str:
        """The file that the recipe names, or its quantisation."""
        if self.recipe is None or self.recipe.gguf is None:
            return ""
        return self.recipe.gguf.file or self.recipe.quantisation

    @property
    def context(self) -> int | None:
        """The tokens of context that the recipe is known to serve well with."""
        return self.recipe.context if self.recipe else None

    @property
    def licence(self) -> str | None:
        """The licence that the recipe states."""
        return self.recipe.licence if self.recipe else None

    def open(self, open_: Open) -> tuple[Repository, list[Variant]]:
        """Return the repository and what is asked for of what it holds ready to run.

        BadInput as ``Hub.repository``; of a recipe whose revision nobody could check it says that.
        """
        try:
            repository = open_(self.repository, self.revision)
        except RevisionGone as gone:
            raise self._unchecked(gone) from None
        variants = find_variants(repository)
        if self.quantisation:
            variants = named_variants(variants, self.quantisation)
        return repository, variants

    def _unchecked(self, gone: PitoolError) -> PitoolError:
        if self.recipe is None or self.recipe.gguf is None or self.recipe.gguf.checked:
            return gone
        return BadInput(
            f"{gone.what}; the recipe's revision was taken from public files and never checked"
            " against the hub",
            f"take the newest: pitool pull {self.repository} --revision main",
        )


def find_request(text: str, revision: str | None = None) -> Request:
    """Return what ``NAME``, ``OWNER/REPO`` or either with ``:QUANT`` asks for.

    UsageError for what is neither a recipe nor the name of a repository.
    """
    name, colon, quantisation = text.strip().removeprefix("hf.co/").partition(":")
    if colon and not quantisation:
        raise UsageError(f"{text!r} names no quantisation", "write it as NAME:Q4_K_M")
    recipe = find_recipe(name)
    if recipe is not None and recipe.gguf is not None:
        found = recipe.gguf
        return Request(found.repository, revision or found.revision, quantisation, recipe)
    if recipe is None and is_id(name) and path_kind(expand(name)) is None:
        return Request(name, revision or "main", quantisation)
    if recipe is not None:
        raise BadInput(
            f"{name} has no ready GGUF in the catalogue",
            f"convert it on a laptop: pitool convert {name} --ram {recipe.tiers[0]}",
        )
    if path_kind(expand(name)):
        raise UsageError(f"{name} is on this machine already", f"run it: pitool run {name}")
    known = [key for key, each in recipes().items() if each.gguf]
    raise UsageError(
        f"{name!r} is neither in the catalogue nor a repository such as OWNER/NAME",
        nearest(name, known, "list the catalogue: pitool models"),
    )


def choose(request: Request, choice: Choice, *, force: bool = False) -> tuple[Candidate, str]:
    """Return what to pull and why, in a line; DoesNotFit where it cannot be loaded.

    What is named is taken where it can be loaded at all. ``force``: whatever it needs.
    """
    if request.quantisation:
        candidate = choice.exact(choice.candidates[0].variant)
        if not force:
            choice.require(candidate)
        tight = candidate.verdict(choice.profile) is Verdict.TIGHT
        return candidate, f"{candidate.variant.quantisation}: as named{', but tight' * tight}"
    try:
        return choice.best(request.preferred)
    except DoesNotFit as error:
        if not force:
            raise
        return choice.exact(choice.candidates[-1].variant), f"warning: {error.what}"


def target_of(choice: Choice, candidate: Candidate, out: Path | None) -> Path:
    """Return the folder of the bundle."""
    return out or default_folder() / target_name(choice, candidate)
