"""Prints what the oracle tests compare, counted by family and by kind of setting, as Markdown.

    python -m tests.oracle.table [FAMILY ...]

Runs the cases of ``test_settings`` in the reference and in llama.cpp on our GGUF, those of
``test_transformers_5`` where ``PITOOL_TRANSFORMERS_5`` names a Python that has it, and those of
``test_tokens``. Each count is one comparison with transformers: right, refused by name, or wrong.
``PITOOL_ORACLE=all`` takes every value and pair instead of a sample.
"""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests import small_tokenizers
from tests.conftest import SHARED
from tests.oracle import test_settings, test_transformers_5
from tests.oracle.engine import Engine
from tests.oracle.settings import FAMILIES
from tests.oracle.test_settings import PAIRS, WHOLE, Case, Outcome
from tests.oracle.test_tokenizers import SIZES
from tests.oracle.test_tokens import as_shipped, counted
from tests.tiny import write_tokenizer

# The columns, by the kinds of settings that they hold.
COLUMNS = {
    "rope": ("rope",), "window": ("window",), "norm": ("norm",), "scale, cap": ("scale", "cap"),
    "heads, bias, activation": ("heads", "bias", "activation"),
}  # fmt: skip
BASE, PAIRED, NEWER = "as it is", "pairs", "transformers 5"
TOKENS = ("texts", "chats", "ends")


class Count(Counter[str]):
    """How many comparisons were right, refused by name, and wrong."""

    def add(self, outcome: Outcome) -> None:
        """Count an outcome."""
        self["wrong" if outcome.wrong else "refused" if outcome.refused else "right"] += 1
        if outcome.wrong:
            print(outcome.wrong, file=sys.stderr)

    def __str__(self) -> str:
        return " / ".join(str(self[each]) for each in ("right", "refused", "wrong"))


def column(case: Case) -> str:
    """Return the column that a case belongs to."""
    if len(case.settings) != 1:
        return PAIRED if case.settings else BASE
    settings = FAMILIES[case.kind].settings
    kind = next(each.kind for each in settings if each.name == case.settings[0])
    return next(name for name, kinds in COLUMNS.items() if kind in kinds)


def family(kind: str, engine: Engine, folder: Path) -> dict[str, Count]:
    """Return the counts of a family's settings, by column."""
    counts: dict[str, Count] = defaultdict(Count)
    write_tokenizer(folder, 300)
    make = test_settings.maker(folder / "Tiny-Test-1B", folder / "tokenizer.json")
    alone, paired = test_settings.singles(kind), test_settings.pairs(kind, PAIRS)
    unsaid = [case for case in alone if case.values[0].unsaid]  # which no file is written of
    tried = [*(alone if WHOLE else test_settings.firsts(kind)), *unsaid, *paired]
    for case in [Case(kind, ()), *alone, *paired]:
        made, wanted = make(case)
        if wanted is None:
            continue
        count = counts[column(case)]
        count.add(test_settings.in_reference(case, made, wanted))
        if not case.values or case in tried:
            path = folder / "m.gguf"
            count.add(test_settings.in_engine(case, made, wanted, engine, path))
    return counts


def newer(kinds: Iterable[str], python: str, root: Path) -> Iterator[tuple[str, Count]]:
    """Yield each family's counts of what transformers 5 saves and computes."""
    answer = test_transformers_5.answers(python, root)
    for kind in kinds:
        count = Count()
        for outcome in test_transformers_5.outcomes(answer(kind)):
            count.add(outcome)
        yield kind, count


def tokenizers(root: Path) -> Iterator[list[str]]:
    """Yield the row of each tokenizer: how many of all are transformers'."""
    from transformers import AutoTokenizer

    for i, name in enumerate([*(SIZES if SHARED.is_dir() else ()), *small_tokenizers.KINDS]):
        here = root / f"tokenizer-{i}"
        here.mkdir()
        rows = SIZES.get(name, small_tokenizers.SIZE)
        real = SHARED / "tokenizers" / name
        folder = real if name in SIZES else small_tokenizers.write(here / "c", name)
        tokens, reference = as_shipped(folder, rows, here)
        found = counted(tokens, reference, AutoTokenizer.from_pretrained(folder), here)
        yield [name, *(f"{equal} of {total}" for equal, total in map(found.__getitem__, TOKENS))]


def markdown(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table."""
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def main(kinds: list[str]) -> None:
    """Run everything and print both tables."""
    warnings.simplefilter("ignore")
    os.environ["PITOOL_REFERENCE"] = "pitool"
    python = os.environ.get("PITOOL_TRANSFORMERS_5")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        engine = Engine(root)
        counts = {}
        for kind in kinds:
            (root / kind).mkdir()
            counts[kind] = family(kind, engine, root / kind)
            print(kind, file=sys.stderr)
        engine.close()
        if python:
            (root / "5").mkdir()
            for kind, count in newer(kinds, python, root / "5"):
                counts[kind][NEWER] = count
        columns = [BASE, *COLUMNS, PAIRED, *([NEWER] if python else [])]
        total = Count(sum((sum(each.values(), Counter()) for each in counts.values()), Counter()))
        rows = [
            [kind, *(str(found[each]) if found[each] else "" for each in columns)]
            for kind, found in counts.items()
        ]
        print(f"Right / refused by name / wrong; in all {total}.\n")
        print(markdown(["family", *columns], rows))
        print(markdown(["tokenizer", *TOKENS], tokenizers(root)))


if __name__ == "__main__":
    main(sys.argv[1:] or list(FAMILIES))
