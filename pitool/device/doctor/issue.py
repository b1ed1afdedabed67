"""What an issue needs to know of a machine, as Markdown: versions, board, findings, the log's end.

Nothing is removed here.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence

from pitool import __version__
from pitool.catalog import versions
from pitool.device.detect import Machine, cpu_name
from pitool.device.doctor.finding import Finding
from pitool.report.numbers import format_bytes

PACKAGES = ("llama-cpp-python", "onnxruntime", "numpy", "tokenizers", "textual")


def describe(machine: Machine, findings: Sequence[Finding], log: str) -> str:
    """Return the sections of a report; ``log``: the end of the log, or a word in its place."""
    sections = {
        "Versions": _versions(),
        "Machine": _machine(machine),
        "Findings of pitool doctor": [_finding(finding) for finding in findings],
        "End of the log": [f"    {line}" for line in log.splitlines()],
    }
    return "\n".join(
        f"## {title}\n\n" + "".join(f"{line}\n" for line in lines)
        for title, lines in sections.items()
    )


def _versions() -> list[str]:
    names = (f"{name} {versions.installed(name) or 'missing'}" for name in PACKAGES)
    return [
        f"- pitool {__version__}, Python {platform.python_version()}",
        f"- {', '.join(names)}",
        f"- {_system()}, kernel {platform.release()}",
    ]


def _system() -> str:
    if sys.platform == "darwin":
        return f"macOS {platform.mac_ver()[0]}"
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()


def _machine(machine: Machine) -> list[str]:
    def size(count: int | None) -> str:
        return "unknown" if count is None else format_bytes(count)

    board = machine.board_id or "not a known board"
    cores = f"{machine.cores} cores ({machine.physical_cores} physical)"
    free, swap = size(machine.mem_available), size(machine.swap_total)
    return [
        f"- {machine.board_name} ({board}), {cpu_name()}",
        f"- {machine.arch}, {machine.userland_bits}-bit userland, {cores}",
        f"- CPU features: {', '.join(machine.features) or 'unknown'}",
        f"- pages of {machine.page_kib or '?'} KiB",
        f"- memory {size(machine.mem_total)}, {free} available, swap {swap}",
    ]


def _finding(finding: Finding) -> str:
    more = "; ".join(part for part in (finding.cost, finding.fix) if part)
    return f"- {finding.severity}: {finding.check}: {finding.found}" + (
        f" ({more})" if more else ""
    )
