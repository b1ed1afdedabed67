"""The sections of ``pitool plan`` on choices: boards to buy, GPUs to rent, alternatives."""

from __future__ import annotations

from collections.abc import Iterator

from pitool.planning import alternatives as others
from pitool.planning import offers
from pitool.planning.alternatives import LoadMethod, ProfileChoice, Saving, fastest_soc
from pitool.planning.offers import (
    EIGHT,
    FOUR,
    HOURS_A_DAY,
    HOURS_A_MONTH,
    SIXTEEN,
    Match,
    Offer,
    Rental,
)
from pitool.planning.places import Place
from pitool.planning.planner import Planner, Row
from pitool.planning.report import Report
from pitool.report.numbers import format_gigabytes, format_share, format_speed
from pitool.report.tables import Section


def cell(row: Row) -> str:
    """Return the verdict with the GB left or missing."""
    return f"{row.verdict.value} {abs(row.left) / 1e9:.1f}"


def buy(report: Report) -> Iterator[Section]:
    """Yield the boards, and the best of them for three purposes."""
    usd_kwh = report.options.electricity
    found = report.offers()
    holding = [o for o in found if o.four.loads]
    dates = sorted({o.date for o in holding if o.date and o.date != offers.YOURS})
    yours = " and yours" * any(o.date == offers.YOURS for o in holding)
    left_out = len(found) - len(holding)
    columns = (
        f"8-bit is {EIGHT}, 4-bit {FOUR}; the columns after it are for 4-bit: price per token/s in"
        " USD, watts at the wall under full load, joules per token, and USD of electricity per"
        f" million tokens at {usd_kwh:.2f} USD per kWh"
    )
    prices = (
        f"list prices of {', '.join(dates) or 'no date'}{yours}; - if unknown"
        " (set one with --price pi5-8gb=160)"
    )
    yield Section(
        "Boards to buy: verdict with GB left or missing, and decode tokens/s",
        ["board", "USD", "8-bit", "t/s", "4-bit", "t/s", "$/t/s", "watts", "J/tok", "$/M"],
        [_offer(o, usd_kwh) for o in holding],
        [
            columns,
            prices,
            *(
                [f"{left_out} boards that are too small for it at 4 bits are not shown"]
                * bool(left_out)
            ),
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
        or ["no board with a known price has enough memory for it at 4 bits"],
    )


def _offer(offer: Offer, usd_kwh: float) -> list[str]:
    watts = offer.board.watts
    return [
        offer.name,
        _number(offer.price, 2).removesuffix(".00"),
        cell(offer.eight),
        format_speed(offer.eight.artifact.estimates[0].decode) if offer.eight.loads else "-",
        cell(offer.four),
        format_speed(offer.estimate.decode),
        _number(offer.usd_per_rate, 1),
        _number(watts.load if watts else None, 1),
        _number(offer.joules_per_token, 1),
        _number(offer.usd_per_million(usd_kwh), 2),
    ]


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def rent(report: Report) -> Iterator[Section]:
    """Yield the GPUs, what changing saves, and when a board has paid for itself."""
    found = report.rentals()
    dates = sorted({r.gpu.price_date for r in found if r.gpu.price_date})
    assumed = (
        f"16-bit is {SIXTEEN}, 8-bit {EIGHT}, 4-bit {FOUR}; prices of {', '.join(dates)};"
        " 1/16 of the memory and 0.6 GB for the CUDA runtime are deducted"
    )
    yield Section(
        "GPUs to rent: verdict and GB left or missing",
        ["GPU", "GB", "USD/h", "supply", "16-bit", "8-bit", "4-bit"],
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
    yield Section("The cheapest GPU for each precision", notes=list(_cheaper(found)))
    yield _payback(report, found)


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
        best = offers.cheapest(found, quantisation)
        if best is None or best.gpu.usd_hour is None:
            yield f"{words}: fits no GPU that has a price"
            continue
        text = f"{words}: the cheapest is {best.name} at {best.gpu.usd_hour:.2f} USD/h"
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
    rental = offers.cheapest(found, FOUR)
    paid = offers.paybacks(report.offers(), rental, report.options.electricity)
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


def matches(report: Report, target: float) -> Section:
    """Return the boards on which the model decodes fast enough, with the best quantisation."""
    found = report.matches()
    return Section(
        f"Boards that decode at {target:g} tokens/s or more, with their best quantisation",
        ["board", "USD", "quant", "verdict", "t/s", "range", "longest"],
        [
            [
                match.name,
                _number(match.price, 2).removesuffix(".00"),
                match.row.quantisation,
                cell(match.row),
                format_speed(match.estimate.decode),
                "-".join(map(format_speed, match.estimate.decode_range)),
                str(match.row.longest_context),
            ]
            for match in found
        ],
        [_surely(found, target) if found else _nearest(report)],
    )


def _surely(found: list[Match], target: float) -> str:
    """Say which boards reach the target at the slow end of what is to be expected too."""
    sure = [match.name for match in found if match.estimate.decode_range[0] >= target]
    meaning = "range: what to expect, given the error of the prediction"
    return f"{meaning}; {target:g} or more throughout: {', '.join(sure) or 'no board'}"


def _nearest(report: Report) -> str:
    best = report.fastest()
    if best is None:
        return "it does not fit any board; use a smaller model"
    return (
        f"no board is fast enough: the best is {best.row.quantisation} on {best.name} at"
        f" {format_speed(best.estimate.decode)} tokens/s; use a smaller model"
    )


def alternatives(report: Report) -> Iterator[Section]:
    """Yield other ways to load, other quantisations and other profiles at the largest place."""
    place = report.largest
    yield _methods(report.planner, place)
    yield _savings(report.planner, place)
    yield _profiles(report.planner, place)


def _methods(planner: Planner, place: Place) -> Section:
    seconds = (
        f"seconds on {fastest_soc(place)}"
        if place.boards
        else "seconds are known only for known boards"
    )
    droppable = (
        f"{seconds}; droppable: pages of the file that the kernel drops and reads again when"
        " memory is short; mlock prevents this"
    )
    return Section(
        f"Ways to load on {place.title}: memory in GB, seconds to read the file",
        ["method", "memory", "droppable", "verdict", "SD", "USB SSD", "NVMe", "KL"],
        [_method(m) for m in others.load_methods(planner, place)],
        [
            droppable,
            "read: loads a private copy; with mmap, repacked types are in memory twice",
        ],
    )


def _method(method: LoadMethod) -> list[str]:
    quality = f"{method.certificate.mean_kl:.4f}" if method.certificate else "-"
    seconds = (method.seconds.get(medium) for medium in ("sd", "usb", "nvme"))
    return [
        f"{method.row.quantisation} {method.mode}",
        format_gigabytes(method.row.peak),
        format_gigabytes(method.droppable) if method.droppable else "-",
        cell(method.row),
        *("-" if s is None else f"{s:.1f}" for s in seconds),
        quality,
    ]


def _savings(planner: Planner, place: Place) -> Section:
    return Section(
        f"Saved by quantising, on {place.title}, in GB",
        ["change", "file", "after", "saved", "", "memory", "after", "saved", ""],
        [_saving(s) for s in others.savings(planner, place)],
    )


def _saving(saving: Saving) -> list[str]:
    before, after = saving.before, saving.after
    return [
        f"{before.quantisation} to {after.quantisation}",
        format_gigabytes(before.artifact.bytes),
        format_gigabytes(after.artifact.bytes),
        format_gigabytes(saving.file),
        format_share(saving.file_share),
        format_gigabytes(before.peak),
        format_gigabytes(after.peak),
        format_gigabytes(saving.memory),
        format_share(saving.memory_share),
    ]


def _profiles(planner: Planner, place: Place) -> Section:
    choices = list(others.profile_choices(planner, place))
    return Section(
        f"Profiles on {place.title}",
        ["profile", "GB free", "context", "KV", "batch", "auto", "verdict", "t/s"],
        [_profile(choice) for choice in choices],
        [f"{choice.name}: {choice.profile.summary}" for choice in choices],
    )


def _profile(choice: ProfileChoice) -> list[str]:
    profile, row = choice.profile, choice.row
    return [
        choice.name,
        format_gigabytes(row.place.room - row.place.budget(profile)),
        str(row.artifact.context),
        profile.kv_type,
        str(profile.micro_batch),
        row.quantisation,
        cell(row),
        format_speed(row.slowest) if row.artifact.estimates else "-",
    ]
