"""Guessed tokens against plain decode, by kind of text, and against llama.cpp's own programs.

    python -m benchmarks.speculation MODEL.gguf --prompts 200
    python -m benchmarks.speculation MODEL.gguf --prompts 40 --peers --draft SMALL.gguf

Each prompt is answered greedily with and without guesses by one engine, in turn (A B, B A), after
one reading of the prompt, so that both begin with the same KV cache; the ids of both are compared.
The prompts of the four kinds are those of ``recipes/speculation.toml`` and as many again as are
asked for, made of the texts that certificates are measured on, of this project's own files and of
questions.

``--peers``: the same prompts by llama-lookup, and with ``--draft`` by llama-speculative-simple, of
the same llama.cpp; their n-grams are of the prompt and the answer too. ``--acceptance`` prints what
``recipes/speculation.toml`` keeps: how many tokens of the plain answers a pass of 2, 4, 8 or 16
would have given. Run it on a quiet machine. The last line on stdout is JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import statistics
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from benchmarks import peer
from pitool.catalog.kv_types import KV_TYPES
from pitool.catalog.model_argument import find_runnable
from pitool.catalog.task_kinds import task_kinds
from pitool.device.settings import settings_for, with_guesses
from pitool.engine import worker
from pitool.engine.base import Engine, Message, Sampling, Settings, Timings
from pitool.engine.speculation.guesses import Ngrams

ROOT = Path(__file__).parents[1]
CONTEXT = 2048
GOALS = {"edit": 1.3, "summary": 1.3, "code": 1.3, "chat": 0.98}
PASSES = (2, 4, 8, 16)
OURS = "pitool"
TOPICS = (
    "the moon", "bread", "a violin", "volcanoes", "the printing press", "bees", "tides", "chess",
    "a compost heap", "the Roman roads", "glass", "sleep", "coral reefs", "a steam engine", "tea",
    "lightning", "maps", "the human ear", "cheese", "a sailing boat", "snow", "the alphabet",
)  # fmt: skip
QUESTIONS = (
    "Tell me something surprising about {}.",
    "Explain to a child how {} came to be.",
    "Write a short poem about {}.",
)


@dataclass(slots=True)
class Side:
    """Answers of one kind by one program: tokens/s of each, with what was guessed."""

    rates: list[float] = field(default_factory=list)
    guessed: int = 0
    accepted: int = 0

    def add(self, timings: Timings) -> None:
        """Take in an answer."""
        self.rates.append(timings.decode_rate)
        self.guessed += timings.guessed_tokens
        self.accepted += timings.accepted_tokens


@dataclass(slots=True)
class Kind:
    """What came of one kind of text; ``ids`` of the plain answers, after their prompts' ids."""

    plain: Side = field(default_factory=Side)
    guessing: Side = field(default_factory=Side)
    alike: int = 0
    different: list[str] = field(default_factory=list)
    ids: list[tuple[list[int], list[int]]] = field(default_factory=list)
    peers: dict[str, Side] = field(default_factory=dict)

    @property
    def ratios(self) -> list[float]:
        """Guessing over plain decode, of each prompt."""
        pairs = zip(self.guessing.rates, self.plain.rates, strict=False)
        return [ours / theirs for ours, theirs in pairs]


