"""Checks of memory, swap and locking."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from dataclasses import dataclass

from pitool.catalog.bundles import list_bundles
from pitool.device import memory
from pitool.device.doctor.finding import Finding, Severity, System
from pitool.device.forecast import Judge
from pitool.device.here import fresh_boot
from pitool.planning.places import Verdict, verdict_on
from pitool.report.numbers import compare_bytes, format_bytes, format_part

CLOSE_PROGRAMS = (
    "close other programs; to boot without the desktop:"
    " sudo systemctl set-default multi-user.target"
)


@dataclass(frozen=True, slots=True)
class _Shortage:
    """A bundle whose default artifact does not fit here without more ado; sizes in bytes."""

    name: str
    verdict: Verdict
    needed: int
    margin: int


def free_memory(system: System) -> Finding | None:
    """Whether the models that lie here fit beside what is running, by the plan's verdict."""
    total, available = system.machine.mem_total, memory.available(system.root)
    if not total or available is None:
        return None
    worst = max(_shortages(system), key=lambda s: s.needed, default=None)
    if worst is None:
        return Finding("memory", "ok", f"{format_part(available, total)} free")
    free, all_, needed = compare_bytes(available, total, worst.needed)
    room = fresh_boot(system.machine) or total
    mended = verdict_on(worst.needed, room, worst.margin) is Verdict.FITS
    no = worst.verdict is Verdict.NO
    severity: Severity = "warning" if no else "note"
    return Finding(
        "memory",
        severity,
        f"{free} of {all_} free, {worst.name} needs {needed}",
        "pitool refuses to load it" if no else "little memory is left for the page cache and peaks",
        CLOSE_PROGRAMS if mended else "convert the model with a smaller --ram or --quant",
    )


def _shortages(system: System) -> Iterator[_Shortage]:
    """Yield the default artifacts that do not simply fit."""
    judge = Judge(system.root)
    for bundle in list_bundles()[0]:
        artifact = bundle.manifest.artifacts[0]
        found = judge(artifact)
        if found.needed and found.verdict in (Verdict.TIGHT, Verdict.NO):
            name = f"{bundle.path.name} {artifact.quantisation}"
            yield _Shortage(name, found.verdict, found.needed, found.margin)


def swap(system: System) -> Finding:
    """A model that swaps takes seconds a token; zram at least spares the card."""
    total = system.machine.swap_total or 0
    names = (system.text("proc/swaps") or "").splitlines()[1:]
    devices = [line.split()[0] for line in names if line.split()]
    if not total:
        return Finding(
            "swap",
            "note",
            "none",
            "a process that runs out of memory is killed at once",
            "keep it off for speed; for compressed swap: sudo apt install rpi-swap",
        )
    where = ", ".join(devices) or "an unknown device"
    if all("zram" in device for device in devices) and devices:
        return Finding("swap", "ok", f"{format_bytes(total)} in compressed memory")
    return Finding(
        "swap",
        "note",
        f"{format_bytes(total)} on {where}",
        "a model in swap takes seconds per token and wears out the card",
        "keep models below what pitool plan allows",
    )


def locked_memory(_system: System) -> Finding:
    """How much may be kept from swap by the load mode mlock."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if soft == resource.RLIM_INFINITY:
        return Finding("locked memory", "ok", "no limit")
    return Finding(
        "locked memory",
        "note",
        f"limited to {format_bytes(soft)}",
        "the load mode mlock cannot lock a model",
        "add '@users - memlock unlimited' to /etc/security/limits.conf and log in again",
    )
