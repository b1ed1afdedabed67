"""The sections of ``pitool plan`` on money: boards to buy, cards to rent, what is fast enough."""

from __future__ import annotations

from collections.abc import Iterator

from pitool.cli.plan_request import Report
from pitool.cli.plan_show import cell, gigabytes, loads, rate
from pitool.planning import offers
from pitool.planning.offers import EIGHT, FOUR, SIXTEEN, Offer, Reaching, Rental
from pitool.planning.plan import Verdict
from pitool.planning.rented import HOURS_A_DAY, HOURS_A_MONTH
from pitool.report.tables import Section


def buy(report: Report) -> Iterator[Section]:
    """Yield the boards, and the best of them for three purposes."""
    usd_kwh = report.options.electricity
    found = offers.offers(*report.shop)
    holding = [o for o in found if loads(o.four)]
    dates = sorted({o.date for o in holding if o.date and o.date != offers.YOURS})
    yours = " and yours" * any(o.date == offers.YOURS for o in holding)
    left_out = len(found) - len(holding)
    columns = (
        f"8-bit is {EIGHT}, 4-bit {FOUR}; what follows is at 4 bits: $/t/s the price of each"
        " token/s, watts at the wall under full load, joules of a token, $/M the electricity of a"
        f" million tokens at {usd_kwh:.2f} USD a kWh"
    )
    prices = (
        f"list prices of {', '.join(dates) or 'no date'}{yours}; - where none is known"
        " (--price pi5-8gb=160 sets one)"
    )
    yield Section(
        "Boards to buy: verdict with GB left or missing, and decode tokens/s",
        ["board", "USD", "8-bit", "t/s", "4-bit", "t/s", "$/t/s", "watts", "J/tok", "$/M"],
        [_offer(o, usd_kwh) for o in holding],
        [
            columns,
            prices,
            *([f"{left_out} boards that do not hold it at 4 bits are left out"] * bool(left_out)),
        ],
    )
    chosen = offers.choices(found)
    yield Section(
        "The best choice",
        notes=[
            f"{c.purpose}: {c.offer.name} at {c.offer.price:.0f} USD, {c.reason}; next up:"
            f" {c.next_up}"
            for c in chosen
        ]
        or ["no board with a known price holds it at 4 bits"],
    )


def _offer(offer: Offer, usd_kwh: float) -> list[str]:
    watts = offer.board.watts
    return [
        offer.name,
        _number(offer.price, 2).removesuffix(".00"),
        cell(offer.eight),
        rate(offer.eight.artifact.estimates[0].decode) if loads(offer.eight) else "-",
        cell(offer.four),
        rate(offer.estimate.decode),
        _number(offer.usd_per_rate, 1),
        _number(watts.load if watts else None, 1),
        _number(offer.joules_per_token, 1),
        _number(offer.usd_per_million(usd_kwh), 2),
    ]


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def rent(report: Report) -> Iterator[Section]:
    """Yield the cards, what changing saves, and when a board has paid for itself."""
    found = offers.rentals(report.planner)
    dates = sorted({r.gpu.price_date for r in found if r.gpu.price_date})
    assumed = (
        f"16-bit is {SIXTEEN}, 8-bit {EIGHT}, 4-bit {FOUR}; prices of {', '.join(dates)};"
        " 1/16 of the memory and 0.6 GB for the CUDA runtime are taken off"
    )
    yield Section(
        "Cards to rent: verdict and GB left or missing",
        ["card", "GB", "USD/h", "supply", "16-bit", "8-bit", "4-bit"],
        [
            [
                r.name,
                str(r.gpu.vram_gb),
                _number(r.gpu.usd_hour, 2),
                r.gpu.supply or "-",
                *(cell(r.rows[q]) for q in (SIXTEEN, EIGHT, FOUR)),
            ]
            for r in found
        ],
        [assumed, *_hosts(found)],
    )
    yield Section("What changing saves", notes=list(_savings(found)))
    yield _payback(report, found)


def _hosts(found: list[Rental]) -> Iterator[str]:
    """Say where the machine around a card cannot hold the checkpoint that is quantised."""
    for rental in found:
        checkpoint = rental.rows[SIXTEEN].artifact.bytes
        if rental.fits(FOUR) and not rental.gpu.holds(checkpoint):
            yield (
                f"{rental.name}: its {rental.gpu.host_ram_gb} GB of RAM do not hold the"
                f" {gigabytes(checkpoint)} GB of 16-bit weights: load a file that is quantised"
            )


def _savings(found: list[Rental]) -> Iterator[str]:
    previous: Rental | None = None
    for words, quantisation in (("16-bit", SIXTEEN), ("8-bit", EIGHT), ("4-bit", FOUR)):
        best = offers.cheapest(found, quantisation)
        if best is None or best.gpu.usd_hour is None:
            yield f"{words}: fits no card that has a price"
            continue
        text = f"{words}: the cheapest is {best.name} at {best.gpu.usd_hour:.2f} USD/h"
        if previous is not None and previous.gpu.usd_hour is not None:
            saved = previous.gpu.usd_hour - best.gpu.usd_hour
            text += (
                f", {saved * HOURS_A_DAY:.2f} a day and {saved * HOURS_A_MONTH:.2f} a month"
                f" less than {previous.name}"
            )
        previous = best
        yield text


