"""The checks of a board; see ``doctor``."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
from pathlib import Path

from pitool.device import files, memory
from pitool.device.detect import bootloader_date
from pitool.device.doctor import Check, Finding, Patient
from pitool.spec.bundles import home
from pitool.spec.memory import format_bytes

HOT_CELSIUS = 80.0
LEAST_FREE = 2_000_000_000
FULL_SUPPLY_MILLIAMPERES = 5000
# The first bootloader with SDRAM_BANKLOW (raspberrypi/rpi-eeprom, firmware-2712 release notes).
FAST_MEMORY_BOOTLOADER = "2024-12-01"
CPU = "sys/devices/system/cpu/cpu0/cpufreq"
_ASK_BACKEND = """
from pitool.engine.llamacpp.library import describe_cpu, load_backends
load_backends()
print(describe_cpu())
"""


def userland(patient: Patient) -> Finding:
    """A 32-bit system runs neither engine."""
    bits = patient.machine.userland_bits
    if bits == 64:
        return Finding("userland", "ok", "64-bit")
    return Finding(
        "userland",
        "fault",
        f"{bits}-bit",
        "neither llama.cpp's fast kernels nor onnxruntime exist for it",
        "write the 64-bit Raspberry Pi OS with Raspberry Pi Imager",
    )


def board(patient: Patient) -> Finding:
    """Which board this is."""
    name = patient.machine.board_name
    if patient.board:
        return Finding("board", "ok", name)
    return Finding(
        "board",
        "note",
        f"{name} is not in the table of boards",
        "speeds are not predicted for it",
        "pitool bench measures them",
    )


def page_size(patient: Patient) -> Finding | None:
    """Pages of 16 KiB are what a Pi 5 has by default; both sizes are served."""
    size = patient.machine.page_kib
    return Finding("page size", "ok", f"{size} KiB") if size else None


def backend(patient: Patient) -> Finding:
    """The loaded kernels must use what the CPU has; asked in a process that may crash."""
    try:
        answer = patient.run([sys.executable, "-c", _ASK_BACKEND]).strip()
    except (OSError, subprocess.SubprocessError) as error:
        code = getattr(error, "returncode", None)
        died = "it was built for a newer CPU" if code in (-4, 132) else "it does not load"
        return Finding(
            "llama.cpp", "fault", died, "GGUF artifacts cannot run", "run ./install.sh again"
        )
    if "dotprod" in patient.machine.features and "DOTPROD" not in answer.upper():
        return Finding(
            "llama.cpp",
            "warning",
            "built without dotprod, which this CPU has",
            "prefill takes about twice as long",
            "run ./install.sh again, or install pitool's own wheel",
        )
    return Finding("llama.cpp", "ok", answer or "loads")


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
        return Finding("clock", "ok", f"up to {allowed // 1000} MHz")
    return Finding(
        "clock",
        "warning",
        f"held at {allowed // 1000} of {able // 1000} MHz",
        f"prefill at {allowed / able:.0%} of its speed",
        f"echo {able} | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_max_freq",
    )


def temperature(patient: Patient) -> Finding | None:
    """Throttling begins at 80 °C."""
    degrees = patient.reading.temperature_c
    if degrees is None:
        return None
    if degrees < HOT_CELSIUS:
        return Finding("temperature", "ok", f"{degrees:.0f} °C")
    return Finding(
        "temperature",
        "warning",
        f"{degrees:.0f} °C",
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
    if not (patient.machine.board_id or "").startswith(("pi5", "cm5")):
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
    pi5 = (patient.machine.board_id or "").startswith(("pi5", "cm5"))
    if not pi5 or date >= FAST_MEMORY_BOOTLOADER:
        return Finding("bootloader", "ok", date)
    return Finding(
        "bootloader",
        "warning",
        f"of {date}",
        "decode is about 8 % slower than with one of 2024-12 or later",
        "sudo apt update && sudo apt install rpi-eeprom && sudo rpi-eeprom-update -a, then reboot",
    )


def swap(patient: Patient) -> Finding:
    """A model that swaps takes seconds a token; zram at least spares the card."""
    total = patient.machine.swap_total or 0
    names = (patient.text("proc/swaps") or "").splitlines()[1:]
    devices = [line.split()[0] for line in names if line.split()]
    if not total:
        return Finding(
            "swap",
            "note",
            "none",
            "what does not fit is killed at once",
            "leave it so for speed; sudo apt install rpi-swap adds compressed memory",
        )
    where = ", ".join(devices) or "somewhere"
    if all("zram" in device for device in devices) and devices:
        return Finding("swap", "ok", f"{format_bytes(total)} in compressed memory")
    return Finding(
        "swap",
        "note",
        f"{format_bytes(total)} on {where}",
        "a model that is swapped out decodes at seconds a token and wears the card",
        "keep models below what pitool plan allows",
    )


def locked_memory(_patient: Patient) -> Finding:
    """How much may be kept from swap by the load mode mlock."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if soft == resource.RLIM_INFINITY:
        return Finding("locked memory", "ok", "no limit")
    return Finding(
        "locked memory",
        "note",
        f"limited to {format_bytes(soft)}",
        "the load mode mlock cannot hold a model",
        "add '@users - memlock unlimited' to /etc/security/limits.conf and log in again",
    )


