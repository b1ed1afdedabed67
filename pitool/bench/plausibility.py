"""Can a decode rate be true, and if it is low, why: the memory's ceiling and the prediction.

Decoding reads every streamed weight once a token, so bytes times tokens/s cannot be more than the
memory gives. Below 80 % of what was predicted the usual reasons are checked one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pitool.bench.conditions import Condition, conditions
from pitool.bench.run import Result
from pitool.bench.subject import Subject
from pitool.device.detect import Machine
from pitool.engine.base import ModelInfo
from pitool.spec.boards import Board, boards

LOW = 0.80
# A figure above the ceiling by more than this is a fault of the measurement or of the table.
IMPOSSIBLE = 1.10


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of one decode test: GB/s of weights read, its share of the bandwidth, of the prediction.

    Shares are None where the bandwidth or the prediction is unknown. ``reasons``: found to hold;
    ``checked``: names of all that were looked at, empty when the rate is as predicted.
    """

    read_gbs: float | None
    ceiling_share: float | None
    predicted_share: float | None
    reasons: tuple[str, ...] = ()
    checked: tuple[str, ...] = ()

    @property
    def lines(self) -> list[str]:
        """What is to be said of it."""
        said = []
        if self.read_gbs is not None:
            share = ""
            if self.ceiling_share is not None:
                share = f", {self.ceiling_share:.0%} of what the memory gives"
            said.append(f"decode reads {self.read_gbs:.1f} GB/s of weights{share}")
        if self.ceiling_share is not None and self.ceiling_share > IMPOSSIBLE:
            said.append(
                "that is more than possible: the board or the bandwidth is not what it says"
            )
        if self.predicted_share is not None:
            said.append(f"decode is at {self.predicted_share:.0%} of the prediction")
        if self.checked:
            found = "; ".join(self.reasons) or "none of the usual reasons holds"
            said.append(f"why: {found} (checked: {', '.join(self.checked)})")
        return said


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a reason is looked for in."""

    info: ModelInfo
    machine: Machine
    board: Board | None
    conditions: Sequence[Condition]


def assess(result: Result, subject: Subject) -> Verdict | None:
    """Return the verdict on a test; None on one that is not decode at an empty context."""
    workload = result.workload
    if not result.samples_ns or workload.prompt or workload.depth:
        return None
    machine = subject.machine
    board = boards().get(machine.board_id or "") if machine else None
    streamed, predicted = subject.streamed_bytes, subject.predicted(workload)
    read = streamed * result.avg_ts / 1e9 if streamed else None
    ceiling = read / board.bandwidth_gbs if read is not None and board else None
    share = result.avg_ts / predicted if predicted else None
    if machine is None or share is None or share >= LOW:
        return Verdict(read, ceiling, share)
    around = Circumstances(result.info, machine, board, conditions(result.looks))
    found = tuple(reason for check in CHECKS.values() if (reason := check(around)))
    return Verdict(read, ceiling, share, found, tuple(CHECKS))


def _no_dotprod(around: Circumstances) -> str | None:
    if "dotprod" in around.machine.features and "DOTPROD" not in around.info.backend.upper():
        return "the runtime was built without dotprod, which this CPU has: run ./install.sh again"
    return None


def _seen(problem: str, sentence: str) -> Callable[[Circumstances], str | None]:
    def check(around: Circumstances) -> str | None:
        return sentence if any(problem in c.problems for c in around.conditions) else None

    return check


def _threads(around: Circumstances) -> str | None:
    used = around.info.settings.decode_threads
    if around.board and used > around.board.decode_threads:
        best = around.board.decode_threads
        return f"{used} threads decode, {best} are the best on this board: pitool tune"
    return None


def _clock(around: Circumstances) -> str | None:
    clocks = [c.clock_after for c in around.conditions if c.clock_after is not None]
    if around.board and clocks and max(clocks) < 0.95 * around.board.clock_mhz:
        return f"the clock was at {max(clocks):.0f} of {around.board.clock_mhz} MHz"
    return None


CHECKS: dict[str, Callable[[Circumstances], str | None]] = {
    "dotprod": _no_dotprod,
    "throttling": _seen("throttled", "the board was throttled"),
    "under-voltage": _seen("under-voltage", "the power supply is too weak"),
    "clock": _clock,
    "swapping": _seen("swapping", "the model did not fit into the free memory"),
    "other processes": _seen("other processes at work", "other processes took the CPU"),
    "threads": _threads,
}
