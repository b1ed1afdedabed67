"""The board's state, looked at once every few seconds however often it is asked for."""

from __future__ import annotations

import time
from typing import Any

from pitool.device.monitor import Monitor, Sample
from pitool.serve.pump import in_thread

# A look starts a process on a board, which takes a core from the model.
LOOK_SECONDS = 5.0


class Board:
    """Temperature, throttling and memory of this machine."""

    def __init__(self) -> None:
        self._monitor: Monitor | None = None
        self._sample: Sample | None = None
        self._looked = 0.0

    async def sample(self) -> Sample:
        """Return what was seen in the last seconds."""
        now = time.monotonic()
        if self._sample is None or now - self._looked >= LOOK_SECONDS:
            self._looked = now
            self._sample = await in_thread(self._look)
        return self._sample

    def _look(self) -> Sample:
        if self._monitor is None:
            self._monitor = Monitor()
        return self._monitor.look()


def board_json(sample: Sample) -> dict[str, Any]:
    """Return what a client is told: °C, MHz, bytes; ``throttled``: now; None where unknown."""
    now, before = sample.throttled_now, sample.throttled_since_boot
    return {
        "temperature_c": sample.temperature_c,
        "clock_mhz": sample.clock_mhz,
        "throttled": None if now is None else list(now),
        "throttled_since_boot": None if before is None else list(before),
        "available_bytes": sample.available_bytes,
        "swap_used_bytes": sample.swap_used_bytes,
        "worker_bytes": sample.worker_bytes,
        "cpu": sample.cpu,
    }