def _payback(report: Report, found: list[Rental]) -> Section:
    """When a board that holds the model at 4 bits has cost less than the cheapest card."""
    rental = offers.cheapest(found, FOUR)
    rows = []
    if rental is not None and rental.gpu.usd_hour is not None:
        for offer in offers.offers(*report.shop):
            paid = offers.payback(offer, rental.gpu.usd_hour, report.options.electricity)
            if offer.four.verdict is Verdict.FITS and paid:
                hours, tokens = paid
                rows.append(
                    [offer.name, f"{offer.price:.0f}", f"{hours:.0f}", f"{hours / 24:.0f}",
                     f"{tokens / 1e6:.1f}"]
                )  # fmt: skip
    name = rental.name if rental else "any card"
    note = "a card is faster by far: this compares hours of having the model, not tokens"
    return Section(
        f"A board has paid for itself, against {name} at 4 bits, after",
        ["board", "USD", "hours", "days", "million tokens"],
        rows,
        [note] if rows else ["no board with a known price and power holds it at 4 bits"],
    )


def reaching(report: Report, target: float) -> Section:
    """Return the boards on which the model decodes fast enough, with the best quantisation."""
    planner, market = report.shop
    found = offers.reaching(planner, target, report.quantisations, market)
    return Section(
        f"Decodes at {target:g} tokens/s or more, with the best quantisation that does",
        ["board", "USD", "quant", "verdict", "t/s", "range", "longest"],
        [
            [
                r.name,
                _number(r.price, 2).removesuffix(".00"),
                r.row.artifact.quantisation.name,
                cell(r.row),
                rate((e := r.row.artifact.estimates[0]).decode),
                "-".join(map(rate, e.decode_range)),
                str(r.row.longest_context),
            ]
            for r in found
        ],
        [_surely(found, target) if found else _nearest(report)],
    )


def _surely(found: list[Reaching], target: float) -> str:
    """Say which boards reach the target at the slow end of what is to be expected too."""
    sure = [r.name for r in found if r.row.artifact.estimates[0].decode_range[0] >= target]
    meaning = "range: as far as published speeds were from predicted ones"
    return f"{meaning}; wholly above {target:g}: {', '.join(sure) or 'no board'}"


def _nearest(report: Report) -> str:
    planner, market = report.shop
    best = offers.fastest(planner, report.quantisations, market)
    if best is None:
        return "it fits none of the boards; take a smaller model"
    speed = rate(best.row.artifact.estimates[0].decode)
    name = best.row.artifact.quantisation.name
    return f"none does: the fastest is {name} on {best.name} at {speed}; take a smaller model"


def to_json(report: Report) -> dict[str, object]:
    """Return every number of the sections that were asked for."""
    options = report.options
    planner, market = report.shop
    made: dict[str, object] = {}
    if options.target_tps:
        found = offers.reaching(planner, options.target_tps, report.quantisations, market)
        made["reaching"] = [
            {
                "board": r.name,
                "price_usd": r.price,
                "quantisation": r.row.artifact.quantisation.name,
                "decode": r.row.artifact.estimates[0].decode,
                "decode_range": list(r.row.artifact.estimates[0].decode_range),
            }
            for r in found
        ]
    if options.buy:
        found_offers = offers.offers(planner, market)
        made["boards"] = [_offer_json(o, options.electricity) for o in found_offers]
        made["choices"] = [
            {"purpose": c.purpose, "board": c.offer.name, "reason": c.reason, "next_up": c.next_up}
            for c in offers.choices(found_offers)
        ]
    if options.rent:
        made["rented"] = [_rental_json(r) for r in offers.rentals(planner)]
        made["payback"] = _payback_json(report)
    return made


def _offer_json(offer: Offer, usd_kwh: float) -> dict[str, object]:
    return {
        "board": offer.name,
        "price_usd": offer.price,
        "price_date": offer.date,
        "eight_bit": {"verdict": offer.eight.verdict.value, "left_bytes": offer.eight.left},
        "four_bit": {"verdict": offer.four.verdict.value, "left_bytes": offer.four.left},
        "decode_eight_bit": offer.eight.artifact.estimates[0].decode,
        "decode_four_bit": offer.estimate.decode,
        "watts": offer.board.watts.load if offer.board.watts else None,
        "joules_per_token": offer.joules_per_token,
        "usd_per_million_tokens": offer.usd_per_million(usd_kwh),
        "usd_per_token_per_second": offer.usd_per_rate,
    }


def _rental_json(rental: Rental) -> dict[str, object]:
    return {
        "card": rental.name,
        "vram_gb": rental.gpu.vram_gb,
        "usd_hour": rental.gpu.usd_hour,
        "price_date": rental.gpu.price_date,
        "supply": rental.gpu.supply,
        **{
            name: {"verdict": row.verdict.value, "left_bytes": row.left, "needs_bytes": row.peak}
            for name, row in rental.rows.items()
        },
    }


def _payback_json(report: Report) -> dict[str, object] | None:
    rental = offers.cheapest(offers.rentals(report.planner), FOUR)
    if rental is None or rental.gpu.usd_hour is None:
        return None
    after = {}
    for offer in offers.offers(*report.shop):
        paid = offers.payback(offer, rental.gpu.usd_hour, report.options.electricity)
        if paid and offer.four.verdict is Verdict.FITS:
            after[offer.name] = {"hours": paid[0], "tokens": paid[1]}
    return {"card": rental.name, "boards": after}
