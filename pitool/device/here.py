"""This machine as a place for a plan: what is really there, and where that is below the table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pitool.catalog.boards import Board, Ram, boards
from pitool.device import files, memory, probe, residuals
from pitool.device.detect import Machine, detect
from pitool.errors import PitoolError, UsageError
from pitool.planning.formats import FORMATS
from pitool.planning.places import HERE, Place, board_place
from pitool.planning.report import find_places
from pitool.planning.speed import Correction
from pitool.report.numbers import compare_bytes, format_bandwidth, format_bytes, format_fixed

MARGIN_SHARE = 0.05
# Below this share of the table's figure a board is said to fall short of it.
SHORT = 0.95


@dataclass(frozen=True, slots=True)
class ThisMachine:
    """``place``: for the plan; ``notes``: what was found, a sentence each; ``corrections``: of
    predicted speeds by the name of the format, learnt from benches and the probe.
    """

    place: Place
    notes: tuple[str, ...]
    corrections: Mapping[str, Correction]


def this_machine(machine: Machine, root: Path = files.HOST) -> ThisMachine:
    """Return this machine; PitoolError where it does not say how much memory is available."""
    if machine.mem_available is None or machine.mem_total is None:
        raise PitoolError(
            "the memory of this machine cannot be detected", "choose a tier with --ram"
        )
    board = boards().get(machine.board_id or "")
    known = {} if board is None else {machine.board_id or "": _as_found(board, machine)}
    free = margin(machine)
    place = Place(HERE, HERE, machine.mem_available, free, known, machine.features)
    found = probe.find(machine)
    notes = [
        *_facts(machine, root),
        *_memory_notes(machine, board, root),
        *_speed_notes(found, board),
        *_learnt_notes(machine),
    ]
    return ThisMachine(place, tuple(notes), corrections(machine))


def find_place(
    ram: str | None, board: str | None, root: Path = files.HOST
) -> tuple[Place, Mapping[str, Correction]]:
    """Return the one place that is named, by default this machine, with what was learnt of it.

    UsageError for a board that is sold with several sizes of RAM, where none is named.
    """
    if ram is None and board in (None, HERE):
        here = this_machine(detect(root), root)
        return here.place, here.corrections
    if board == HERE:
        raise UsageError("'here' is this machine, whose RAM is known", "drop --ram")
    places = find_places(ram, board)
    if len(places) > 1:
        sold = ", ".join(place.tier for place in places)
        raise UsageError(f"{board} is sold with {sold}", f"add --ram, such as {places[-1].tier}")
    return places[0], {}


def corrections(machine: Machine) -> dict[str, Correction]:
    """Return what was learnt of predictions here, by the name of the format."""
    return {form.name: _correction(machine, form.engine) for form in FORMATS.values()}


def _correction(machine: Machine, engine: str) -> Correction:
    """Return what benches taught of predictions here, or of a decode at least what the probe did.

    A memory that reads slower than that of other boards of the kind makes a slower decode.
    """
    learnt = residuals.factors(probe.key(machine), engine)
    found, board = probe.find(machine), boards().get(machine.board_id or "")
    slow = 1.0
    if found is not None and board is not None and board.read_gbs is not None:
        slow = min(1.0, found.read_gbs / board.read_gbs)
    return Correction(learnt.get("prefill", 1.0), learnt.get("decode", slow))


def _learnt_notes(machine: Machine) -> Iterator[str]:
    """Say by how much benches here were off the predictions."""
    for form in FORMATS.values():
        learnt = residuals.factors(probe.key(machine), form.engine)
        said = [
            f"{format_fixed(factor, 2)} x the predicted {phase}" for phase, factor in learnt.items()
        ]
        if said:
            yield (
                f"benchmarks on this machine with {form.runtime} measured {' and '.join(said)};"
                " predictions are scaled to match"
            )


def margin(machine: Machine) -> int:
    """Return the bytes that should stay free here, for the page cache and spikes."""
    return int((machine.mem_total or 0) * MARGIN_SHARE)


def fresh_boot(machine: Machine) -> int | None:
    """Return the bytes that a board of this kind has free after its boot; None if not known."""
    board = boards().get(machine.board_id or "")
    size = _ram(machine, board)
    if board is None or size is None:
        return None
    return board_place(machine.board_id or "", board, size).room


def _as_found(board: Board, machine: Machine) -> Board:
    """Return the board with the features that its CPU shows."""
    return replace(board, features=tuple(f for f in board.features if f in machine.features))


def _facts(machine: Machine, root: Path) -> Iterator[str]:
    features = ", ".join(machine.features) or "none known"
    yield f"{machine.board_name}: {machine.cores} cores, features {features}"
    available, total = compare_bytes(machine.mem_available or 0, machine.mem_total or 0)
    yield f"memory: {available} available of {total}"
    if machine.page_kib:
        yield f"pages of {machine.page_kib} KiB"
    if _limited(machine, root):
        yield "a cgroup limits memory to less than the system has (a container or a service)"
    if machine.swap_total:
        size = format_bytes(machine.swap_total)
        yield f"swap: {size}{_kind(root)}, not counted: a model in swap takes seconds per token"


def _limited(machine: Machine, root: Path) -> bool:
    left = memory.left_in_cgroup(root)
    return left is not None and left == machine.mem_available


def _kind(root: Path) -> str:
    """Return what the swap is, as the end of a clause; nothing where that is unknown."""
    devices = (files.text(root / "proc/swaps") or "").splitlines()[1:]
    compressed = ["/dev/zram" in device for device in devices]
    if not compressed:
        return ""
    if all(compressed):
        return ", compressed RAM (zram)"
    return ", compressed RAM (zram) and disk" if any(compressed) else ", on disk"


def _memory_notes(machine: Machine, board: Board | None, root: Path) -> Iterator[str]:
    """Say what a freshly booted board of this kind would have more."""
    table = fresh_boot(machine)
    if board is None or table is None or machine.mem_available is None:
        return
    if machine.mem_available < SHORT * table:
        missing = format_bytes(table - machine.mem_available)
        do = "raise the limit" if _limited(machine, root) else "close other programs"
        yield f"{missing} less memory is available than after a fresh boot: {do}"
    absent = [f for f in board.features if f not in machine.features]
    if absent:
        yield f"the CPU does not report {', '.join(absent)}, which this board should have"
    if machine.page_kib and machine.page_kib != board.page_kib:
        yield f"this board usually has pages of {board.page_kib} KiB"


def _ram(machine: Machine, board: Board | None) -> Ram | None:
    """Return the RAM size of the table that is nearest to what Linux manages."""
    if board is None or machine.mem_total is None:
        return None
    mib = machine.mem_total / 2**20
    return min(board.ram, key=lambda ram: abs(ram.mem_total_mib - mib))


def _speed_notes(found: probe.Probe | None, board: Board | None) -> Iterator[str]:
    if found is None:
        yield "memory bandwidth not measured: run pitool tune --probe (5 seconds)"
        return
    yield f"memory bandwidth: {format_bandwidth(found.read_gbs)} (measured {found.date})"
    usual = board.read_gbs if board else None
    if usual and found.read_gbs < SHORT * usual:
        yield (
            f"memory is slower than usual for this board ({format_bandwidth(usual)}): check the"
            " power supply and the clock"
        )
