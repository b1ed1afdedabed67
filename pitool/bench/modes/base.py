"""What a mode is: something besides tests that bench measures, as JSON values.

A document is flat where it can be: what was measured by which versions on which machine, then the
figures of its mode.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from pitool.bench.artifact import describe, title
from pitool.bench.events import Doing, Figures
from pitool.bench.history import Document
from pitool.bench.rows import runtime
from pitool.catalog.bundles import Runnable
from pitool.engine.base import Engine, Settings

OpenEngine = Callable[[Runnable, Settings], AbstractContextManager[Engine]]
Measure = Callable[[Runnable, Settings, OpenEngine, Document], Iterator[Doing | Figures]]
"""Measures one artifact, puts its figures into the document and tells them."""


@dataclass(frozen=True, slots=True)
class Mode:
    """``prepare`` reads the options or says what is wrong, ``words`` gives the main figures.

    ``chart``: the lines of tokens/s over time, where a mode has them.
    """

    prepare: Callable[[Mapping[str, Any]], Measure]
    words: Callable[[Document], str]
    chart: Callable[[Document], list[str]] = lambda _: []


def begun(kind: str, runnable: Runnable, settings: Settings) -> Document:
    """Return the document of a measurement that has no figures yet."""
    about = describe(runnable, settings, None)
    return {
        "kind": kind,
        "test_time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "bundle": about.bundle,
        "model_filename": str(about.file),
        "quantisation": about.quantisation,
        "artifact_sha256": about.sha256,
        "engine": runnable.format,
        "n_threads": settings.decode_threads,
        "board": about.board,
        "cpu_info": about.cpu,
        "kernel": about.kernel,
        "firmware": about.firmware,
        "pitool_version": about.versions.get("pitool"),
        "runtime_version": runtime(about),
    }


def artifact_of(document: Document) -> str:
    """Return what people call the artifact of a document."""
    return title(document["bundle"], document["model_filename"], document["quantisation"])
