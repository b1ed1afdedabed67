"""What was measured, and what is known of it: file, plan, peak, prediction and versions."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pitool.bench.run import Workload
from pitool.catalog.boards import boards
from pitool.catalog.bundles import Runnable
from pitool.catalog.manifest import Speed
from pitool.device import detect, memory, probe
from pitool.device.detect import Machine
from pitool.device.settings import worker_bytes
from pitool.engine.base import Settings
from pitool.planning.formats import find_format


@dataclass(frozen=True, slots=True)
class MeasuredArtifact:
    """``planned_memory`` and ``peak_memory`` of the worker in bytes, None is unknown.

    ``bundle``: its name, None for a loose file; ``versions``: by package name; ``board``: what
    the machine calls itself; ``firmware``: the bootloader's date; ``sha256``: of the artifact's
    first file, from the manifest; ``speed``: predicted for this board; ``streamed_bytes``: of
    weights that decoding a token reads; ``read_gbs``: the memory's bandwidth as
    measured on this machine; ``cache_bytes``: of the CPU's largest cache.
    """

    file: Path
    bundle: str | None
    quantisation: str
    planned_memory: int | None
    peak_memory: int | None
    versions: Mapping[str, str] = field(default_factory=dict)
    board: str = ""
    cpu: str = ""
    kernel: str = ""
    firmware: str | None = None
    sha256: str | None = None
    speed: Speed | None = None
    machine: Machine | None = None
    streamed_bytes: int | None = None
    read_gbs: float | None = None
    cache_bytes: int | None = None

    def predicted(self, workload: Workload) -> float | None:
        """Return the predicted tokens/s of a test at an empty context, None for any other."""
        if self.speed is None or workload.depth or (workload.prompt and workload.generate):
            return None
        return self.speed.decode if workload.generate else self.speed.prefill


def describe(runnable: Runnable, settings: Settings, pid: int | None) -> MeasuredArtifact:
    """Return what runs with ``settings``, in process ``pid``; a loose ONNX folder has no plan."""
    artifact = runnable.artifact
    machine = detect.detect()
    probed = probe.find(machine)
    form = find_format(runnable.format)
    packages = ("pitool", form.package)
    return MeasuredArtifact(
        file=runnable.entry,
        bundle=runnable.name if artifact else None,
        quantisation=runnable.quantisation,
        planned_memory=planned_memory(runnable, settings),
        peak_memory=None if pid is None else memory.peak_rss(pid),
        versions={name: found for name in packages if name and (found := _version(name))},
        board=machine.board_name,
        cpu=detect.cpu_name(),
        firmware=detect.bootloader_date(),
        kernel=f"{platform.system()} {platform.release()}",
        sha256=artifact.files[0].sha256 if artifact else None,
        speed=predicted_speed(runnable, machine),
        machine=machine,
        streamed_bytes=form.streamed_bytes(runnable.entry),
        read_gbs=probed.read_gbs if probed else None,
        cache_bytes=detect.cache_bytes(),
    )


def planned_memory(runnable: Runnable, settings: Settings) -> int | None:
    """Return the bytes that the worker is planned to hold; None of an ONNX folder on its own."""
    planned = runnable.artifact is not None or find_format(runnable.format).planned_by_header
    return worker_bytes(runnable, settings) if planned else None


def predicted_speed(runnable: Runnable, machine: Machine) -> Speed | None:
    """Return the manifest's prediction for this board; where it has none, the format's."""
    key = machine.board_id or ""
    for speed in runnable.artifact.speed if runnable.artifact else ():
        if speed.board == key:
            return speed
    board = boards().get(key)
    if board is None:
        return None
    return find_format(runnable.format).speed_of(runnable.entry, key, board)


def title(bundle: str | None, file: str, quantisation: str) -> str:
    """Return a bundle's name, else a file's, and the quantisation where the name lacks it."""
    name = bundle or file.rpartition("/")[2].removesuffix(".gguf")
    return name if name.endswith(quantisation) else f"{name} {quantisation}"


def title_of(runnable: Runnable) -> str:
    """Return what people call an artifact."""
    bundle = runnable.name if runnable.artifact else None
    return title(bundle, str(runnable.entry), runnable.quantisation)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
