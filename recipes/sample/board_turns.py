"""Turns about boards: one attribute, the whole board, two boards, a job, and boards not known."""

from __future__ import annotations

import random
from typing import Any

import facts
from facts import Board
from grammar import expand
from turns import Turn, asked, load, named, sentence, title

CORE_ORDER = ("Cortex-A53", "Cortex-A72", "Cortex-A76")
PHRASES = load("boards.toml")
ATTRIBUTES: dict[str, Any] = PHRASES["attribute"]
PLAIN = (
    "core", "clock", "soc", "ram", "ram_most", "usb", "video", "ethernet", "wireless", "supply",
    "storage", "bandwidth", "cache",
)  # fmt: skip


def _watts(name: str, board: Board) -> str:
    if board.idle is None:
        return f"I have no measured power draw for {name}."
    load = f" and {board.stress:g} watts under load" if board.stress else ""
    return f"{name} draws about {board.idle:g} watts at idle{load}."


def _dotprod(name: str, board: Board) -> str:
    if board.dotprod:
        return (
            f"Yes, {name} has dotprod, as its cores are {board.core}. "
            "(int8 is fast on it|Repacked weights run fast there)."
        )
    return (
        f"No, {name} has no dotprod: its {board.core} cores have NEON only. "
        "(int8 is slower there|It runs without repacking)."
    )


def _price(name: str, board: Board) -> str:
    if board.price:
        return (
            f"In October 2026 the list price of {name} was {board.price}. "
            "(It may have changed since|Prices change)."
        )
    return f"I have no confirmed price for {name}. (Please look|Have a look) at raspberrypi.com."


def _llm(name: str, board: Board) -> str:
    if board.dotprod:
        return (
            f"Yes, {name} runs language models well: (a 0.5B model gives|0.5B models give) about "
            "30 tokens per second and (a 3B model|3B models) about 5."
        )
    if board.core == "Cortex-A72":
        return (
            f"Yes, but {name} is slow: Qwen2.5-0.5B gives about 9 tokens per second and "
            "Llama-3.2-1B about 4.6. (Take a small model|Choose a model up to 1B)."
        )
    return (
        f"Only the smallest models (run|fit) on {name}, with {board.ram} of RAM and slow memory. "
        "On a Zero 2 W, SmolLM-360M gives 2.6 tokens per second."
    )


def _values(rng: random.Random, board: Board) -> dict[str, str]:
    """What the patterns of an attribute may name."""
    name = title(rng, board)
    cores = f"four {board.core} cores at {board.clock}"
    uses = (
        f"{name} is {board.kind}. It has {board.ram} of RAM.",
        f"{name} is {board.kind}: {cores}, with {board.ram} of RAM.",
        f"It is {board.kind}. {name} comes with {board.ram} of RAM.",
    )
    return {key: str(getattr(board, key)) for key in PLAIN} | {
        "B": name,
        "watts": _watts(name, board),
        "dotprod": _dotprod(name, board),
        "price": _price(name, board),
        "llm": _llm(name, board),
        "use": sentence(rng.choice(uses)),
    }


def attribute(rng: random.Random, board: Board, key: str, question: str) -> Turn:
    """The answer about one attribute of the board to a question already in words."""
    pattern = rng.choice(ATTRIBUTES[key]["say"])
    answer = sentence(expand(rng, pattern.format(**_values(rng, board))))
    return Turn(asked(question), answer, board=board, attribute=key)


def ask_attribute(rng: random.Random) -> Turn:
    """One attribute of one board."""
    board, key = rng.choice(facts.BOARDS), rng.choice(list(ATTRIBUTES))
    ask = expand(rng, rng.choice(ATTRIBUTES[key]["ask"]))
    return attribute(rng, board, key, ask.format(b=named(rng, board)))


def ask_about(rng: random.Random) -> Turn:
    """All of a board, mostly as a list."""
    board = rng.choice(facts.BOARDS)
    ask = expand(rng, rng.choice(PHRASES["about"]["ask"])).format(b=named(rng, board))
    name = sentence(title(rng, board))
    lines = {
        "CPU": f"four {board.core} cores at {board.clock}",
        "chip": board.soc,
        "RAM": board.ram,
        "USB": board.usb,
        "display": board.video,
        "network": board.ethernet,
        "wireless": board.wireless,
        "power": board.supply,
    }
    keys = list(lines)[: rng.choice((5, 6, 8))] if rng.random() < 0.5 else list(lines)
    listed = "\n".join(f"- {key}: {lines[key]}" for key in keys)
    prose = (
        f"{name} is {board.kind}. It has four {board.core} cores at {board.clock} and "
        f"{board.ram} of RAM, {board.usb}, {board.video} and {board.wireless}."
    )
    answer = f"{name} is {board.kind}:\n\n{listed}" if rng.random() < 0.7 else prose
    return Turn(asked(ask), answer, board=board, attribute="about")


