"""An engine that writes down what it is asked to do, and a bundle that runs from a script."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from pitool.catalog import manifest
from pitool.catalog.manifest import Artifact, Manifest, MemoryLine, Source
from pitool.engine.base import Prompt, Settings
from pitool.engine.scripted import Scripted

SETTINGS = Settings(context=640, decode_threads=3, prefill_threads=4)


class Recorder(Scripted):
    """Takes ``seconds`` in turn for each evaluation and keeps every call."""

    # Of how many tokens the beginning may be kept; 0 of a model with a recurrent state.
    keeps = 0

    def __init__(self, seconds: Sequence[float] = (1.0,), bos: int | None = None) -> None:
        super().__init__(settings=SETTINGS)
        self.calls: list[tuple[str, int]] = []
        self.ids: list[list[int]] = []
        self._seconds, self._bos = list(seconds), bos

    def tokenize(self, prompt: Prompt) -> list[int]:
        """Return the beginning-of-sequence token, as a model does that adds one."""
        return [] if self._bos is None else [self._bos]

    def clear(self) -> None:
        """Write it down."""
        self.calls.append(("clear", 0))

    def rewind(self, count: int) -> int:
        """Keep what this model can; all of nothing is a clear."""
        left = min(count, self.keeps)
        self.calls.append(("rewind", left) if left else ("clear", 0))
        return left

    def time_forward(self, ids: Sequence[int], *, one_by_one: bool) -> float:
        """Write it down; each call takes the next time of the list."""
        self.calls.append(("tg" if one_by_one else "pp", len(ids)))
        self.ids.append(list(ids))
        return self._seconds[(len(self.ids) - 1) % len(self._seconds)]


@pytest.fixture
def bundle(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a bundle whose model is a script."""

    def make(name: str = "toy", **script: object) -> Path:
        folder = tmp_path / "bundles" / name
        folder.mkdir(parents=True)
        entry = folder / "script.json"
        entry.write_text(json.dumps(script), encoding="utf-8")
        artifact = Artifact(
            format="script",
            quantisation="Q4_0",
            files=(manifest.file_entry(entry, folder),),
            architecture="script",
            parameters=250_000,
            context=1024,
            bits_per_weight=4.5,
            memory=(MemoryLine("weights", 4096), MemoryLine("KV cache", 1024)),
            speed=(),
        )
        source = Source("toy", None, ())
        manifest.write(
            folder,
            Manifest(name, source, "1gb", None, "2026-11-22T00:00:00Z", {}, (artifact,)),
        )
        return folder

    return make
