"""Checks of a machine that converts models."""

from __future__ import annotations

import importlib.util
import shutil
import sys

from pitool.device.doctor.finding import Finding, System
from pitool.report.numbers import format_bytes

HOST_PACKAGES = ("gguf", "huggingface_hub", "ml_dtypes", "onnx", "safetensors")
EXPORT_PACKAGES = ("optimum", "torch", "transformers")
LITTLE_MEMORY = 4_000_000_000


def converter(_system: System) -> Finding:
    """What the native writers need."""
    missing = _missing(HOST_PACKAGES)
    if not missing:
        return Finding("converter", "ok", "all packages are installed")
    return Finding(
        "converter",
        "fault",
        f"{', '.join(missing)} missing",
        "pitool convert cannot run",
        "./install.sh --host",
    )


def export(_system: System) -> Finding:
    """What the architectures without a native writer need."""
    missing = _missing(EXPORT_PACKAGES)
    if not missing:
        return Finding("export", "ok", "torch, transformers and optimum are installed")
    return Finding(
        "export",
        "note",
        f"{', '.join(missing)} missing",
        "only families with native support can be converted",
        f"{sys.executable} -m pip install '.[export]' in the clone",
    )


def ssh(_system: System) -> Finding:
    """What the way to the board needs."""
    if shutil.which("ssh"):
        return Finding("ssh", "ok", "installed")
    return Finding(
        "ssh",
        "note",
        "no OpenSSH client",
        "a board cannot be reached over the network",
        "sudo apt install openssh-client",
    )


def cross_compiler(_system: System) -> Finding:
    """What ``pitool wheel`` needs."""
    if shutil.which("aarch64-linux-gnu-g++") or not _missing(("ziglang",)):
        return Finding("cross compiler", "ok", "installed")
    return Finding(
        "cross compiler",
        "note",
        "none for aarch64",
        "pitool wheel and pitool pack cannot build llama.cpp for a board",
        "sudo apt install g++-aarch64-linux-gnu, or without root"
        f" {sys.executable} -m pip install ziglang",
    )


def memory(system: System) -> Finding | None:
    """The writers stream; verifying holds the model once."""
    total = system.machine.mem_total
    if total is None:
        return None
    if total >= LITTLE_MEMORY:
        return Finding("memory", "ok", format_bytes(total))
    return Finding(
        "memory",
        "note",
        format_bytes(total),
        "models above 1.5 billion weights cannot be verified on this machine",
        "convert them on a larger machine",
    )


def _missing(packages: tuple[str, ...]) -> list[str]:
    return [name for name in packages if importlib.util.find_spec(name) is None]
