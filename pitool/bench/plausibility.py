"""Whether a decode speed is possible, and why it is low: memory bandwidth and the prediction.

Decoding reads every streamed weight once per token, so bytes times tokens/s cannot exceed the
memory bandwidth. Below 80 % of the prediction the usual causes are checked one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pitool.bench.artifact import MeasuredArtifact
from pitool.bench.conditions import Condition, conditions
from pitool.bench.run import Result
from pitool.catalog.boards import Board, boards
from pitool.device.detect import Machine
from pitool.engine.base import ModelInfo
from pitool.planning.formats import ONNX, format_of_engine
from pitool.report.numbers import format_bandwidth, format_megahertz, format_share

LOW = 0.80
# A figure above the ceiling by more than this is a fault of the measurement or of the table.
IMPOSSIBLE = 1.10


@dataclass(frozen=True, slots=True)
class Assessment:
    """Of one decode test: GB/s of weights read, its share of the bandwidth, of the prediction.

    ``bandwidth_gbs``: measured on this machine, or else of the boards' table, as
    ``bandwidth_source`` says. Shares are None where the bandwidth or the prediction is unknown, and
    where the weights fit into the CPU's caches (``cached``). ``assumed``: the prediction
    is no more than an assumption. ``reasons``: found to hold;
    ``checked``: what does not hold or does, ``unchecked``: what this machine cannot tell; all
    empty when the rate is as predicted.
    """

    read_gbs: float | None
    bandwidth_gbs: float | None
    bandwidth_source: str
    ceiling_share: float | None
    predicted_share: float | None
    cached: bool = False
    assumed: bool = False
    reasons: tuple[str, ...] = ()
    checked: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()

    @property
    def lines(self) -> list[str]:
        """What is to be said of it."""
        return [*self._ceiling(), *self._prediction()]

    def _ceiling(self) -> list[str]:
        if self.read_gbs is None:
            return []
        said = f"decode reads {format_bandwidth(self.read_gbs)} of weights"
        if self.cached:
            return [f"{said}, which fit into the CPU's caches: memory bandwidth is not the limit"]
        if self.ceiling_share is None or self.bandwidth_gbs is None:
            return [f"{said}; the memory's bandwidth is unknown"]
        share, bandwidth = format_share(self.ceiling_share), format_bandwidth(self.bandwidth_gbs)
        said += f", {share} of the memory's {bandwidth} ({self.bandwidth_source})"
        if self.ceiling_share > IMPOSSIBLE:
            said += ": more than is possible, so the detected board or its bandwidth is wrong"
        return [said]

    def _prediction(self) -> list[str]:
        if self.predicted_share is None:
            return []
        said = [f"decode is at {format_share(self.predicted_share)} of the prediction"]
        if self.assumed:
            said.append(ONNX.assumed)
        if self.checked:
            found = "; ".join(self.reasons) or "not found"
            said.append(f"cause: {found} (checked: {', '.join(self.checked)})")
        if self.unchecked:
            said.append(f"cannot be checked on this machine: {', '.join(self.unchecked)}")
        return said


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a reason is looked for in."""

    info: ModelInfo
    machine: Machine
    board: Board | None
    firmware: str | None
    conditions: Sequence[Condition]


def assess(result: Result, about: MeasuredArtifact) -> Assessment | None:
    """Return the verdict on a test; None on one that is not decode at an empty context."""
    workload = result.workload
    if not result.samples_ns or workload.prompt or workload.depth:
        return None
    machine = about.machine
    board = boards().get(machine.board_id or "") if machine else None
    streamed, predicted = about.streamed_bytes, about.predicted(workload)
    read = streamed * result.avg_ts / 1e9 if streamed else None
    cached = bool(streamed and about.cache_bytes and streamed <= about.cache_bytes)
    bandwidth = about.read_gbs or (board.bandwidth_gbs if board else None)
    source = "measured here" if about.read_gbs else "usual for this board" if board else ""
    ceiling = read / bandwidth if read is not None and bandwidth and not cached else None
    share = result.avg_ts / predicted if predicted else None
    assumed = bool(format_of_engine(result.info.engine).assumed)
    known = (read, bandwidth, source, ceiling, share, cached, assumed)
    if machine is None or share is None or share >= LOW:
        return Assessment(*known)
    around = Circumstances(result.info, machine, board, about.firmware, conditions(result.looks))
    found = {name: check(around) for name, check in CHECKS.items()}
    return Assessment(
        *known,
        reasons=tuple(reason for reason in found.values() if reason),
        checked=tuple(name for name, reason in found.items() if reason is not None),
        unchecked=tuple(name for name, reason in found.items() if reason is None),
    )


Check = Callable[[Circumstances], str | None]
"""Returns the reason where it holds, an empty text where not, None where that is unknown."""


def _no_dotprod(around: Circumstances) -> str | None:
    if not format_of_engine(around.info.engine).names_kernels:
        return None
    if "dotprod" in around.machine.features and "DOTPROD" not in around.info.backend.upper():
        return "the runtime was built without dotprod, which this CPU has: run ./install.sh again"
    return ""


def _flagged(flags: dict[str, str]) -> Check:
    """Return a check of the firmware's flags: each with what it means."""

    def check(around: Circumstances) -> str | None:
        told = {flag for c in around.conditions for flag in c.throttled_told}
        seen = {flag for c in around.conditions for flag in c.throttled_now or ()}
        reasons = [sentence for flag, sentence in flags.items() if flag in seen]
        return ", ".join(reasons) if reasons or told & set(flags) else None

    return check


def _swapping(around: Circumstances) -> str | None:
    if all(c.swap_ins is None for c in around.conditions):
        return None
    swapped = any("swapping" in c.problems for c in around.conditions)
    return "the model did not fit into the free memory" if swapped else ""


def _others(around: Circumstances) -> str | None:
    if all(c.others is None for c in around.conditions):
        return None
    busy = any("other processes at work" in c.problems for c in around.conditions)
    return "other processes took the CPU" if busy else ""


def _threads(around: Circumstances) -> str | None:
    if around.board is None:
        return None
    used, best = around.info.settings.decode_threads, around.board.decode_threads
    if used <= best:
        return ""
    return f"decode uses {used} threads, {best} are best on this board: run pitool tune"


def _clock(around: Circumstances) -> str | None:
    clocks = [c.clock_after for c in around.conditions if c.clock_after is not None]
    if around.board is None or not clocks:
        return None
    if max(clocks) >= 0.95 * around.board.clock_mhz:
        return ""
    able = format_megahertz(around.board.clock_mhz)
    return f"the clock ran at {round(max(clocks))} of {able}"


def _bootloader(around: Circumstances) -> str | None:
    wanted = around.board.bootloader if around.board else None
    if wanted is None:
        return ""
    if around.firmware is None:
        return None
    if around.firmware >= wanted.since:
        return ""
    return f"the bootloader is from {around.firmware}: run sudo rpi-eeprom-update -a"


CHECKS: dict[str, Check] = {
    "dotprod": _no_dotprod,
    "throttling": _flagged(
        {
            "throttled": "the board was throttled",
            "frequency capped": "the firmware capped the clock",
            "soft temperature limit": "the clock was lowered because of heat",
        }
    ),
    "under-voltage": _flagged({"under-voltage": "the power supply is too weak"}),
    "clock": _clock,
    "swapping": _swapping,
    "other processes": _others,
    "threads": _threads,
    "bootloader": _bootloader,
}
