"""The sections of ``pitool plan`` on choices: boards to buy, alternatives."""

from __future__ import annotations

from collections.abc import Iterator

from pitool.catalog.boards import find_board
from pitool.planning import alternatives as others
from pitool.planning import answer, offers
from pitool.planning.accelerators import BOARD, Accelerator, accelerators, cpu_decodes
from pitool.planning.alternatives import LoadMethod, ProfileChoice, Saving, fastest_soc
from pitool.planning.offers import (
    EIGHT,
    FOUR,
    Match,
    Offer,
)
from pitool.planning.places import Place
from pitool.planning.planner import Planner, Row
from pitool.planning.report import Report
from pitool.report.numbers import format_gigabytes, format_price, format_share, format_speed
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
        f"list prices of {', '.join(dates) or 'unknown date'}{yours}; - if unknown"
        " (set one with --price pi5-8gb=160)"
    )
    too_small = f"{left_out} boards that are too small for it at 4 bits are not shown"
    yield Section(
        "Boards to buy: verdict with GB left or missing, and decode tokens/s",
        ["board", "USD", "8-bit", "t/s", "4-bit", "t/s", "$/t/s", "watts", "J/tok", "$/M"],
        [_offer(o, usd_kwh) for o in holding],
        [*([columns, prices] if holding else []), *([too_small] if left_out else [])],
    )
    chosen = offers.choices(found)
    yield Section(
        "The best choice",
        notes=[
            f"{c.purpose}: {c.offer.name} at {format_price(c.offer.price or 0)} USD, {c.reason};"
            f" next up: {c.next_up}"
            for c in chosen
        ]
        or [
            "no board with a known price has enough memory for it at 4 bits",
            *answer.smaller(report, report.largest),
        ],
    )
    if any(offer.board is find_board(BOARD) for offer in found):
        yield _accelerators()


def _accelerators() -> Section:
    """Return what could be put beside the CPU, and whether it would help."""
    cpu = cpu_decodes()
    found = accelerators().values()
    rows = [
        [each.name, speed.model, number(speed.decode, 1), number(cpu[speed.size], 1)]
        for each in found
        for speed in each.speeds
    ]
    return Section(
        f"On the PCIe lane of {BOARD}: published tokens/s, and those predicted for its CPU",
        ["", "model", "t/s", "CPU"],
        rows,
        [_advice(each, cpu) for each in found],
    )


def _advice(found: Accelerator, cpu: dict[str, float]) -> str:
    price = f"{format_price(found.price_usd)} USD ({found.price_date}); " if found.price_usd else ""
    speed = "faster than" if found.faster(cpu) else "no faster than"
    words = [f"{found.name}: {price}{speed} the board's CPU"]
    if found.watts:
        words.append(f"{found.watts:.0f} W for the whole system")
    if found.watts_saved:
        words.append(f"about {found.watts_saved:.0f} W less")
    if found.takes_lane:
        words.append("takes the lane of an NVMe SSD")
    return f"{', '.join(words)}; {found.source}"


def _offer(offer: Offer, usd_kwh: float) -> list[str]:
    watts = offer.board.watts
    return [
        offer.name,
        "-" if offer.price is None else format_price(offer.price),
        cell(offer.eight),
        format_speed(offer.eight.artifact.estimates[0].decode) if offer.eight.loads else "-",
        cell(offer.four),
        format_speed(offer.estimate.decode),
        number(offer.usd_per_rate, 1),
        number(watts.load if watts else None, 1),
        number(offer.joules_per_token, 1),
        number(offer.usd_per_million(usd_kwh), 2),
    ]


def number(value: float | None, digits: int) -> str:
    """Return a number with so many digits after the point, a dash for none."""
    return "-" if value is None else f"{value:.{digits}f}"


def matches(report: Report, target: float) -> Section:
    """Return the boards on which the model decodes fast enough, with the best quantisation."""
    found = report.matches()
    return Section(
        f"Boards that decode at {target:g} tokens/s or more, with their best quantisation",
        ["board", "USD", "quant", "verdict", "t/s", "range", "longest"],
        [
            [
                match.name,
                number(match.price, 2).removesuffix(".00"),
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
        return "; ".join(["it does not fit any board", *answer.smaller(report, report.largest)])
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
    methods = list(others.load_methods(planner, place))
    return Section(
        f"Ways to load on {place.title}: memory in GB, seconds to read the file",
        ["method", "memory", "droppable", "verdict", "SD", "USB SSD", "NVMe", "KL"],
        [_method(m) for m in methods],
        [
            droppable,
            "read: loads a private copy; with mmap, repacked types are in memory twice",
            *map(_streamed, filter(lambda m: m.streamed, methods)),
        ],
    )


def _streamed(method: LoadMethod) -> str:
    return (
        f"streams: {method.row.quantisation} does not fit, but runs with mmap and without"
        f" repacking: a token then takes {answer.from_disk(method)}"
    )


def _method(method: LoadMethod) -> list[str]:
    quality = f"{method.certificate.mean_kl:.4f}" if method.certificate else "-"
    seconds = (method.seconds.get(medium) for medium in ("sd", "usb", "nvme"))
    return [
        f"{method.row.quantisation} {method.mode}",
        format_gigabytes(method.row.peak),
        format_gigabytes(method.droppable) if method.droppable else "-",
        "streams" if method.streamed else cell(method.row),
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
        format_speed(row.slowest) if row.artifact.estimates and row.loads else "-",
    ]
