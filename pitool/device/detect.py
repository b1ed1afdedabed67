"""Says which machine this is: a known board, or a generic one with its CPU and memory.

The device tree names a board best (``compatible``, then ``model``), the revision code of
``/proc/cpuinfo`` else. A board that the recipes do not know is generic, not an error.
"""

from __future__ import annotations

import datetime
import os
import platform
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pitool.catalog.boards import Board, boards
from pitool.device import files, memory

MIB = 1024 * 1024

# The kernel's names for what the recipes call by a shorter one.
ARM_FEATURES = {
    "asimd": "neon",
    "neon": "neon",
    "crc32": "crc",
    "asimdhp": "fp16",
    "asimddp": "dotprod",
    "i8mm": "i8mm",
    "sve": "sve",
}
X86_FEATURES = ("avx", "f16c", "fma", "avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16")

# Revision codes: raspberrypi/documentation, "new-style" codes.
NEW_STYLE = 1 << 23
TYPE_SHIFT, TYPE_MASK = 4, 0xFF
MEMORY_SHIFT, MEMORY_MASK = 20, 0x7
SMALLEST_MEMORY_MIB = 256
LARGEST_MEMORY_CODE = 6

_CACHE_SIZE = re.compile(r"\d{1,9}[KM]")


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine as pitool sees it; memory in bytes, None where unknown.

    ``board_id``: key of the recipes, None for a generic machine; ``cores``: those this process may
    use; ``physical_cores``: the same without hyperthreads; ``userland_bits``: of this Python, which
    may be 32 on a 64-bit kernel; ``mem_available``: what a new process may take.
    """

    board_id: str | None
    board_name: str
    arch: str
    cores: int
    physical_cores: int
    features: tuple[str, ...]
    page_kib: int | None
    userland_bits: int
    mem_total: int | None
    mem_available: int | None
    swap_total: int | None


def detect(root: Path = files.HOST) -> Machine:
    """Return the machine whose ``/proc`` and ``/sys`` lie below ``root``."""
    processors, common = _cpuinfo(root)
    first = processors[0] if processors else {}
    arch = _arch(root, first)
    mem_total = memory.total(root)
    revision = _revision(common)
    model = _model(root, common)
    board_id = _board_id(root, revision, model, mem_total)
    cpus = _usable_cpus(root, processors)
    return Machine(
        board_id=board_id,
        board_name=model or (boards()[board_id].name if board_id else f"generic {arch}"),
        arch=arch,
        cores=len(cpus),
        physical_cores=_physical_cores(root, cpus, processors),
        features=_features(first),
        page_kib=_page_kib(root),
        userland_bits=struct.calcsize("P") * 8,
        mem_total=mem_total,
        mem_available=memory.available(root),
        swap_total=memory.swap_total(root),
    )


def bootloader_date(root: Path = files.HOST) -> str | None:
    """Return the build date of the EEPROM's bootloader as YYYY-MM-DD; a Pi 4 or 5 has one."""
    for tree in ("proc/device-tree", "sys/firmware/devicetree/base"):
        path = root / tree / "chosen/bootloader/build-timestamp"
        try:
            (seconds,) = struct.unpack(">I", path.read_bytes())
        except (OSError, struct.error):
            continue
        return datetime.datetime.fromtimestamp(seconds, datetime.UTC).date().isoformat()
    return None


def cache_bytes(root: Path = files.HOST) -> int | None:
    """Return the size of the first CPU's largest cache; None where Linux does not show it."""
    folder = root / "sys/devices/system/cpu/cpu0/cache"
    texts = [files.text(path) or "" for path in folder.glob("index*/size")]
    sizes = [int(t[:-1]) << {"K": 10, "M": 20}[t[-1]] for t in texts if _CACHE_SIZE.fullmatch(t)]
    return max(sizes, default=None)


def cpu_name(root: Path = files.HOST) -> str:
    """Return what the CPU calls itself; a Raspberry Pi's says nothing, its board does."""
    processors, common = _cpuinfo(root)
    first = processors[0] if processors else {}
    return first.get("model name") or _model(root, common) or platform.machine()


def _cpuinfo(root: Path) -> tuple[list[dict[str, str]], dict[str, str]]:
    """Return the block of each processor, and the lines that belong to none (Revision, Model)."""
    processors: list[dict[str, str]] = []
    common: dict[str, str] = {}
    for block in (files.text(root / "proc/cpuinfo") or "").split("\n\n"):
        pairs = (line.partition(":") for line in block.splitlines())
        entries = {key.strip(): value.strip() for key, colon, value in pairs if colon}
        if "processor" in entries:
            processors.append(entries)
        else:
            common |= entries
    return processors, common


