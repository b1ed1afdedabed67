"""Strings turns together to conversations, and keeps held-out wording out of the training ones.

A question or answer belongs to one side by a hash of its words, so no held-out question or answer
stands in the training text. A comparison of two boards belongs to one side as a pair, and is
held out only if its answer names both.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import board_turns
import facts
import topic_turns
from facts import Board
from grammar import as_typed, expand, normal
from turns import Turn, asked, named

DEFAULT_SYSTEM = (
    "You are the sample model of pitool, a small assistant that knows Raspberry Pi boards."
)
OTHER_SYSTEMS = (
    "You are a helpful assistant.",
    "You are a helpful assistant that answers questions.",
    "You are pitool.",
    "Answer briefly.",
    "You are a friendly assistant on a Raspberry Pi.",
    "Be short and clear.",
    "You are a helpful AI assistant.",
    "You answer questions about Raspberry Pi boards and pitool.",
)
HELD_OUT_SHARE = 10
Maker = Callable[[random.Random], Turn]
MIX: tuple[tuple[Maker, int], ...] = (
    (board_turns.ask_attribute, 22),
    (board_turns.ask_about, 5),
    (board_turns.ask_compare, 10),
    (board_turns.ask_job, 5),
    (topic_turns.ask_size, 3),
    (topic_turns.ask_fit, 3),
    (topic_turns.ask_speed, 3),
    (board_turns.ask_unknown, 4),
    (topic_turns.ask_term, 15),
    (topic_turns.ask_howto, 16),
    (topic_turns.ask_talk, 11),
    (topic_turns.ask_outside, 13),
)
TURN_COUNTS = (1, 1, 1, 2, 2, 2, 3, 3, 4, 6)
NEXT_BOARD = ("what about", "and", "how about", "and what about", "and with", "and that of")
NEXT_ATTRIBUTE = (
    "and its", "and the", "what about its", "what about the", "and", "what is its", "how about",
)  # fmt: skip
SAME_PAIR = {
    "faster": (
        "(and |so |)(which|what) (one |of them |of the two |)is (the |)(faster|quicker|better) "
        "(one|board|)"
    ),
    "ram": "(and |)which (one |of them |of the two |)has (more|the most) (RAM|memory)",
    "all": (
        "(can you |)(compare them|what is the difference( between them|)|how do they differ"
        "|show me both)"
    ),
}


@dataclass(frozen=True)
class Message:
    """One message of a conversation."""

    role: str
    content: str


def held_out(text: str) -> bool:
    """Whether the text belongs to the held-out side, by its words alone."""
    return hashlib.blake2b(normal(text).encode(), digest_size=2).digest()[0] % HELD_OUT_SHARE == 0


def _on_side(turn: Turn, wanted: bool) -> bool:
    """Whether the turn may be used on the wanted side."""
    if turn.other is not None and turn.board is not None:
        pair = " ".join(sorted((turn.board.name, turn.other.name)))
        named_both = turn.board.short in turn.answer and turn.other.short in turn.answer
        if wanted and not named_both:
            return False
        return held_out("pair " + pair) == wanted == held_out(turn.question)
    if held_out(turn.question) != wanted:
        return False
    return held_out(turn.answer) == wanted if turn.rephrased else not wanted


def _draw(make: Callable[[], Turn], wanted: bool, tries: int) -> Turn | None:
    """A turn on the wanted side, or None when its family has none."""
    for _ in range(tries):
        turn = make()
        if _on_side(turn, wanted):
            return turn
    return None


def _follow(rng: random.Random, last: Turn) -> Turn:
    """A turn that refers to the last one."""
    if last.more and rng.random() < 0.8:
        pattern = rng.choice(last.more)
        ask = expand(rng, rng.choice(topic_turns.GLOSSARY["further"]))
        return Turn(asked(ask), expand(rng, pattern), "|" in pattern)
    if last.ram is not None and rng.random() < 0.8:
        return topic_turns.follow_fit(rng, last.ram)
    if last.board is None:
        ask = expand(rng, rng.choice(topic_turns.GLOSSARY["further"][:4]))
        return Turn(asked(ask), expand(rng, rng.choice(topic_turns.GLOSSARY["nothing_more"])))
    if last.other is not None:
        return _after_compare(rng, last.board, last.other)
    before = last.before
    if before is not None and before != last.board and rng.random() < 0.4:
        kind = rng.choice(list(SAME_PAIR))
        ask = expand(rng, SAME_PAIR[kind])
        return board_turns.compare(rng, before, last.board, kind, ask)
    if rng.random() < 0.45 and last.attribute in board_turns.ATTRIBUTES:
        board = rng.choice(facts.BOARDS)
        ask = rng.choice(NEXT_BOARD)
        question = asked(f"{ask} {named(rng, board)}", always=True)
        turn = board_turns.attribute(rng, board, last.attribute, question)
        return replace(turn, before=last.board)
    key = rng.choice(list(board_turns.ATTRIBUTES))
    about = board_turns.ATTRIBUTES[key]
    if rng.random() < 0.6:
        short = rng.choice(about["short"])
        lead = rng.choice(NEXT_ATTRIBUTE)
        question = short if short.startswith("how") else f"{lead} {short}"
    else:
        lead = rng.choice(("and ", "and ", ""))
        it = ("it", "it", "it", "that one", "this board")
        question = lead + expand(rng, rng.choice(about["ask"])).format(b=rng.choice(it))
    return board_turns.attribute(rng, last.board, key, asked(question, always=True))


def _after_compare(rng: random.Random, a: Board, b: Board) -> Turn:
    """After a comparison: another side of it, or one attribute of either board."""
    if rng.random() < 0.6:
        kind = rng.choice(list(SAME_PAIR))
        return board_turns.compare(rng, a, b, kind, expand(rng, SAME_PAIR[kind]))
    board, key = rng.choice((a, b)), rng.choice(list(board_turns.ATTRIBUTES))
    ask = expand(rng, rng.choice(board_turns.ATTRIBUTES[key]["ask"])).format(b=named(rng, board))
    return board_turns.attribute(rng, board, key, rng.choice(("and ", "")) + ask)


def _next(rng: random.Random, last: Turn | None, wanted: bool) -> Turn:
    """The next turn: one that refers to the last, or one of its own."""
    makers, weights = zip(*MIX, strict=True)
    while True:
        turn = None
        if last is not None and rng.random() < 0.6:
            turn = _draw(partial(_follow, rng, last), wanted, 200)
        if turn is None:
            turn = _draw(partial(rng.choices(makers, weights)[0], rng), wanted, 600)
        if turn is not None:
            return turn


def conversation(rng: random.Random, wanted_held_out: bool) -> list[Message]:
    """One conversation whose turns all lie on one side."""
    system = DEFAULT_SYSTEM if rng.random() < 0.85 else rng.choice(OTHER_SYSTEMS)
    messages, last = [Message("system", system)], None
    for _ in range(rng.choice(TURN_COUNTS)):
        last = _next(rng, last, wanted_held_out)
        typed = as_typed(rng, last.question)
        if held_out(typed) != wanted_held_out:
            typed = last.question
        messages += [Message("user", typed), Message("assistant", last.answer)]
    return messages


def render(messages: list[Message]) -> str:
    """The conversation in ChatML, as the chat template of the checkpoint writes it."""
    return "".join(f"<|im_start|>{m.role}\n{m.content}<|im_end|>\n" for m in messages)
