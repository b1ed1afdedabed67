"""What bench measures besides tests, as JSON values that are kept, listed and exported.

A document is flat where it can be: what was measured by which versions on which machine, then the
figures of its kind.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from pitool.bench.formats import runtime, title
from pitool.bench.subject import describe
from pitool.catalog.bundles import Runnable
from pitool.engine.base import Settings
from pitool.report.blocks import chart

Document = dict[str, Any]


def begun(kind: str, runnable: Runnable, settings: Settings) -> Document:
    """Return the document of a measurement that has no figures yet."""
    subject = describe(runnable, settings, None)
    return {
        "kind": kind,
        "test_time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "bundle": subject.bundle,
        "model_filename": str(subject.file),
        "quantisation": subject.quantisation,
        "artifact_sha256": subject.sha256,
        "engine": runnable.format,
        "n_threads": settings.decode_threads,
        "board": subject.board,
        "cpu_info": subject.cpu,
        "kernel": subject.kernel,
        "firmware": subject.firmware,
        "pitool_version": subject.versions.get("pitool"),
        "runtime_version": runtime(subject),
    }


def measured(document: Document) -> bool:
    """Tell whether there is any figure in it: an interruption may come before the first."""
    return any(figures in document for figures in ("points", "cold", "joules_per_token"))


def name(document: Document) -> str:
    """Return what people call the artifact."""
    return title(document["bundle"], document["model_filename"], document["quantisation"])


def words(document: Document) -> str:
    """Return the main figures in a line."""
    return _WORDS[document["kind"]](document)


def _sustained(d: Document) -> str:
    hot = f", hottest {d['hottest']:.0f} °C" if d["hottest"] is not None else ""
    flags = f", {', '.join(d['throttled'])}" if d["throttled"] else ""
    return (
        f"{d['points'][-1]['seconds']:.0f} s: first {d['first']:.2f} t/s, last {d['last']:.2f} t/s"
        f" ({d['kept']:.0%}), mean {d['overall']:.2f} t/s{hot}{flags}"
    )


def _cold(d: Document) -> str:
    starts = []
    for start in ("cold", "warm"):
        if start in d:
            ttft = d[start]["ttft_seconds"]
            first = min(ttft, key=int)
            ready = f"{start} ready in {d[start]['load_seconds']:.2f} s"
            starts.append(f"{ready}, TTFT {first}: {ttft[first]:.2f} s")
    return "; ".join(starts)


def _energy(d: Document) -> str:
    return (
        f"idle {d['idle_watts']:.2f} W, decode {d['decode_watts']:.2f} W at"
        f" {d['tokens_per_second']:.2f} t/s, {d['joules_per_token']:.3g} J per token"
    )


_WORDS = {"sustained": _sustained, "cold": _cold, "energy": _energy}


def curve(document: Document) -> list[str]:
    """Return the lines of a chart of tokens/s over time; none of what is not ``sustained``."""
    points: Sequence[Document] = document.get("points", ())
    return chart([(point["seconds"], point["rate"]) for point in points])
