"""The checks of a board; see ``doctor``."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from pitool.catalog import versions
from pitool.catalog.bundles import home
from pitool.device import doctor_memory, doctor_power
from pitool.device.doctor import Check, Finding, Patient
from pitool.device.settings import board_threads
from pitool.report.numbers import format_bytes, format_seconds, format_share

LEAST_FREE = 2_000_000_000
# Bytes/s below which a disk is said to be slow: cards read 20 to 90 MB/s.
SLOW_READ = 150e6
LARGE_MODEL = 2_000_000_000
REINSTALL = "push the .pi again, or in a clone run ./install.sh again"
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
        return Finding("llama.cpp", "fault", died, "GGUF artifacts cannot run", REINSTALL)
    if "dotprod" in patient.machine.features and "DOTPROD" not in answer.upper():
        return Finding(
            "llama.cpp",
            "warning",
            "built without dotprod, which this CPU has",
            "prefill takes about twice as long",
            "push a .pi, or pitool wheel on the host and ./install.sh --wheel FILE here",
        )
    return Finding("llama.cpp", "ok", answer or "loads")


def onnx_runtime(patient: Patient) -> Finding:
    """ONNX artifacts need onnxruntime; asked in a process that may crash."""
    try:
        patient.run([sys.executable, "-c", "import onnxruntime"])
    except (OSError, subprocess.SubprocessError):
        return Finding(
            "onnxruntime", "warning", "it does not load", "ONNX artifacts cannot run", REINSTALL
        )
    return Finding("onnxruntime", "ok", versions.installed("onnxruntime") or "loads")


def software(_patient: Patient) -> Finding:
    """The engine uses the structures of exactly one version of llama.cpp."""
    names = ("pitool", "llama-cpp-python", "onnxruntime")
    known = [f"{name} {versions.installed(name) or 'missing'}" for name in names]
    found = ", ".join([*known, f"Python {sys.version.split()[0]}"])
    wanted, there = versions.pinned("llama-cpp-python"), versions.installed("llama-cpp-python")
    if there in (None, wanted):  # what is missing altogether is another check's finding
        return Finding("versions", "ok", found)
    return Finding(
        "versions",
        "fault",
        found,
        f"the engine is made for llama-cpp-python {wanted} and may crash with another",
        REINSTALL,
    )


def threads(patient: Patient) -> Finding:
    """What a model runs on where nothing was tuned, and whether every core may be used."""
    decode, prefill = board_threads(patient.machine)
    found = f"decode on {decode}, prefill on {prefill}"
    cores = patient.board.cores if patient.board else _present_cores(patient)
    if not cores or prefill >= cores:
        return Finding("threads", "ok", found)
    return Finding(
        "threads",
        "warning",
        f"{found} of {cores} cores",
        f"prefill at {format_share(prefill / cores)} of its speed",
        "take isolcpus= and maxcpus= out of /boot/firmware/cmdline.txt, and CPU limits off"
        " the service or container",
    )


def _present_cores(patient: Patient) -> int | None:
    """Return how many CPUs the kernel found, such as 4 for ``0-3``."""
    first, _, last = (patient.text("sys/devices/system/cpu/present") or "").partition("-")
    return int(last) + 1 if first == "0" and last.isdecimal() else None


def storage(patient: Patient) -> Finding | None:
    """From what the models are read, and how fast."""
    device, speed = _device_of(patient, home()), patient.read_speed()
    if device is None:
        return None
    kinds = {"mmcblk": "an SD card or eMMC", "nvme": "an NVMe disk", "sd": "a USB or SATA disk"}
    kind = next((text for start, text in kinds.items() if device.startswith(start)), device)
    found = f"models lie on {kind}" + (f", read at {format_bytes(speed)}/s" if speed else "")
    slow = device.startswith("mmcblk") if speed is None else speed < SLOW_READ
    if not slow:
        return Finding("storage", "ok", found)
    seconds = format_seconds(LARGE_MODEL / speed) if speed else "about half a minute"
    return Finding(
        "storage",
        "note",
        found,
        f"a model of {format_bytes(LARGE_MODEL)} takes {seconds} to load cold",
        "move ~/.local/share/pitool to an NVMe or USB 3 disk and name it in PITOOL_HOME",
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
    onnx_runtime,
    software,
    threads,
    *doctor_power.CHECKS,
    *doctor_memory.CHECKS,
    storage,
    free_space,
    time_set,
)
