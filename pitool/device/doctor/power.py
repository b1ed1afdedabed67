"""Checks of clock, heat, power and bootloader; what a board should have stands in its table."""

from __future__ import annotations

from pitool.device import files
from pitool.device.detect import bootloader_date
from pitool.device.doctor.finding import Finding, System
from pitool.report.numbers import format_celsius, format_megahertz, format_share

DEFAULT_THROTTLE_C = 80.0
CPU = "sys/devices/system/cpu/cpu0/cpufreq"


def governor(system: System) -> Finding | None:
    """Powersave holds the clock at its lowest."""
    name = system.text(f"{CPU}/scaling_governor")
    if name is None:
        return None
    if name != "powersave":
        return Finding("governor", "ok", name)
    return Finding(
        "governor",
        "warning",
        name,
        "the CPU stays at its lowest clock",
        "echo ondemand | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor",
    )


def clock(system: System) -> Finding | None:
    """The highest clock that is allowed, against what the CPU can."""
    allowed = system.number(f"{CPU}/scaling_max_freq")
    able = system.number(f"{CPU}/cpuinfo_max_freq")
    if not allowed or not able:
        return None
    if allowed >= able:
        return Finding("clock", "ok", f"up to {format_megahertz(allowed / 1000)}")
    return Finding(
        "clock",
        "warning",
        f"limited to {allowed // 1000} of {format_megahertz(able / 1000)}",
        f"prefill runs at {format_share(allowed / able)} of its full speed",
        f"echo {able} | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_max_freq",
    )


def temperature(system: System) -> Finding | None:
    """The firmware lowers the clock of a hot board."""
    degrees, board = system.reading.temperature_c, system.board
    if degrees is None:
        return None
    limit = board.throttle_c if board else DEFAULT_THROTTLE_C
    if degrees < limit:
        return Finding("temperature", "ok", format_celsius(degrees))
    named = f" ({board.fan})" if board and board.fan else ""
    return Finding(
        "temperature",
        "warning",
        format_celsius(degrees),
        f"the firmware lowers the clock above {format_celsius(limit)}",
        f"add a heat sink with a fan{named}",
    )


def throttling(system: System) -> Finding | None:
    """What the firmware says of now and of the time since boot."""
    flags = system.reading.throttled
    if flags is None:
        return None
    if flags.now or flags.since_boot:
        now = bool(flags.now)
        names = ", ".join(flags.now or flags.since_boot)
        power = "under-voltage" in (flags.now or flags.since_boot)
        return Finding(
            "throttling",
            "fault" if now else "warning",
            f"{names} {'now' if now else 'since boot'}",
            "tokens/s fall, often to half",
            "use the official power supply and a short cable" if power else "add cooling",
        )
    return Finding("throttling", "ok", "none since boot")


def supply(system: System) -> Finding | None:
    """Some boards know what their supply promised."""
    amperes = _promised_amperes(system)
    if amperes is None:
        return None
    wanted = system.board.supply if system.board else None
    if wanted is None or amperes >= wanted.amperes:
        return Finding("power supply", "ok", f"{amperes:g} A")
    return Finding(
        "power supply",
        "warning",
        f"supplies {amperes:g} A, the board needs {wanted.amperes:g} A",
        "USB devices get little power, and under load the voltage may fall",
        f"use {wanted.name}",
    )


def _promised_amperes(system: System) -> float | None:
    for tree in ("proc/device-tree", "sys/firmware/devicetree/base"):
        try:
            raw = (system.root / tree / "chosen/power/max_current").read_bytes()
        except OSError:
            continue
        return int.from_bytes(raw, "big") / 1000
    return None


def cooling(system: System) -> Finding | None:
    """A board with a connector for a fan throttles without one within minutes of decoding."""
    if system.board is None or system.board.fan is None:
        return None
    kinds = [
        files.text(p)
        for p in sorted((system.root / "sys/class/thermal").glob("cooling_device*/type"))
    ]
    if any(kind and "fan" in kind for kind in kinds):
        return Finding("cooling", "ok", "a fan is connected")
    return Finding(
        "cooling",
        "note",
        "no fan is connected",
        "long answers may throttle the board",
        f"add {system.board.fan}, then check with pitool bench --sustained 10m",
    )


def bootloader(system: System) -> Finding | None:
    """Newer bootloaders set the memory up better."""
    date = bootloader_date(system.root)
    if date is None:
        return None
    wanted = system.board.bootloader if system.board else None
    if wanted is None or date >= wanted.since:
        return Finding("bootloader", "ok", date)
    return Finding(
        "bootloader",
        "warning",
        f"dated {date}",
        f"decode is about {format_share(wanted.decode_gain)} slower than with a version from"
        f" {wanted.since[:7]} or later",
        "sudo apt update && sudo apt install rpi-eeprom && sudo rpi-eeprom-update -a, then reboot",
    )
