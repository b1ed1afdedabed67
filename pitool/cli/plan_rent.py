"""The sections of ``pitool plan --rent``: GPUs, what changing saves, and when a board pays."""

from __future__ import annotations

from collections.abc import Iterator

from pitool.cli.plan_offers import cell, number
from pitool.planning import rentals
from pitool.planning.offers import EIGHT, FOUR, SIXTEEN
from pitool.planning.rentals import HOURS_A_DAY, HOURS_A_MONTH, Change, Rental
from pitool.planning.report import Report
from pitool.report.numbers import format_gigabytes, format_share, format_speed
from pitool.report.tables import Section


def rent(report: Report) -> Iterator[Section]:
    """Yield the GPUs, what changing saves, and when a board has paid for itself."""
    found = report.rentals()
    assumed = (
        f"16-bit is {SIXTEEN}, 8-bit {EIGHT}, 4-bit {FOUR};"
        " 1/16 of the memory and 0.6 GB for the CUDA runtime are deducted"
    )
    estimated = (
        "t/s: decode at 4 bits, estimated by the memory bandwidth of the slowest card that the"
        f" offer may give, of which {format_share(rentals.BANDWIDTH_SHARE)} was seen to be used"
    )
    yield Section(
        "GPUs to rent: verdict and GB left or missing",
        ["GPU", "GB", "USD/h", "supply", "16-bit", "8-bit", "4-bit", "t/s"],
        [
            [
                r.name,
                str(r.gpu.vram_gb),
                number(r.gpu.usd_hour, 2),
                r.gpu.supply or "-",
                *(cell(r.rows[q]) for q in (SIXTEEN, EIGHT, FOUR)),
                format_speed(r.decode[FOUR]) if FOUR in r.decode and r.fits(FOUR) else "-",
            ]
            for r in found
        ],
        [*_providers(found), assumed, estimated, *_hosts(found)],
    )
    yield Section("The cheapest GPU for each precision", notes=list(_cheaper(found)))
    if asked := report.changes():
        yield _changes(*asked)
    yield _payback(report, found)


def _providers(found: list[Rental]) -> Iterator[str]:
    """Say whose offers these are, and of when the prices."""
    by_offer: dict[tuple[str, str], list[str]] = {}
    for rental in found:
        offered = rental.gpu.provider or "", rental.gpu.price_date or ""
        by_offer.setdefault(offered, []).append(rental.name)
    for (provider, date), names in by_offer.items():
        if provider:
            yield f"{provider}, prices of {date}: {', '.join(names)}"
        else:
            yield f"without a price, and so part of no comparison: {', '.join(names)}"


def _changes(rental: Rental, found: list[Change]) -> Section:
    """Return what changing from one card to each cheaper one saves."""
    rows = [
        [
            each.to.name,
            each.quantisation,
            number(each.to.gpu.usd_hour, 2),
            number(each.hour, 2),
            number(each.day, 2),
            number(each.month, 0),
            format_share(each.share),
            format_speed(each.to.decode[each.quantisation]) if each.to.decode else "-",
        ]
        for each in found
    ]
    best = rental.best
    speed = f", about {format_speed(rental.decode[best])} t/s" if best and rental.decode else ""
    now = f"now: {rental.name} at {number(rental.gpu.usd_hour, 2)} USD/h with {best}{speed}"
    return Section(
        f"Saved in USD by changing from {rental.name}, with the most bits that fit",
        ["to", "quant", "USD/h", "an hour", "a day", "a month", "saved", "t/s"],
        rows,
        [now if rows else f"no cheaper GPU has enough memory for it; {now}"],
    )


def _hosts(found: list[Rental]) -> Iterator[str]:
    """Say where the machine around a GPU cannot hold the checkpoint that is quantised."""
    for rental in found:
        checkpoint = rental.rows[SIXTEEN].artifact.bytes
        if rental.fits(FOUR) and not rental.gpu.holds(checkpoint):
            yield (
                f"{rental.name}: its {rental.gpu.host_ram_gb} GB of RAM cannot hold the"
                f" {format_gigabytes(checkpoint)} GB of 16-bit weights: load a"
                " quantised file"
            )


def _cheaper(found: list[Rental]) -> Iterator[str]:
    previous: Rental | None = None
    for words, quantisation in (("16-bit", SIXTEEN), ("8-bit", EIGHT), ("4-bit", FOUR)):
        best = rentals.cheapest(found, quantisation)
        if best is None or best.gpu.usd_hour is None:
            yield f"{words}: fits no GPU that has a price"
            continue
        text = f"{words}: the cheapest is {best.name} at {best.gpu.usd_hour:.2f} USD/h"
        if previous is best:
            yield f"{words}: {best.name} as well"
            continue
        if previous is not None and previous.gpu.usd_hour is not None:
            saved = previous.gpu.usd_hour - best.gpu.usd_hour
            text += (
                f", {saved * HOURS_A_DAY:.2f} USD a day and"
                f" {saved * HOURS_A_MONTH:.2f} USD a month less than {previous.name}"
            )
        previous = best
        yield text


def _payback(report: Report, found: list[Rental]) -> Section:
    """When a board that holds the model at 4 bits has cost less than the cheapest GPU."""
    rental = rentals.cheapest(found, FOUR)
    paid = rentals.paybacks(report.offers(), rental, report.options.electricity)
    rows = [
        [
            each.offer.name,
            f"{each.offer.price:.0f}",
            f"{each.hours:.0f}",
            f"{each.hours / 24:.0f}",
            f"{each.tokens / 1e6:.1f}",
        ]
        for each in paid
    ]
    name = rental.name if rental else "a GPU"
    note = "this compares hours of use, not tokens: a GPU is much faster"
    return Section(
        f"Use after which buying costs less than renting {name}, at 4 bits",
        ["board", "USD", "hours", "days", "million tokens"],
        rows,
        [note]
        if rows
        else ["no board with a known price and power has enough memory for it at 4 bits"],
    )
