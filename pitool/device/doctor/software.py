"""Checks of the system, the runtimes and the cores that they may use."""

from __future__ import annotations

import subprocess
import sys

from pitool.catalog import versions
from pitool.device.doctor.finding import Finding, System
from pitool.device.settings import board_threads
from pitool.report.numbers import format_share

# A clock before the year of this release was never set.
THIS_YEAR = 2026
REINSTALL = "push the .pi again, or run ./install.sh again in a clone"
_ASK_BACKEND = """
from pitool.engine.llamacpp.library import describe_cpu, load_backends
load_backends()
print(describe_cpu())
"""


def userland(system: System) -> Finding:
    """A 32-bit system runs neither engine."""
    bits = system.machine.userland_bits
    if bits == 64:
        return Finding("userland", "ok", "64-bit")
    return Finding(
        "userland",
        "fault",
        f"{bits}-bit",
        "llama.cpp's fast kernels and onnxruntime need 64 bits",
        "install Raspberry Pi OS (64-bit) with Raspberry Pi Imager",
    )


def board(system: System) -> Finding:
    """Which board this is."""
    name = system.machine.board_name
    if system.board:
        return Finding("board", "ok", name)
    return Finding(
        "board",
        "note",
        f"{name} is not a known board",
        "no speeds are predicted for it",
        "run pitool bench to measure them",
    )


def page_size(system: System) -> Finding | None:
    """Pages of 16 KiB are what a Pi 5 has by default; both sizes are served."""
    size = system.machine.page_kib
    return Finding("page size", "ok", f"{size} KiB") if size else None


def backend(system: System) -> Finding:
    """The loaded kernels must use what the CPU has; asked in a process that may crash."""
    try:
        answer = system.run([sys.executable, "-P", "-c", _ASK_BACKEND]).strip()
    except (OSError, subprocess.SubprocessError) as error:
        code = getattr(error, "returncode", None)
        died = "built for a newer CPU" if code in (-4, 132) else "does not load"
        return Finding("llama.cpp", "fault", died, "GGUF artifacts cannot run", REINSTALL)
    if "dotprod" in system.machine.features and "DOTPROD" not in answer.upper():
        return Finding(
            "llama.cpp",
            "warning",
            "built without dotprod, which this CPU has",
            "prefill takes about twice as long",
            "push a .pi, or run pitool wheel on the host and ./install.sh --wheel FILE on the"
            " board",
        )
    return Finding("llama.cpp", "ok", answer or "loads")


def onnx_runtime(system: System) -> Finding:
    """ONNX artifacts need onnxruntime; asked in a process that may crash."""
    try:
        system.run([sys.executable, "-P", "-c", "import onnxruntime"])
    except (OSError, subprocess.SubprocessError):
        return Finding(
            "onnxruntime", "warning", "does not load", "ONNX artifacts cannot run", REINSTALL
        )
    return Finding("onnxruntime", "ok", versions.installed("onnxruntime") or "loads")


def software(_system: System) -> Finding:
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
        f"the engine needs llama-cpp-python {wanted} and may crash with another version",
        REINSTALL,
    )


def threads(system: System) -> Finding:
    """What a model runs on where nothing was tuned, and whether every core may be used."""
    decode, prefill = board_threads(system.machine)
    found = f"decode on {decode}, prefill on {prefill}"
    cores = system.board.cores if system.board else _present_cores(system)
    if not cores or prefill >= cores:
        return Finding("threads", "ok", found)
    return Finding(
        "threads",
        "warning",
        f"{found} of {cores} cores",
        f"prefill runs at {format_share(prefill / cores)} of its full speed",
        "remove isolcpus= and maxcpus= from /boot/firmware/cmdline.txt, and CPU limits from the"
        " service or container",
    )


def _present_cores(system: System) -> int | None:
    """Return how many CPUs the kernel found, such as 4 for ``0-3``."""
    first, _, last = (system.text("sys/devices/system/cpu/present") or "").partition("-")
    return int(last) + 1 if first == "0" and last.isdecimal() else None


def time_set(system: System) -> Finding:
    """A board without a battery wakes up in the past until the network tells the time."""
    if system.today.year >= THIS_YEAR:
        return Finding("time", "ok", system.today.isoformat())
    return Finding(
        "time",
        "warning",
        f"the clock is set to {system.today.isoformat()}",
        "downloads fail with certificate errors, and the history gets wrong dates",
        "sudo timedatectl set-ntp true",
    )
