"""How models are loaded for many: settings of this machine, and memory beside other models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pitool.catalog.bundles import Runnable, home
from pitool.catalog.kv_types import CacheTypes
from pitool.device import memory
from pitool.device.detect import Machine, detect
from pitool.device.settings import (
    check_memory,
    planned_bytes,
    settings_for,
    with_guesses,
    with_sequences,
)
from pitool.engine import worker
from pitool.engine.base import Engine, Settings
from pitool.engine.prefills.bundled import places_of
from pitool.engine.prefills.files import FOLDER_NAME, Place
from pitool.engine.prefills.keys import model_of
from pitool.errors import DoesNotFit
from pitool.planning.formats import find_format
from pitool.serve.shelf import Offer
from pitool.serve.turns import Loaded

FLUSH_SECONDS = 0.1
"""As often as reads as steady; a message wakes this process and the client's, and on a board most
tokens take longer."""


@dataclass(frozen=True, slots=True)
class WorkerLoader:
    """Loads models in worker processes.

    ``context``: tokens of one answer with its prompt; ``parallel``: answers at once, None for as
    many as there is memory for; ``strict``: it is an error where a runtime can write one at a time
    only, or takes no types of the cache. ``force`` leaves out the look at the memory. ``cluster``:
    the name of the one whose boards hold a model, one at a time; ``say`` hears how it is split.
    ``draft``: a model that guesses tokens; ``speculate``: guess at all. ``cache``: types of the KV
    cache, None for what is planned or tuned.
    """

    context: int | None = None
    parallel: int | None = None
    force: bool = False
    strict: bool = True
    cluster: str | None = None
    say: Callable[[str], object] = lambda _: None
    draft: Runnable | None = None
    speculate: bool = True
    cache: CacheTypes | None = None

    def check(self, offer: Offer, beside: Sequence[Loaded]) -> None:
        """Raise DoesNotFit where the plans of this model and those beside it exceed the memory."""
        runnable = offer.open()
        if self.cluster is not None:
            if beside:
                raise DoesNotFit("a cluster holds one model", "wait until the other one is unused")
            return
        settings = self._settings(runnable)
        least = with_sequences(runnable, settings, self._wanted(runnable) or 1)
        if not self.force:
            check_memory(runnable, least, _machine(beside))

    def load(self, offer: Offer, beside: Sequence[Loaded]) -> Engine:
        """Return the engine of a model."""
        runnable = offer.open()
        settings = self._settings(runnable)
        wanted, machine = self._wanted(runnable), _machine(beside)
        if self.cluster is not None:
            wanted = wanted or 1  # what fits the boards is known when they are asked
        settings = with_sequences(runnable, settings, wanted, machine)
        own = Place(str(home() / FOLDER_NAME), model_of(runnable, settings))
        prefixes = [own, *places_of(runnable, settings)]
        if self.cluster is not None:
            from pitool.cluster import loading

            return loading.start(
                self.cluster,
                runnable,
                settings,
                flush_seconds=FLUSH_SECONDS,
                prefixes=prefixes,
                force=self.force,
                say=self.say,
            )
        return worker.start(
            runnable.format,
            runnable.entry,
            settings,
            flush_seconds=FLUSH_SECONDS,
            prefixes=prefixes,
        )

    def _cache(self, runnable: Runnable) -> CacheTypes | None:
        able = self.strict or find_format(runnable.format).tunable
        return self.cache if able else None

    def _settings(self, runnable: Runnable) -> Settings:
        settings = settings_for(runnable, self.context, cache=self._cache(runnable))
        return with_guesses(settings, self.draft, speculate=self.speculate)

    def _wanted(self, runnable: Runnable) -> int | None:
        able = self.strict or find_format(runnable.format).parallel
        return self.parallel if able else None


def _machine(beside: Sequence[Loaded]) -> Machine:
    """Return this machine with the memory that the plans of loaded models leave.

    What is available now counts the weights of the others that are mapped from their files: the
    kernel would give them away, and read them again for each token.
    """
    machine = detect()
    if machine.mem_available is None or not beside:
        return machine
    held = sum(memory.anonymous(model.engine.pid) or 0 for model in beside)
    planned = sum(planned_bytes(model.offer.open(), model.engine.info.settings) for model in beside)
    return replace(machine, mem_available=max(machine.mem_available + held - planned, 0))
