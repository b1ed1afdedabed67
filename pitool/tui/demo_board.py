"""A board for the demonstration: invented samples and findings, the same every time."""

from __future__ import annotations

from pitool.device.doctor.finding import Finding
from pitool.device.monitor import Sample
from pitool.device.sensor_history import SensorHistory

MEMORY = 1_243_000_000


def sensors() -> SensorHistory:
    """Return ten minutes of a board that answered and became too hot."""
    steps = iter([*range(121)])
    at = 0

    def look() -> Sample:
        nonlocal at
        at = next(steps, at)  # the last one again and again: a picture stays as it is
        return _sample(at)

    made = SensorHistory(look, lambda: list(FINDINGS))
    for step in range(120):
        made.take(7.9 - 2.1 * _hot(step) if _answers(step) else 0.0)
    return made


def _answers(step: int) -> bool:
    return 20 <= step < 90


def _hot(step: int) -> bool:
    return 70 <= step < 90


def _sample(step: int) -> Sample:
    busy = min(max(step - 20, 0), 70) - 1.5 * max(step - 90, 0)
    flags = ("throttled",) if _hot(step) else ()
    return Sample(
        time=1_790_000_000.0 + 5 * step,
        available_bytes=2_600_000_000 - (MEMORY if step >= 12 else 0),
        swap_used_bytes=0,
        worker_bytes=MEMORY if step >= 12 else None,
        cpu=0.97 if _answers(step) else 0.02,
        temperature_c=48.0 + max(busy, 0) * 0.5,
        clock_mhz=1500.0 if _hot(step) else 2400.0 if _answers(step) else 1500.0,
        throttled_now=flags,
        throttled_since_boot=flags or (("throttled",) if step >= 70 else ()),
    )


FINDINGS = (
    Finding(
        "cooling",
        "warning",
        "the board was throttled since boot",
        "decode loses a third while it is too hot",
        "mount the active cooler, or: sudo dtparam cooling_fan=on",
    ),
    Finding(
        "page cache",
        "note",
        "swap is on a microSD card",
        "a model that swaps there decodes hundreds of times slower",
        "sudo swapoff /var/swap",
    ),
    Finding("power", "ok", "no under-voltage since boot"),
    Finding("CPU", "ok", "dotprod is there and the runtime uses it"),
)
