"""The checks of clock, heat and power of a board; see ``doctor``."""

from __future__ import annotations

from pitool.device import files
from pitool.device.detect import bootloader_date
from pitool.device.doctor import Check, Finding, Patient
from pitool.report.numbers import format_celsius, format_megahertz, format_share

HOT_CELSIUS = 80.0
FULL_SUPPLY_MILLIAMPERES = 5000
# The first bootloader with SDRAM_BANKLOW (raspberrypi/rpi-eeprom, firmware-2712 release notes).
FAST_MEMORY_BOOTLOADER = "2024-12-01"
# The boards, by the beginning of their id, that it is for.
HAS_FAST_MEMORY = ("pi5", "cm5")
CPU = "sys/devices/system/cpu/cpu0/cpufreq"


def governor(patient: Patient) -> Finding | None:
    """Powersave holds the clock at its lowest."""
    name = patient.text(f"{CPU}/scaling_governor")
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


def clock(patient: Patient) -> Finding | None:
    """The highest clock that is allowed, against what the CPU can."""
    allowed = patient.number(f"{CPU}/scaling_max_freq")
    able = patient.number(f"{CPU}/cpuinfo_max_freq")
    if not allowed or not able:
        return None
    if allowed >= able:
        return Finding("clock", "ok", f"up to {format_megahertz(allowed / 1000)}")
    return Finding(
        "clock",
        "warning",
        f"held at {allowed // 1000} of {format_megahertz(able / 1000)}",
        f"prefill at {format_share(allowed / able)} of its speed",
        f"echo {able} | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_max_freq",
    )


def temperature(patient: Patient) -> Finding | None:
    """Throttling begins at 80 °C."""
    degrees = patient.reading.temperature_c
    if degrees is None:
        return None
    if degrees < HOT_CELSIUS:
        return Finding("temperature", "ok", format_celsius(degrees))
    return Finding(
        "temperature",
        "warning",
        format_celsius(degrees),
        "the firmware lowers the clock from 80 °C on",
        "add a heat sink with a fan (the Active Cooler on a Pi 5)",
    )


def throttling(patient: Patient) -> Finding | None:
    """What the firmware says of now and of the time since boot."""
    flags = patient.reading.throttled
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
            "take the official power supply and a short cable" if power else "add cooling",
        )
    return Finding("throttling", "ok", "never since boot")


def supply(patient: Patient) -> Finding | None:
    """A Pi 5 knows what its supply promised."""
    for tree in ("proc/device-tree", "sys/firmware/devicetree/base"):
        try:
            raw = (patient.root / tree / "chosen/power/max_current").read_bytes()
        except OSError:
            continue
        milliamperes = int.from_bytes(raw, "big")
        if milliamperes >= FULL_SUPPLY_MILLIAMPERES:
            return Finding("power supply", "ok", f"{milliamperes / 1000:g} A")
        return Finding(
            "power supply",
            "warning",
            f"promises {milliamperes / 1000:g} A, the board wants 5 A",
            "USB devices get little power, and under load the voltage may fall",
            "take the official 27 W supply",
        )
    return None


def cooling(patient: Patient) -> Finding | None:
    """A Pi 5 without a fan throttles within minutes of decoding."""
    if not (patient.machine.board_id or "").startswith(HAS_FAST_MEMORY):
        return None
    kinds = [
        files.text(p)
        for p in sorted((patient.root / "sys/class/thermal").glob("cooling_device*/type"))
    ]
    if any(kind and "fan" in kind for kind in kinds):
        return Finding("cooling", "ok", "a fan is connected")
    return Finding(
        "cooling",
        "note",
        "no fan is connected",
        "long answers may throttle the board",
        "add the Active Cooler, then see pitool bench --sustained 10m",
    )


def bootloader(patient: Patient) -> Finding | None:
    """Newer bootloaders set the memory up better."""
    date = bootloader_date(patient.root)
    if date is None:
        return None
    pi5 = (patient.machine.board_id or "").startswith(HAS_FAST_MEMORY)
    if not pi5 or date >= FAST_MEMORY_BOOTLOADER:
        return Finding("bootloader", "ok", date)
    return Finding(
        "bootloader",
        "warning",
        f"of {date}",
        "decode is about 8 % slower than with one of 2024-12 or later",
        "sudo apt update && sudo apt install rpi-eeprom && sudo rpi-eeprom-update -a, then reboot",
    )


CHECKS: tuple[Check, ...] = (
    governor,
    clock,
    temperature,
    throttling,
    supply,
    cooling,
    bootloader,
)
