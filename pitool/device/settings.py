"""The settings that are fast on this machine, for an artifact that is to be loaded."""

from __future__ import annotations

from pitool.device.detect import Machine, detect
from pitool.engine.base import Settings
from pitool.errors import DoesNotFit
from pitool.spec.boards import boards
from pitool.spec.bundles import Runnable
from pitool.spec.formats import QUANTISATIONS
from pitool.spec.memory import KV_CACHE, REPACKED, format_bytes

MINIMUM_CONTEXT = 256


def settings_for(
    runnable: Runnable, context: int | None = None, machine: Machine | None = None
) -> Settings:
    """Return settings for ``runnable``; ``context`` None takes what the artifact is planned for.

    Threads: the board's measured best for decode, every core for prefill. Weights that ggml
    interleaves for this CPU are read, not mapped, or they would lie in memory twice.
    """
    machine = machine or detect()
    board = boards().get(machine.board_id or "")
    cores = max(machine.physical_cores, 1)
    return Settings(
        context=max(context or runnable.context, MINIMUM_CONTEXT),
        decode_threads=min(board.decode_threads, cores) if board else cores,
        prefill_threads=cores,
        load_mode="read" if repacks(machine, runnable.quantisation) else "mmap",
    )


def repacks(machine: Machine, quantisation: str) -> bool:
    """Tell whether ggml interleaves most weights of a quantisation on this machine."""
    known = QUANTISATIONS.get(quantisation)
    fast = {"dotprod", "avx2"} & set(machine.features)
    return bool(fast) and known is not None and known.base in REPACKED


def planned_bytes(runnable: Runnable, settings: Settings) -> int:
    """Return what the artifact will hold; of a file outside a bundle only the weights count."""
    if runnable.artifact is None:
        return runnable.bytes
    share = settings.context / runnable.artifact.context
    return sum(
        round(line.bytes * share) if line.name == KV_CACHE else line.bytes
        for line in runnable.artifact.memory
    )


def check_memory(runnable: Runnable, settings: Settings, machine: Machine | None = None) -> None:
    """Raise DoesNotFit when the planned memory is more than is available now."""
    machine = machine or detect()
    planned = planned_bytes(runnable, settings)
    if machine.mem_available is not None and planned > machine.mem_available:
        raise DoesNotFit(
            f"{runnable.name} {runnable.quantisation} needs {format_bytes(planned)} and"
            f" {format_bytes(machine.mem_available)} of memory are available",
            "close programs, take a smaller quantisation or --context, or --force",
        )
