"""The engines of ``pitool convert``: workers for logits, importance matrices and texts."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from pitool.convert.engines import Calibrator, Engines, Loading, OpenEngine
from pitool.device.detect import detect
from pitool.engine import worker
from pitool.engine.base import Settings
from pitool.quality import calibration
from pitool.quality.health import LogitsEngine

BATCH = 128
# Flash attention and the usual cache round to float16.
EXACT = {"kv_type": "f32", "flash_attention": "off"}


def engines() -> Engines:
    """Return the engines of a conversion on this machine."""
    return Engines(open_engine, open_calibrator, write_text, open_with)


def open_engine(path: Path, tokens: int) -> AbstractContextManager[LogitsEngine]:
    """Load a GGUF file or an ONNX folder in a worker, with room for ``tokens`` tokens."""
    return open_with(Loading())(path, tokens)


def open_with(loading: Loading) -> OpenEngine:
    """Return a function that loads an artifact with its LoRAs, tokenized as is said."""

    def open_(path: Path, tokens: int) -> AbstractContextManager[LogitsEngine]:
        batch = min(tokens, BATCH)
        exact = EXACT if loading.exact else {}
        rows = {"micro_batch": batch, "outputs": batch}
        settings = _settings(tokens, **rows, **loading.settings, **exact)
        return _start(path, settings)

    return open_


def open_calibrator(path: Path) -> AbstractContextManager[Calibrator]:
    """Load a GGUF in a worker that sums squared inputs."""
    return calibration.open_calibrator(path, detect().physical_cores)


def write_text(path: Path, tokens: int, on_token: Callable[[int], None]) -> list[list[int]]:
    """Have the model of a GGUF write about ``tokens`` tokens; see ``quality.calibration``."""
    return calibration.write_text(path, detect().physical_cores, tokens, on_token)


def _start(path: Path, settings: Settings) -> worker.WorkerEngine:
    return worker.start("onnx" if path.is_dir() else "gguf", path, settings)


def _settings(tokens: int, **others: object) -> Settings:
    """Return settings for all cores, with a context for ``tokens`` tokens."""
    cores = detect().physical_cores
    return Settings(-(-tokens // 256) * 256, cores, cores, **others)  # type: ignore[arg-type]
