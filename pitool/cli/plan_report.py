"""The report of ``pitool plan`` for GGUF: which sections it has, and its document."""

from __future__ import annotations

from collections.abc import Iterator

from pitool.cli import plan_market, plan_onnx, plan_show, plan_ways
from pitool.cli.plan_json import document
from pitool.cli.plan_request import Report
from pitool.report.tables import Section

__all__ = ["document", "sections"]


def sections(report: Report) -> Iterator[Section]:
    """Yield the sections in the order in which a person asks."""
    options = report.options
    yield plan_show.head(report)
    if options.target_tps:
        yield plan_market.reaching(report, options.target_tps)
    elif not (options.buy or options.rent):
        yield from plan_show.sections(report)
        yield from plan_onnx.beside(report)
        if len(report.places) == 1:
            yield from plan_ways.sections(report)
    else:
        yield plan_show.memory(report)
    if options.buy:
        yield from plan_market.buy(report)
    if options.rent:
        yield from plan_market.rent(report)