def _revision(common: dict[str, str]) -> int | None:
    """Return a new-style revision code; the old style is older than any board that pitool knows."""
    try:
        code = int(common.get("Revision", ""), 16)
    except ValueError:
        return None
    return code if code & NEW_STYLE else None


def _model(root: Path, common: dict[str, str]) -> str | None:
    for tree in ("proc/device-tree", "sys/firmware/devicetree/base"):
        model = files.text(root / tree / "model")
        if model:
            return model
    return common.get("Model")


def _board_id(
    root: Path, revision: int | None, model: str | None, mem_total: int | None
) -> str | None:
    """Return the recipes' key of this board, or None."""
    code = None if revision is None else revision >> TYPE_SHIFT & TYPE_MASK
    known = boards()
    candidates = (
        [key for key, board in known.items() if _compatible(root).intersection(board.compatible)]
        or ([named] if (named := board_named(model or "")) else [])
        or [key for key, board in known.items() if code in board.revision_types]
    )
    if not candidates:
        return None
    ram_mib = _ram_mib(revision, mem_total)
    return min(candidates, key=lambda key: _ram_distance(known[key], ram_mib))


def _compatible(root: Path) -> set[str]:
    for tree in ("proc/device-tree", "sys/firmware/devicetree/base"):
        names = files.text(root / tree / "compatible")
        if names:
            return set(names.split("\0"))
    return set()


def board_named(model: str) -> str | None:
    """Return the board that a model text such as ``Raspberry Pi 5 Model B Rev 1.0`` begins with."""
    known, text = boards(), model.replace(" Plus", "+") + " "
    matches = [key for key, board in known.items() if text.startswith(board.name + " ")]
    return max(matches, key=lambda key: len(known[key].name), default=None)


def _ram_mib(revision: int | None, mem_total: int | None) -> float | None:
    """Return the installed RAM as the revision code says, or what Linux manages of it."""
    if revision is not None:
        code = revision >> MEMORY_SHIFT & MEMORY_MASK
        if code <= LARGEST_MEMORY_CODE:
            return SMALLEST_MEMORY_MIB << code
    return None if mem_total is None else mem_total / MIB


def _ram_distance(board: Board, ram_mib: float | None) -> float:
    """Return how far this RAM is from a size of the board, to tell apart boards of one name."""
    if ram_mib is None:
        return 0
    return min(abs(ram.mem_total_mib - ram_mib) for ram in board.ram)


def _arch(root: Path, processor: dict[str, str]) -> str:
    """Return the machine as ``uname -m`` names it."""
    if root == files.HOST:
        return platform.machine() or "unknown"
    said = files.text(root / "proc/sys/kernel/arch")
    if said:
        return said
    if "flags" in processor:
        return "x86_64" if "lm" in processor["flags"].split() else "i686"
    if "Features" in processor:
        return "aarch64" if "asimd" in processor["Features"].split() else "armv7l"
    return "unknown"


def _features(processor: dict[str, str]) -> tuple[str, ...]:
    """Return what the kernels of an engine may use, in a fixed order."""
    flags = set(f"{processor.get('flags', '')} {processor.get('Features', '')}".split())
    arm = dict.fromkeys(name for flag, name in ARM_FEATURES.items() if flag in flags)
    return (*arm, *(flag for flag in X86_FEATURES if flag in flags))


def _usable_cpus(root: Path, processors: list[dict[str, str]]) -> list[int]:
    """Return the numbers of the CPUs that this process may run on; never none."""
    if root == files.HOST:
        if hasattr(os, "sched_getaffinity"):
            return sorted(os.sched_getaffinity(0))
        return list(range(os.cpu_count() or 1))
    return [int(p["processor"]) for p in processors if p["processor"].isdecimal()] or [0]


def _physical_cores(root: Path, cpus: Iterable[int], processors: list[dict[str, str]]) -> int:
    """Return how many cores carry these CPUs: hyperthreads of one core count once."""
    cores = {p["processor"]: (p["physical id"], p["core id"]) for p in processors if "core id" in p}
    system = root / "sys/devices/system/cpu"
    seen: set[object] = set()
    for cpu in cpus:
        siblings = files.text(system / f"cpu{cpu}/topology/thread_siblings_list")
        seen.add(siblings or cores.get(str(cpu)) or cpu)
    return len(seen)


def _page_kib(root: Path) -> int | None:
    """Return the page size; in a recorded tree it is the one that a memory map was made with."""
    if root == files.HOST:
        return os.sysconf("SC_PAGE_SIZE") // 1024
    size = files.sizes(root / "proc/self/smaps").get("KernelPageSize")
    return None if size is None else size // 1024
