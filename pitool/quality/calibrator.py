"""The engine that an importance matrix is collected with."""

from __future__ import annotations

from pathlib import Path

from pitool.engine import worker
from pitool.engine.base import Settings
from pitool.quality.windows import WINDOW

BATCH = 128


def open_calibrator(path: Path, threads: int) -> worker.WorkerEngine:
    """Load a GGUF in a worker that sums squared activations, with room for a window."""
    settings = Settings(
        WINDOW, threads, threads, micro_batch=BATCH, outputs=BATCH, kv_type="f32", collect=True
    )
    return worker.start("gguf", path, settings)
