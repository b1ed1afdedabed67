"""Temperature, clock and throttling of a board; where they are read stands in the boards' table.

Reading is cheap (three small files, and one short process where the firmware has a command) and
never raises. It must still stay out of timed regions: 50 readings a second slowed decoding six
times on a Pi 5. Missing is None, which means unknown, never zero.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pitool.catalog.boards import Sensors, boards
from pitool.device import files
from pitool.device.detect import detect

# Bits 0 to 3 of the firmware's get_throttled: now; 16 to 19: at some time since boot.
FLAGS = ("under-voltage", "frequency capped", "throttled", "soft temperature limit")
SINCE_BOOT_SHIFT = 16
ALL_BITS = 0xF | 0xF << SINCE_BOOT_SHIFT
UNDER_VOLTAGE_NOW = 0x1

Run = Callable[[list[str]], str]


@dataclass(frozen=True, slots=True)
class Throttled:
    """The firmware's verdict; ``known`` marks the bits that the source of it can tell."""

    bits: int
    known: int = ALL_BITS

    @property
    def now(self) -> tuple[str, ...]:
        """The flags that hold at this moment."""
        return self._flags(0)

    @property
    def since_boot(self) -> tuple[str, ...]:
        """The flags that held at some time since boot."""
        return self._flags(SINCE_BOOT_SHIFT)

    @property
    def told(self) -> tuple[str, ...]:
        """The flags that this source can tell at all."""
        return self._flags(0, self.known)

    def _flags(self, shift: int, bits: int | None = None) -> tuple[str, ...]:
        bits = self.bits if bits is None else bits
        return tuple(flag for bit, flag in enumerate(FLAGS) if bits >> shift + bit & 1)


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at the sensors: degrees Celsius and MHz."""

    temperature_c: float | None
    clock_mhz: float | None
    throttled: Throttled | None


def reader(root: Path = files.HOST, run: Run | None = None) -> Callable[[], Reading]:
    """Return a function that looks at the sensors, where this machine's board has them.

    ``run`` takes a command line and returns its standard output; without one, commands are run
    only when ``root`` is this machine.
    """
    if run is None and root == files.HOST:
        run = run_command
    board = boards().get(detect(root).board_id or "")
    where = board.sensors if board else Sensors()

    def look() -> Reading:
        millidegrees = files.integer(root / where.temperature)
        kilohertz = files.integer(root / where.clock)
        return Reading(
            temperature_c=None if millidegrees is None else millidegrees / 1000,
            clock_mhz=None if kilohertz is None else kilohertz / 1000,
            throttled=_from_command(run, where.throttled)
            or _from_firmware(root)
            or _from_hwmon(root),
        )

    return look


def read(root: Path = files.HOST, run: Run | None = None) -> Reading:
    """Return what the sensors say now; see ``reader``."""
    return reader(root, run)()


def run_command(command: Sequence[str], seconds: float = 1) -> str:
    """Return what a command prints; OSError or SubprocessError when it fails or takes longer."""
    return subprocess.run(
        command, capture_output=True, text=True, timeout=seconds, check=True,
        stdin=subprocess.DEVNULL,
    ).stdout  # fmt: skip


def _from_command(run: Run | None, command: Sequence[str]) -> Throttled | None:
    """Decode ``throttled=0x50005``."""
    if run is None or not command:
        return None
    try:
        name, _, value = run([*command]).strip().partition("=")
        return Throttled(int(value, 16)) if name == "throttled" else None
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def _from_firmware(root: Path) -> Throttled | None:
    """Read the firmware driver's file: the same bits, in hexadecimal."""
    platform = root / "sys/devices/platform"
    usual = platform / "soc/soc:firmware/get_throttled"
    for path in (usual, *sorted(platform.glob("*/*firmware*/get_throttled"))):
        bits = files.integer(path, 16)
        if bits is not None:
            return Throttled(bits)
    return None


def _from_hwmon(root: Path) -> Throttled | None:
    """Read the under-voltage alarm of the ``rpi_volt`` driver; it tells nothing else."""
    for name in sorted((root / "sys/class/hwmon").glob("*/name")):
        if files.text(name) == "rpi_volt":
            alarm = files.integer(name.with_name("in0_lcrit_alarm"))
            if alarm is not None:
                return Throttled(UNDER_VOLTAGE_NOW if alarm else 0, known=UNDER_VOLTAGE_NOW)
    return None
