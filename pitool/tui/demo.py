"""The interface with the scripted engine: what tests, snapshots and screenshots show.

Models and figures are invented; nothing here was measured.

``python -m pitool.tui.demo`` runs it in real time; it needs no model.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from pitool.bench.progress import BenchRunner
from pitool.catalog import manifest
from pitool.catalog.bundles import Bundle, Runnable
from pitool.catalog.manifest import Artifact, Certificate, FileEntry, MemoryLine, Source, Speed
from pitool.chat.engine_slot import Load
from pitool.device.doctor.finding import Finding
from pitool.device.forecast import Forecast
from pitool.device.monitor import Sample
from pitool.device.sensor_history import SensorHistory
from pitool.engine.base import Engine, Settings
from pitool.engine.scripted import Scripted
from pitool.tui import demo_bench
from pitool.tui.app import PitoolApp

MEMORY = 1_243_000_000
AVAILABLE, MARGIN = 1_400_000_000, 210_000_000
QUESTION = "Why is decode limited by memory bandwidth?"
ANSWER = """\
Because **every weight is read once for every token**. A prompt is read many tokens at a time, so \
each weight that comes from memory is used often; an answer is written one token at a time, and \
each is used once.

1. *Prefill* waits for arithmetic: more cores help.
2. *Decode* waits for memory: fewer bits per weight help.

```python
def decode_ceiling(bandwidth: float, weights: float) -> float:
    return bandwidth / weights  # tokens per second
```

With 9 GB/s, 1.05 GB of weights give **8.6 tokens per second** at most."""


def write_bundles(folder: Path) -> list[Bundle]:
    """Write bundles whose weights are holes, and return them."""
    made = [
        _bundle(folder, "Raspberry-1.7B", 1_720_000_000, (("Q4_K_M", 4.9), ("Q8_0", 8.5))),
        _bundle(folder, "Leaf-360M", 362_000_000, (("Q4_0", 4.6),)),
    ]
    for bundle in made:
        manifest.write(bundle.path, bundle.manifest)
    return made


def _bundle(folder: Path, name: str, parameters: int, kinds: Sequence[tuple[str, float]]) -> Bundle:
    path = folder / name.lower()
    path.mkdir(parents=True)
    artifacts = tuple(_artifact(path, parameters, kind, bits) for kind, bits in kinds)
    source = Source(f"example/{name}", "main", ())
    made = manifest.Manifest(
        name, source, "4gb", None, "2026-11-22T00:00:00Z", {"pitool": "0.1.0"}, artifacts
    )
    return Bundle(path, made)


def _artifact(path: Path, parameters: int, kind: str, bits: float) -> Artifact:
    size = int(parameters * bits / 8)
    file = path / f"model-{kind.lower()}.gguf"
    file.touch()
    with file.open("r+b") as handle:
        handle.truncate(size)
    plan = {"weights": size, "KV cache": 115_000_000, "compute": 40_000_000, "runtime": 60_000_000}
    boards = {"pi4b": 2.9e9, "pi5": 9.3e9}
    return Artifact(
        format="gguf",
        quantisation=kind,
        files=(FileEntry(file.name, size, "0" * 64),),
        architecture="llama",
        parameters=parameters,
        context=4096,
        bits_per_weight=bits,
        memory=tuple(MemoryLine(*line) for line in plan.items()),
        speed=tuple(Speed(b, rate / parameters * 12, rate / size) for b, rate in boards.items()),
        certificate=Certificate("f32", "wiki", 8192, 0.31 / bits**2, 1.0, 0.971, 9.1, 9.0),
    )


def judge(artifact: Artifact) -> Forecast:
    """Return the verdict of a pi-5 with little memory free."""
    needed = sum(line.bytes for line in artifact.memory)
    return Forecast(needed, AVAILABLE, artifact.speed[-1], MARGIN)


def scripted_load(
    answers: Sequence[str] = (ANSWER,), *, real_time: bool = False, decode_rate: float = 7.9
) -> Load:
    """Return a loader of scripted engines."""

    def load(runnable: Runnable, on_progress: Callable[[float], None]) -> Engine:
        for step in range(101):
            time.sleep(0.02 if real_time else 0)
            on_progress(step / 100)
        return Scripted(
            answers,
            prefill_rate=84.3,
            decode_rate=decode_rate,
            real_time=real_time,
            name=runnable.name,
            settings=Settings(runnable.context, decode_threads=4, prefill_threads=4),
        )

    return load


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
        "throttling",
        "warning",
        "throttled since boot",
        "tokens/s fall, often to half",
        "add cooling",
    ),
    Finding(
        "swap",
        "note",
        "2.10 GB on /var/swap",
        "a model in swap takes seconds per token and wears out the card",
        "keep models below what pitool plan allows",
    ),
    Finding("power supply", "ok", "5 A"),
    Finding("llama.cpp", "ok", "NEON ARM_FMA DOTPROD"),
)


def demo_app(folder: Path, *, real_time: bool = False, load: Load | None = None) -> PitoolApp:
    """Return the app on demonstration bundles below ``folder``, which keeps conversations too."""
    from pitool.store.database import FILE_NAME, Database

    bundles = write_bundles(folder)
    return PitoolApp(
        load=load or scripted_load(real_time=real_time),
        bundles=lambda: (bundles, []),
        memory=lambda _: MEMORY,
        database=Database(folder / FILE_NAME),
        sensors=sensors(),
        bench=partial(BenchRunner, demo_bench.tools(folder, real_time=real_time)),
        judge=judge,
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        demo_app(Path(folder), real_time=True).run()