def ask_compare(rng: random.Random) -> Turn:
    """Two boards, whole or by speed or RAM."""
    a, b = rng.sample(facts.BOARDS, 2)
    kind = rng.choice(("all", "all", "faster", "ram"))
    ask = expand(rng, rng.choice(PHRASES["compare"][kind]["ask"]))
    return compare(rng, a, b, kind, ask.format(a=named(rng, a), b=named(rng, b)))


def compare(rng: random.Random, a: Board, b: Board, kind: str, question: str) -> Turn:
    """The answer that sets two boards side by side, to a question already in words."""
    first, second = title(rng, a), title(rng, b)
    if kind == "all":
        answer = (
            f"{sentence(first)} and {second}:\n\n"
            f"- CPU: {a.core} at {a.clock}, against {b.core} at {b.clock}\n"
            f"- RAM: {a.ram}, against {b.ram}\n- USB: {a.usb}, against {b.usb}\n\n"
            f"{_faster(rng, a, b)}"
        )
    elif kind == "ram":
        answer = _more_ram(rng, a, b, first, second)
    else:
        answer = _faster(rng, a, b)
    return Turn(asked(question), answer, board=a, other=b, attribute=f"compare.{kind}")


def _rank(board: Board) -> tuple[int, int]:
    return CORE_ORDER.index(board.core), board.mhz


def _faster(rng: random.Random, a: Board, b: Board) -> str:
    if _rank(a) == _rank(b):
        both = f"{title(rng, a)} and {title(rng, b)}"
        cores = f"four {a.core} cores at {a.clock}"
        patterns = (
            f"(Both {both} have|Neither is faster: both {both} have) {cores}.",
            f"{both} are equally fast: {cores}.",
        )
        return sentence(expand(rng, rng.choice(patterns)))
    win, lose = (a, b) if _rank(a) > _rank(b) else (b, a)
    w, o = title(rng, win), title(rng, lose)
    fast, slow = f"{win.core} cores at {win.clock}", f"{lose.core} at {lose.clock}"
    patterns = (
        f"{w} is faster: {fast}, while {o} has {slow}.",
        f"{w} is (the faster one|the faster board), with {fast} against {slow}.",
    )
    return sentence(expand(rng, rng.choice(patterns)))


def _more_ram(rng: random.Random, a: Board, b: Board, first: str, second: str) -> str:
    if a.ram_gb[-1] == b.ram_gb[-1]:
        return expand(rng, f"{sentence(first)} and {second} (both |)go up to {a.ram_most} of RAM.")
    if a.ram_gb[-1] < b.ram_gb[-1]:
        a, b, first, second = b, a, second, first
    pattern = (
        f"{first} (can have|offers|has) more RAM: (up to |){a.ram_most}, "
        f"against {b.ram_most} for {second}."
    )
    return sentence(expand(rng, pattern))


def ask_job(rng: random.Random) -> Turn:
    """Which board suits a job."""
    job = rng.choice(PHRASES["job"])
    wish, name = expand(rng, rng.choice(job["ask"])), rng.choice(job["board"])
    ask = expand(rng, rng.choice(PHRASES["jobs"]["ask"])).format(job=wish)
    said = wish.replace("my ", "your ") if wish != "me" else "you"
    values = {"job": said, "B": name, "why": job["why"], "Why": sentence(job["why"])}
    answer = rng.choice(PHRASES["jobs"]["say"]).format(**values)
    return Turn(asked(ask), answer, board=facts.board(name), attribute="use")


def ask_unknown(rng: random.Random) -> Turn:
    """A board that the model was not taught about."""
    name = rng.choice(PHRASES["unknown"]["names"])
    ask = expand(rng, rng.choice(PHRASES["unknown"]["ask"]).format(u=name))
    return Turn(asked(ask), rng.choice(PHRASES["unknown"]["say"]).format(u=name))
