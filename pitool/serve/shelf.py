"""Which models are served, and by which names a request may mean one.

A bundle's first artifact has the name of its folder; each has that name with its quantisation,
as Ollama writes a tag: ``sample-1gb:Q4_K_M``. Case does not count. Loads nothing.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pitool.catalog import manifest
from pitool.catalog.bundles import Bundle, Runnable, choose, default_folder, list_bundles
from pitool.catalog.files import path_kind
from pitool.catalog.manifest import Artifact
from pitool.catalog.tables import nearest
from pitool.errors import PitoolError
from pitool.serve.failures import NoSuchModel

LATEST = "latest"


@dataclass(frozen=True, slots=True)
class Offer:
    """A model that can be asked for; ``open`` finds it on the disk, checked to be whole.

    ``created``: seconds since 1970; ``artifact`` and ``bundle``: None outside of a bundle.
    """

    name: str
    quantisation: str
    first: bool
    created: int
    bytes: int
    open: Callable[[], Runnable]
    artifact: Artifact | None = None
    bundle: Bundle | None = None

    @property
    def id(self) -> str:
        """The name that is listed and answered with."""
        return self.name if self.first else self.tag

    @property
    def tag(self) -> str:
        """The name with the quantisation."""
        return f"{self.name}:{self.quantisation}"

    @property
    def names(self) -> Sequence[str]:
        """All names that mean it."""
        known = [self.id, self.tag, f"{self.name}-{self.quantisation}"]
        if self.bundle is not None:
            known.append(f"{self.bundle.manifest.name}:{self.quantisation}")
        if self.first:
            known.append(f"{self.name}:{LATEST}")
            known += [self.bundle.manifest.name] if self.bundle is not None else []
        return known


class Shelf(Protocol):
    """The models that are served."""

    @property
    def only(self) -> bool:
        """Whether it is one, which answers by whatever name."""

    def offers(self) -> list[Offer]:
        """Return them, the one that is taken where a request names none first."""

    def find(self, name: str | None) -> Offer:
        """Return the one of a name, the first for none; NoSuchModel suggests the nearest."""


class OneModel:
    """One that was named when the server was started."""

    only = True

    def __init__(self, runnable: Runnable) -> None:
        bundle = _bundle_of(runnable.entry)
        self._offer = Offer(
            bundle.path.name if bundle else runnable.name,
            runnable.quantisation,
            bundle is None or runnable.artifact == bundle.manifest.artifacts[0],
            _seconds(bundle) if bundle else int(runnable.entry.stat().st_mtime),
            runnable.bytes,
            lambda: runnable,
            runnable.artifact,
            bundle,
        )

    def offers(self) -> list[Offer]:
        """Return the one."""
        return [self._offer]

    def find(self, name: str | None) -> Offer:
        """Return it, whatever its name."""
        del name
        return self._offer


class AllBundles:
    """Every bundle of a folder, as they come and go while the server runs; from any thread."""

    only = False

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or default_folder()
        self._known: dict[str, Offer] = {}

    def offers(self) -> list[Offer]:
        """Return what lies there now, the newest bundle first."""
        found = [offer for bundle in list_bundles(self._folder)[0] for offer in _of_bundle(bundle)]
        known: dict[str, Offer] = {}
        for offer in found:
            for name in offer.names:
                known.setdefault(name.casefold(), offer)
        self._known = known  # at once, for others look meanwhile
        return found

    def find(self, name: str | None) -> Offer:
        """Return the one of a name; a folder is looked at again where none is known by it."""
        if name and (known := self._known.get(name.casefold())) is not None:
            return known
        offers = self.offers()
        if not offers:
            raise NoSuchModel("there is no bundle to serve", "get one: pitool pull NAME")
        if not name:
            return offers[0]
        if (known := self._known.get(name.casefold())) is None:
            what = f"the model {name!r} is not served here"
            raise NoSuchModel(what, nearest(name, [offer.id for offer in offers]))
        return known


def _of_bundle(bundle: Bundle) -> list[Offer]:
    return [
        Offer(
            bundle.path.name,
            artifact.quantisation,
            place == 0,
            _seconds(bundle),
            artifact.bytes,
            lambda artifact=artifact: choose(bundle, artifact.quantisation),  # type: ignore[misc]
            artifact,
            bundle,
        )
        for place, artifact in enumerate(bundle.manifest.artifacts)
    ]


def _bundle_of(entry: Path) -> Bundle | None:
    """Return the bundle that an artifact lies in."""
    for folder in entry.resolve().parents[:2]:
        if path_kind(folder / manifest.FILE_NAME) is not None:
            try:
                return Bundle(folder, manifest.read(folder))
            except PitoolError:
                return None
    return None


def _seconds(bundle: Bundle) -> int:
    try:
        return int(datetime.datetime.fromisoformat(bundle.manifest.created).timestamp())
    except (ValueError, OverflowError):
        return 0
