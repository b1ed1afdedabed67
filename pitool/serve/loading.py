"""How models are loaded for many: settings of this machine, and memory beside other models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pitool.catalog.bundles import Runnable
from pitool.device import memory
from pitool.device.detect import detect
from pitool.device.settings import check_memory, planned_bytes, settings_for
from pitool.engine import worker
from pitool.engine.base import Engine, Settings
from pitool.serve.models import Loaded
from pitool.serve.shelf import Offer


@dataclass(frozen=True, slots=True)
class WorkerLoader:
    """Loads models in worker processes; ``force`` leaves out the look at the memory."""

    context: int | None = None
    force: bool = False

    def settings(self, runnable: Runnable) -> Settings:
        """Return how an artifact is loaded."""
        return settings_for(runnable, self.context)

    def check(self, offer: Offer, beside: Sequence[Loaded]) -> None:
        """Raise DoesNotFit where the plans of this model and those beside it exceed the memory.

        What is available now counts the weights of the others that are mapped from their files:
        the kernel would give them away, and read them again for each token.
        """
        if self.force:
            return
        runnable = offer.open()
        machine = detect()
        if machine.mem_available is not None and beside:
            held = sum(memory.anonymous(model.engine.pid) or 0 for model in beside)
            planned = sum(
                planned_bytes(model.offer.open(), model.engine.info.settings) for model in beside
            )
            room = max(machine.mem_available + held - planned, 0)
            machine = replace(machine, mem_available=room)
        check_memory(runnable, self.settings(runnable), machine)

    def load(self, offer: Offer) -> Engine:
        """Return the engine of a model."""
        runnable = offer.open()
        return worker.start(runnable.format, runnable.entry, self.settings(runnable))