def storage(patient: Patient) -> Finding | None:
    """From what the models are read."""
    device = _device_of(patient, home())
    if device is None:
        return None
    kinds = {"mmcblk": "an SD card or eMMC", "nvme": "an NVMe disk", "sd": "a USB or SATA disk"}
    kind = next((text for start, text in kinds.items() if device.startswith(start)), device)
    if not device.startswith("mmcblk"):
        return Finding("storage", "ok", f"models lie on {kind}")
    return Finding(
        "storage",
        "note",
        f"models lie on {kind}",
        "a 2 GB model takes about half a minute to load cold",
        "an NVMe or USB 3 disk loads it five to ten times as fast",
    )


def _device_of(patient: Patient, path: Path) -> str | None:
    """Return the block device that a path lies on, from the mount table."""
    wanted = str(path.absolute())
    best, found = -1, None
    for line in (patient.text("proc/mounts") or "").splitlines():
        words = line.split()
        if len(words) < 2 or not words[0].startswith("/dev/"):
            continue
        point = words[1].rstrip("/")
        if (wanted == point or wanted.startswith(f"{point}/")) and len(point) > best:
            best, found = len(point), words[0].removeprefix("/dev/")
    return found


def free_space(_patient: Patient) -> Finding | None:
    """Room for another model."""
    folder = next((p for p in (home(), *home().parents) if p.is_dir()), None)
    if folder is None:
        return None
    free = shutil.disk_usage(folder).free
    if free >= LEAST_FREE:
        return Finding("free space", "ok", format_bytes(free))
    return Finding(
        "free space",
        "warning",
        f"{format_bytes(free)} where models lie",
        "a model of 1 to 2 GB may not fit",
        "pitool list, then pitool rm what is not needed",
    )


def free_memory(patient: Patient) -> Finding | None:
    """What other programs left."""
    total, available = patient.machine.mem_total, memory.available(patient.root)
    if not total or available is None:
        return None
    if available >= 0.6 * total:
        return Finding("memory", "ok", f"{format_bytes(available)} of {format_bytes(total)} free")
    return Finding(
        "memory",
        "note",
        f"only {format_bytes(available)} of {format_bytes(total)} free",
        "larger models do not fit beside what is running",
        "sudo systemctl set-default multi-user.target leaves the desktop away after a reboot",
    )


def time_set(patient: Patient) -> Finding:
    """A board without a battery wakes up in the past until the network tells the time."""
    if patient.today.year >= 2026:
        return Finding("time", "ok", patient.today.isoformat())
    return Finding(
        "time",
        "warning",
        f"the clock says {patient.today.isoformat()}",
        "downloads fail with certificate errors, and the history gets wrong dates",
        "sudo timedatectl set-ntp true",
    )


CHECKS: tuple[Check, ...] = (
    userland,
    board,
    page_size,
    backend,
    governor,
    clock,
    temperature,
    throttling,
    supply,
    cooling,
    bootloader,
    swap,
    locked_memory,
    storage,
    free_space,
    free_memory,
    time_set,
)
