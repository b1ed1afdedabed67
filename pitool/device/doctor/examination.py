"""The tables of checks, of a board and of a machine that converts, and the run through one."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from functools import partial
from pathlib import Path

from pitool.catalog.boards import boards
from pitool.device import files, sensors
from pitool.device.detect import detect
from pitool.device.doctor import databases, disk, host, memory, power, software
from pitool.device.doctor.finding import SEVERITIES, Check, Finding, Severity, System
from pitool.device.sensors import Run

# An import of llama.cpp from a slow card takes its time.
PATIENCE_SECONDS = 60
BOARD_CHECKS: tuple[Check, ...] = (
    software.userland,
    software.board,
    software.page_size,
    software.backend,
    software.onnx_runtime,
    software.software,
    software.threads,
    power.governor,
    power.clock,
    power.temperature,
    power.throttling,
    power.supply,
    power.cooling,
    power.bootloader,
    memory.free_memory,
    memory.swap,
    memory.locked_memory,
    disk.storage,
    disk.free_space,
    software.time_set,
)
HOST_CHECKS: tuple[Check, ...] = (
    software.userland,
    host.converter,
    host.export,
    software.backend,
    software.onnx_runtime,
    software.software,
    host.cross_compiler,
    host.ssh,
    host.memory,
    disk.free_space,
    software.time_set,
)


def examine(
    root: Path = files.HOST,
    run: Run | None = None,
    today: datetime.date | None = None,
    host: bool | None = None,
    read_speed: Callable[[], float | None] = disk.models_read_speed,
) -> list[Finding]:
    """Return every finding, the worst first.

    ``host``: whether this machine converts models; None takes every ARM machine for a board.
    """
    machine = detect(root)
    system = System(
        root,
        machine,
        boards().get(machine.board_id or ""),
        sensors.read(root, run),
        run or partial(sensors.run_command, seconds=PATIENCE_SECONDS),
        today or datetime.datetime.now(datetime.UTC).date(),
        read_speed,
    )
    converts = machine.arch not in ("aarch64", "armv7l", "armv6l") if host is None else host
    checks = HOST_CHECKS if converts else BOARD_CHECKS
    found = [finding for check in checks if (finding := check(system))]
    found += databases.databases(system)
    return sorted(found, key=lambda finding: -SEVERITIES.index(finding.severity))


def worst(findings: list[Finding]) -> Severity:
    """Return the highest severity; ``ok`` of nothing."""
    return max((f.severity for f in findings), key=SEVERITIES.index, default="ok")
