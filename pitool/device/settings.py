"""The settings that are fast on this machine, for an artifact that is to be loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pitool.catalog.boards import boards
from pitool.catalog.bundles import Runnable
from pitool.catalog.kv_types import USUAL, CacheTypes
from pitool.catalog.manifest import MemoryLine
from pitool.catalog.tensor_types import repacked_types
from pitool.device import tuned
from pitool.device.detect import Machine, detect
from pitool.engine.base import Settings
from pitool.engine.speculation.pass_costs import SIZES, output_rows
from pitool.engine.speculation.policy import MOST_GUESSES
from pitool.errors import DoesNotFit, UsageError
from pitool.planning.formats import find_format
from pitool.planning.memory import CHAT, KV_CACHE, Load, held_beside
from pitool.planning.places import Verdict, verdict_on
from pitool.planning.speculating import cost_curve
from pitool.report.numbers import compare_bytes

MINIMUM_CONTEXT = 256
MOST_SEQUENCES = 4
"""As many as llama.cpp's kernels take at once; more cost nearly as much again."""


def settings_for(
    runnable: Runnable,
    context: int | None = None,
    machine: Machine | None = None,
    *,
    threads: int | None = None,
    cache: CacheTypes | None = None,
) -> Settings:
    """Return settings for ``runnable``: what ``pitool tune`` found here, else ``untuned``.

    ``threads`` that the user names go before both, for decode and for prefill, and so do the types
    of the KV cache; UsageError where the runtime takes none.
    """
    machine = machine or detect()
    settings = untuned(runnable, context, machine)
    if known := tuned.find(runnable, machine):
        settings = known.apply(settings)
    if cache is not None:
        form = find_format(runnable.format)
        if not form.tunable:
            raise UsageError(
                f"--kv-type cannot be used with {form.title}, whose cache has the graph's own type",
                "drop it, or use a GGUF",
            )
        settings = settings.with_cache(cache)
    if threads is None:
        return settings
    return replace(settings, decode_threads=threads, prefill_threads=threads)


def untuned(runnable: Runnable, context: int | None, machine: Machine) -> Settings:
    """Return settings by rule; ``context`` None takes what the artifact is planned for.

    Weights that ggml interleaves for this CPU are read, not mapped, or they would lie in memory
    twice.
    """
    decode, prefill = board_threads(machine)
    planned = runnable.artifact
    tokens = planned.tokenization if planned else None
    return Settings(
        kv_type=planned.kv_type if planned else USUAL,
        value_type=planned.value_type if planned else None,
        micro_batch=planned.micro_batch if planned else 512,
        context=max(context or runnable.context, MINIMUM_CONTEXT),
        decode_threads=decode,
        prefill_threads=prefill,
        load_mode="read" if repacks(machine, runnable) else "mmap",
        adapters=runnable.adapters,
        ends=tokens.ends if tokens else (),
        nfc=tokens.nfc if tokens else False,
        tokenizer=runnable.tokenizer,
        guesses=MOST_GUESSES,
        costs=_expected_costs(runnable, machine),
    )


def _expected_costs(runnable: Runnable, machine: Machine) -> tuple[tuple[int, float], ...]:
    """Return what passes of several tokens cost by the speeds that are predicted for this board."""
    for speed in runnable.artifact.speed if runnable.artifact else ():
        if speed.board == machine.board_id and min(speed.prefill, speed.decode) > 0:
            return cost_curve(speed, SIZES)
    return ()


def with_guesses(settings: Settings, draft: Runnable | None, *, speculate: bool) -> Settings:
    """Return settings that guess with a draft model too, or not at all."""
    if not speculate:
        return replace(settings, guesses=0)
    return replace(settings, draft=(draft.format, str(draft.entry)) if draft else None)


def with_sequences(
    runnable: Runnable,
    settings: Settings,
    wanted: int | None = None,
    machine: Machine | None = None,
) -> Settings:
    """Return settings for several answers at once, each with the context of ``settings``.

    ``wanted`` None: as many as fit, up to ``MOST_SEQUENCES``, with a tenth of the memory that is
    available left free; one where the runtime answers one at a time. UsageError where more than
    that is wanted of it.
    """
    form = find_format(runnable.format)
    if not form.parallel:
        if wanted is not None and wanted > 1:
            raise UsageError(
                f"{form.runtime} writes one answer at a time",
                "leave out --parallel, and requests wait for their turn; or use a GGUF",
            )
        return settings
    choices = [
        replace(settings, context=settings.context * count, sequences=count)
        for count in range(1, (wanted or MOST_SEQUENCES) + 1)
    ]
    if wanted is not None:
        return choices[-1]
    room = (machine or detect()).mem_available
    free = 0 if room is None else room - room // 10
    fitting = [each for each in choices if planned_bytes(runnable, each) <= free]
    return fitting[-1] if fitting else choices[0]


