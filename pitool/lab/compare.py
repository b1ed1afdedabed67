"""The way of a comparison: one technique after the other, the baseline first."""

from __future__ import annotations

from collections.abc import Sequence

from pitool.checkpoint.source import Source, open_checkpoint
from pitool.convert.describe import hash_sources
from pitool.convert.download import download
from pitool.convert.techniques import BASELINE, find_technique
from pitool.convert.techniques.base import Technique
from pitool.device import detect
from pitool.lab.material import read_text
from pitool.lab.results import Results, versions
from pitool.lab.row import Comparison, Row
from pitool.lab.session import Session, Watch, Wish


def compare(source: Source, wish: Wish, watch: Watch) -> Comparison:
    """Return every technique's row; what goes wrong with the baseline is raised."""
    checkpoint = open_checkpoint(download(source, watch, for_gguf=True))
    threads = max(detect.detect().physical_cores, 1)
    text = read_text(wish.text) if wish.text else ""
    hashed = hash_sources(checkpoint, watch)
    results = Results(hashed, text, wish.prompts, detect.cpu_name(), threads)
    if not wish.resume:
        results.forget()
    wanted = with_baseline(wish.techniques)
    rows: list[Row] = []
    with Session(checkpoint, hashed, wish, results, threads, watch) as session:
        for technique in wanted:
            watch.begin(len(rows), len(wanted), technique)
            rows.append(session.row(technique, rows[0] if rows else None))
    stood = results.stood()
    return Comparison(
        model=source.id,
        parameters=session.shape.parameters,
        machine=detect.cpu_name(),
        threads=threads,
        text=stood.text,
        tokens=stood.tokens,
        calibration=stood.calibration,
        prompts=wish.prompts,
        rows=tuple(rows),
        versions=versions(),
        tier=wish.tier[0] if wish.tier else None,
        budget=wish.tier[1] if wish.tier else None,
    )


def with_baseline(techniques: Sequence[Technique]) -> tuple[Technique, ...]:
    """Return each technique once, the baseline first: all are compared with it."""
    unique = {technique.name: technique for technique in techniques}
    first = unique.pop(BASELINE, None) or find_technique(BASELINE)
    return (first, *unique.values())
