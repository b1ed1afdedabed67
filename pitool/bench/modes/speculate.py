"""What guessed tokens gain by kind of text: the same greedy answers with and without them, in turn.

A mode of its own, since random tokens, which the tests decode, repeat nothing.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from pitool.bench.artifact import title_of
from pitool.bench.events import Doing, Figures
from pitool.bench.history import Document
from pitool.bench.modes.base import Measure, Mode, OpenEngine
from pitool.catalog.bundles import Runnable
from pitool.catalog.task_kinds import task_kinds
from pitool.engine.base import Engine, Message, Prompt, Sampling, Settings, Timings
from pitool.errors import UsageError
from pitool.report.numbers import format_fixed, format_rate

CONTEXT = 2048
TOKENS = 192
TURNS = 3


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer: its ids and its timings."""

    ids: tuple[int, ...]
    timings: Timings


@dataclass(frozen=True, slots=True)
class Gain:
    """Of one kind of text, medians over its prompts and turns.

    ``plain`` and ``speculative`` in tokens/s; ``ratio``: of neighbours in time; ``alike`` of
    ``answers`` were the same token by token; ``tokens_per_pass``: least and most over its prompts.
    """

    plain: float
    speculative: float
    ratio: float
    guessed: int
    accepted: int
    alike: int
    answers: int
    tokens_per_pass: tuple[float, float]


def measure_gain(engine: Engine, prompts: Sequence[Prompt], turns: int = TURNS) -> Gain:
    """Answer each prompt with and without guesses, A B, B A, A B, after one reading of it.

    Answers that end at once have no speed and do not count.
    """
    pairs: list[tuple[Answered, Answered]] = []
    shares = []
    for prompt in prompts:
        engine.clear()
        list(engine.stream(prompt, Sampling(temperature=0, max_tokens=1)))
        for turn in range(turns):
            order = (False, True) if turn % 2 == 0 else (True, False)
            found = {speculate: _answer(engine, prompt, speculate) for speculate in order}
            if all(each.timings.decode_rate for each in found.values()):
                pairs.append((found[False], found[True]))
        shares.append(_tokens_per_pass(found[True].timings))
    if not pairs:
        raise UsageError("the model ends every answer at once", "use a model that writes answers")
    rates = [(plain.timings.decode_rate, other.timings.decode_rate) for plain, other in pairs]
    return Gain(
        plain=statistics.median(plain for plain, _ in rates),
        speculative=statistics.median(other for _, other in rates),
        ratio=statistics.median(other / plain for plain, other in rates),
        guessed=sum(other.timings.guessed_tokens for _, other in pairs),
        accepted=sum(other.timings.accepted_tokens for _, other in pairs),
        alike=sum(plain.ids == other.ids for plain, other in pairs),
        answers=len(pairs),
        tokens_per_pass=(min(shares), max(shares)),
    )


def _answer(engine: Engine, prompt: Prompt, speculate: bool) -> Answered:
    greedy = Sampling(temperature=0, max_tokens=TOKENS, speculate=speculate)
    tokens = list(engine.stream(prompt, greedy))
    return Answered(tuple(t.id for t in tokens if t.id is not None), tokens[-1].timings)


def _tokens_per_pass(timings: Timings) -> float:
    """Return how many tokens came of a pass; the first one is the prefill's."""
    passes = timings.decoded_tokens - 1 - timings.accepted_tokens
    return (timings.decoded_tokens - 1) / passes if passes > 0 else 1.0


# -- the mode ------------------------------------------------------------------------------


def _prepare(options: Mapping[str, Any]) -> Measure:
    del options
    return _measure


def _measure(
    runnable: Runnable, settings: Settings, open_engine: OpenEngine, document: Document
) -> Iterator[Doing | Figures]:
    settings = replace(settings, context=min(CONTEXT, runnable.context))
    with open_engine(runnable, settings) as engine:
        if not settings.guesses or engine.info.no_guesses:
            raise UsageError(
                engine.info.no_guesses or "this runtime guesses no tokens",
                "use a model without such a state",
            )
        yield Figures((title_of(runnable),))
        _answer(engine, "warm", False)
        document["kinds"] = kinds = {}
        for name, kind in task_kinds().items():
            yield Doing(f"answering with and without guesses: {name}")
            gain = measure_gain(engine, [[Message("user", p)] for p in kind.prompts])
            kinds[name] = asdict(gain)
            yield Figures((_line(name, gain),))


def _line(name: str, gain: Gain) -> str:
    share = f"{gain.accepted} of {gain.guessed} guesses held" if gain.guessed else "no guesses"
    same = "" if gain.alike == gain.answers else f", {gain.alike} of {gain.answers} answers alike"
    return (
        f"  {name:<8} {format_rate(gain.plain)} without, {format_rate(gain.speculative)} with,"
        f" {format_fixed(gain.ratio, 2)} times; {share}{same}"
    )


def _words(document: Document) -> str:
    return ", ".join(
        f"{name} {format_fixed(found['ratio'], 2)} times"
        for name, found in document["kinds"].items()
    )


MODE = Mode(
    prepare=_prepare,
    words=_words,
)
