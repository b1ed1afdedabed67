"""What was measured, beside what the engine says of it: file, plan, peak and versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pitool.device.memory import peak_rss
from pitool.device.settings import planned_bytes
from pitool.engine.base import Settings
from pitool.spec.bundles import Runnable

PACKAGES = ("pitool", "llama-cpp-python")


@dataclass(frozen=True, slots=True)
class Subject:
    """``planned_memory`` and ``peak_memory`` in bytes, None is unknown.

    ``bundle``: its name, None for a loose file; ``versions``: by package name.
    """

    file: Path
    bundle: str | None
    quantisation: str
    planned_memory: int | None
    peak_memory: int | None
    versions: Mapping[str, str]


def describe(runnable: Runnable, settings: Settings, pid: int) -> Subject:
    """Return what runs with ``settings`` in process ``pid``; a loose file has no plan."""
    whole = runnable.artifact is not None
    return Subject(
        file=runnable.entry,
        bundle=runnable.name if whole else None,
        quantisation=runnable.quantisation,
        planned_memory=planned_bytes(runnable, settings) if whole else None,
        peak_memory=peak_rss(pid),
        versions={name: found for name in PACKAGES if (found := _version(name))},
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