def board_threads(machine: Machine) -> tuple[int, int]:
    """Return the threads for decode, the board's measured best, and for prefill, every core."""
    board = boards().get(machine.board_id or "")
    cores = max(machine.physical_cores, 1)
    return min(board.decode_threads, cores) if board else cores, cores


def repacks(machine: Machine, runnable: Runnable) -> bool:
    """Tell whether ggml interleaves most of an artifact's weights on this machine."""
    types = repacked_types(machine.features)
    return find_format(runnable.format).interleaves(runnable.entry, types)


def planned_bytes(runnable: Runnable, settings: Settings) -> int:
    """Return what the artifact will hold; of an ONNX folder outside a bundle only its weights."""
    return sum(line.bytes for line in _planned(runnable, settings))


def worker_bytes(runnable: Runnable, settings: Settings) -> int:
    """Return what of ``planned_bytes`` the worker will hold: all but the chat's own process."""
    return sum(line.bytes for line in _planned(runnable, settings) if line.name != CHAT)


def _planned(runnable: Runnable, settings: Settings) -> tuple[MemoryLine, ...]:
    artifact = runnable.artifact
    if artifact is None or settings.sequences > 1:
        return _planned_loose(runnable, settings)
    planned = artifact.cache
    share = settings.context / artifact.context
    if find_format(runnable.format).tunable:  # else the graph decides what its cache takes
        share *= settings.cache.bits / planned.bits
    lines = tuple(
        replace(line, bytes=round(line.bytes * share)) if line.name == KV_CACHE else line
        for line in artifact.memory
    )
    return (*lines, *_planned_draft(settings))


def _planned_draft(settings: Settings) -> tuple[MemoryLine, ...]:
    """Return the line of a draft model: what it holds besides a process of its own."""
    if settings.draft is None:
        return ()
    form, path = settings.draft
    load = replace(load_of(settings), outputs=1)
    lines = find_format(form).memory_of(Path(path), load, repacked_types(detect().features))
    return (MemoryLine("draft model", held_beside(lines or ()) or _size(Path(path))),)


def _size(path: Path) -> int:
    files = [path] if path.is_file() else path.iterdir()
    return sum(each.stat().st_size for each in files if each.is_file())


def _planned_loose(runnable: Runnable, settings: Settings) -> tuple[MemoryLine, ...]:
    """Return the plan of an artifact by its header, or its weights where there is none."""
    adapter = sum(Path(path).stat().st_size for path in runnable.adapters)
    load = replace(load_of(settings), adapter=adapter)
    repacked = repacked_types(detect().features)
    planned = find_format(runnable.format).memory_of(runnable.entry, load, repacked)
    return (*(planned or (MemoryLine("weights", runnable.bytes),)), *_planned_draft(settings))


def load_of(settings: Settings) -> Load:
    """Return what a plan of the memory has to know of settings, without their adapters."""
    return Load(
        settings.context // settings.sequences,
        micro_batch=settings.micro_batch,
        outputs=output_rows(settings),
        kv_type=settings.kv_type,
        value_type=settings.value_type,
        mapped=settings.load_mode != "read",
        repack=settings.repack,
        sequences=settings.sequences,
    )


def check_memory(runnable: Runnable, settings: Settings, machine: Machine | None = None) -> None:
    """Raise DoesNotFit when the planned memory is more than is available now."""
    machine = machine or detect()
    planned = planned_bytes(runnable, settings)
    room = machine.mem_available
    if room is not None and verdict_on(planned, room, 0) is Verdict.NO:
        needed, available = compare_bytes(planned, room)
        raise DoesNotFit(
            f"{runnable.name} {runnable.quantisation} needs {needed}, and {available} of memory"
            " are available",
            "close other programs, choose a smaller quantisation or --context, or use --force",
        )