def prompts(count: int) -> Iterator[tuple[str, str]]:
    """Yield so many prompts with their kinds, all kinds alike often."""
    kinds = {name: list(kind.prompts) for name, kind in task_kinds().items()}
    choice = random.Random(1)
    prose = [p for p in _paragraphs(ROOT / "recipes" / "texts" / "en.txt", ROOT / "docs") if p]
    code = list(_functions(ROOT / "pitool"))
    topics = [q.format(t) for q in QUESTIONS for t in TOPICS]
    for texts in (prose, code, topics):
        choice.shuffle(texts)
    orders = (
        "Correct the mistakes in this text and return all of it:",
        "Rewrite this text, with every number as a word, and return all of it:",
    )
    made = {
        "edit": [f"{orders[at % 2]}\n\n{text}" for at, text in enumerate(prose)],
        "summary": [f"Summarise this text in three sentences:\n\n{text}" for text in prose[::-1]],
        "code": [f"Add a comment to each line of this code:\n\n```python\n{c}\n```" for c in code],
        "chat": topics,
    }
    each = -(-count // len(kinds))
    columns = [[(name, text) for text in (kinds[name] + made[name])[:each]] for name in kinds]
    yield from (asked for row in zip(*columns, strict=True) for asked in row)


def _paragraphs(*places: Path) -> Iterator[str]:
    for place in places:
        for path in [place] if place.is_file() else sorted(place.rglob("*.md")):
            for text in re.split(r"\n\s*\n", path.read_text(encoding="utf-8")):
                if 300 < len(text) < 1200 and text[0].isalpha():
                    yield text.strip()


def _functions(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*.py")):
        for text in re.split(r"\n\n\n", path.read_text(encoding="utf-8")):
            if text.startswith("def ") and 300 < len(text) < 1500:
                yield text.strip()


def measure(
    engine: Engine, asked: Sequence[tuple[str, str]], tokens: int, turns: int
) -> dict[str, Kind]:
    """Answer all prompts with and without guesses, in turn; as many as there are until Ctrl-C."""
    found: dict[str, Kind] = {}
    with suppress(KeyboardInterrupt):
        for number, (name, prompt) in enumerate(asked):
            _ask(engine, found.setdefault(name, Kind()), number, prompt, tokens, turns)
            peer.say(f"{number + 1} of {len(asked)}")
    return found


def _ask(engine: Engine, kind: Kind, number: int, prompt: str, tokens: int, turns: int) -> None:
    """Answer one prompt with and without guesses, in turn."""
    for turn in range(turns):
        order = (False, True) if (number + turn) % 2 == 0 else (True, False)
        ids = {}
        engine.clear()
        list(engine.stream([Message("user", prompt)], Sampling(temperature=0, max_tokens=1)))
        for speculate in order:
            greedy = Sampling(temperature=0, max_tokens=tokens, speculate=speculate)
            steps = list(engine.stream([Message("user", prompt)], greedy))
            ids[speculate] = [t.id for t in steps if t.id is not None]
            if len(ids[speculate]) > 8:  # the rate of a few tokens is noise
                (kind.guessing if speculate else kind.plain).add(steps[-1].timings)
        if ids[False] != ids[True]:
            kind.different.append(prompt)
            if len(ids[False]) <= 8 < len(ids[True]) or len(ids[True]) <= 8 < len(ids[False]):
                (kind.guessing if len(ids[True]) > 8 else kind.plain).rates.pop()
        kind.alike += ids[False] == ids[True]
    kind.ids.append((engine.tokenize([Message("user", prompt)]), ids[False]))


# -- llama.cpp's own -----------------------------------------------------------------------

_DECODED = re.compile(r"decoded\s+(\d+) tokens in\s+([\d.]+) seconds")
_COUNTS = re.compile(r"\bn_(drafted|accept)\s+= (\d+)")


def ask_peer(program: str, model: Path, prompt: str, settings: Settings, tokens: int,
             extra: Sequence[str]) -> tuple[float, int, int]:  # fmt: skip
    """Return the tokens/s of one answer, and how many tokens were guessed and accepted."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        file.write(prompt)
        file.flush()
        threads = str(settings.decode_threads)
        order = [
            "-m", str(model), "-f", file.name, "-n", str(tokens), "-t", threads, "-tb", threads,
            "-c", str(settings.context), "-ctk", settings.kv_type, "-ctv", settings.kv_type,
            "--temp", "0", "-lv", "4", *extra,
        ]  # fmt: skip
        done = subprocess.run(
            [peer.program(program), *order], capture_output=True, text=True, errors="replace"
        )
    said = done.stderr + done.stdout
    match = _DECODED.search(said)
    if match is None:
        raise SystemExit(f"{program} ended with {done.returncode}:\n{said[-2000:]}")
    counts = {name: int(value) for name, value in _COUNTS.findall(said)}
    # The first token of llama-lookup comes of the prompt's logits, before any pass.
    rate = (int(match[1]) - (program == peer.LOOKUP)) / float(match[2])
    return rate, counts.get("drafted", 0), counts.get("accept", 0)


def measure_peers(
    engine: Engine,
    model: Path,
    draft: Path | None,
    asked: Sequence[tuple[str, str]],
    found: Mapping[str, Kind],
    tokens: int,
) -> None:
    """Answer prompts by llama.cpp's programs, ours right before and after each."""
    settings = engine.info.settings
    programs = {peer.LOOKUP: ["--spec-draft-n-max", "7"]}
    if draft is not None:
        kv_type = settings.kv_type
        programs[peer.SPECULATIVE] = [
            "-md", str(draft), "--spec-type", "draft-simple", "--spec-draft-n-max", "7",
            "-ctkd", kv_type, "-ctvd", kv_type,
        ]  # fmt: skip
    for number, (name, prompt) in enumerate(asked):
        ids = engine.tokenize([Message("user", prompt)])
        text = engine.detokenize(ids)
        for program, extra in programs.items():
            side = found[name].peers.setdefault(program, Side())
            rate, guessed, accepted = ask_peer(program, model, text, settings, tokens, extra)
            side.rates.append(rate)
            side.guessed += guessed
            side.accepted += accepted
        engine.clear()
        steps = list(engine.stream(ids, Sampling(temperature=0, max_tokens=tokens)))
        found[name].peers.setdefault(OURS, Side()).add(steps[-1].timings)
        peer.say(f"peers: {number + 1} of {len(asked)}")


# -- acceptance ----------------------------------------------------------------------------


def tokens_per_pass(prompt: Sequence[int], answer: Sequence[int], size: int) -> float:
    """Return how many tokens of an answer a pass of so many would have given, by n-grams."""
    ngrams, at, passes = Ngrams([*prompt, *answer[:1]]), 1, 0
    while at < len(answer):
        place, length = ngrams.find()
        guesses = ngrams.after(place, size - 1) if length else []
        held = 0
        while held < len(guesses) and answer[at + held : at + held + 1] == [guesses[held]]:
            held += 1
        ngrams.extend(answer[at : at + held + 1])
        at, passes = at + held + 1, passes + 1
    return (len(answer) - 1) / passes if passes else 1.0


def acceptance(found: Mapping[str, Kind]) -> dict[str, dict[str, list[float]]]:
    """Return the least and most tokens of a pass over the middle half of the prompts."""
    shown: dict[str, dict[str, list[float]]] = {}
    for name, kind in found.items():
        shown[name] = {}
        for size in PASSES:
            values = [tokens_per_pass(*ids, size) for ids in kind.ids if len(ids[1]) > 8]
            low, _, high = statistics.quantiles(values, n=4)
            shown[name][str(size)] = [round(low, 2), round(high, 2)]
    return shown


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--draft", type=Path)
    parser.add_argument("--kv-type", choices=KV_TYPES, help="of the KV cache")
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--acceptance", action="store_true")
    order = parser.parse_args()
    runnable = find_runnable(order.model)
    draft = find_runnable(order.draft) if order.draft else None
    settings = settings_for(runnable, CONTEXT, threads=order.threads)
    settings = with_guesses(settings, draft, speculate=True)
    settings = replace(settings, kv_type=order.kv_type or settings.kv_type)
    asked = list(prompts(order.prompts))
    with closing(worker.start(runnable.format, runnable.entry, settings)) as engine:
        measure(engine, asked[:1], 32, 1)
        found = measure(engine, asked, order.tokens, order.turns)
        if order.peers:
            measure_peers(engine, runnable.entry, order.draft, asked, found, order.tokens)
    document = report(found)
    if order.acceptance:
        document["acceptance"] = acceptance(found)
        print(json.dumps(document["acceptance"], indent=2))
    print(json.dumps(document))


def report(found: Mapping[str, Kind]) -> dict[str, object]:
    """Print a line for each kind; return all figures."""
    document: dict[str, object] = {}
    for name, kind in found.items():
        ratio = statistics.median(kind.ratios)
        low, high = min(kind.ratios), max(kind.ratios)
        goal = GOALS[name]
        print(
            f"{name:>8}  plain {statistics.median(kind.plain.rates):7.1f} t/s  with guesses"
            f" {statistics.median(kind.guessing.rates):7.1f} t/s  ratio {ratio:.3f}"
            f" ({low:.2f} to {high:.2f}; goal {goal}{'' if ratio >= goal else ', missed'})"
            f"  {kind.guessing.accepted} of {kind.guessing.guessed} held"
            f"  alike {kind.alike} of {kind.alike + len(kind.different)}"
        )
        for program, side in kind.peers.items():
            print(
                f"{'':>8}  {program}: {statistics.median(side.rates):.1f} t/s,"
                f" {side.accepted} of {side.guessed} held{_against(kind, program)}"
            )
        document[name] = {
            "ratio": ratio,
            "ratios": kind.ratios,
            "plain": asdict(kind.plain),
            "guessing": asdict(kind.guessing),
            "alike": kind.alike,
            "different": kind.different,
            "peers": {program: asdict(side) for program, side in kind.peers.items()},
        }
    return document


def _against(kind: Kind, program: str) -> str:
    """Return how pitool's answers compare with a peer's to the same prompts, for people."""
    if program == OURS:
        return ""
    pairs = zip(kind.peers[OURS].rates, kind.peers[program].rates, strict=True)
    ratios = [ours / theirs for ours, theirs in pairs]
    return (
        f", ours over it {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    )


if __name__ == "__main__":
    main()
