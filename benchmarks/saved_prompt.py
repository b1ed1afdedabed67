"""TTFT after a long system prompt: read before and saved in the bundle, against reading it.

    python -m benchmarks.saved_prompt --tokens 5000 --pairs 3
    python -m benchmarks.saved_prompt --emulate pi5 [--wait 1800]

Here each run is a worker of its own, with what the bundle has read and without, in turn. With
``--emulate`` the sample model in float32 goes to an emulated board as a .pi with the prompt that
this machine has read; there both are run, by ``pitool run`` from its start to its end as well. The
emulated times say nothing about a board, their ratio does: a board has less memory bandwidth for
the file, and less arithmetic for the prompt. The target is a ratio of at most 0.05 and, in float32,
the same answer. Reading is broken off after ``--wait`` seconds: the ratio is then the largest that
it can be, and the answers are not compared. The last line on stdout is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import models
from benchmarks.install import EMULATOR
from benchmarks.peer import cache, say
from pitool.catalog import manifest
from pitool.catalog.bundles import Bundle, Runnable, choose
from pitool.catalog.gguf import read_header
from pitool.catalog.manifest import Artifact, Manifest, Source
from pitool.device.settings import settings_for
from pitool.engine import worker
from pitool.engine.base import ChatPrompt, Message, Sampling
from pitool.engine.prefills import bundled
from pitool.engine.prefills.bundled import places_of

TARGET = 0.05
CONTEXT = 8192
GREEDY = Sampling(temperature=0.0, max_tokens=32)
WORDS = "The board has memory, cores and a fan, and it answers questions about them. "
QUESTION = "Which of these boards is the best?"


@dataclass(frozen=True, slots=True)
class Pair:
    """Seconds to the first token read anew and read before, and whether both answer alike.

    ``alike``: None where reading was broken off after ``anew`` seconds.
    """

    anew: float
    before: float
    alike: bool | None
    reused: int

    @property
    def ratio(self) -> float:
        """What is left of the waiting."""
        return self.before / self.anew


def bundle_of(path: Path, folder: Path) -> Bundle:
    """Return a bundle of a GGUF file, planned for ``CONTEXT`` tokens."""
    header = read_header(path)
    folder.mkdir()
    copy = folder / path.name
    copy.hardlink_to(path)
    files = (manifest.file_entry(copy, folder),)
    artifact = Artifact(
        "gguf", header.quantisation, files, header.architecture, 1, CONTEXT, 4.5, (), ()
    )
    made = Manifest(path.stem, Source(path.stem, None, ()), "8gb", None, "", {}, (artifact,))
    manifest.write(folder, made)
    return Bundle(folder, made)


def prompt_of(runnable: Runnable, tokens: int) -> str:
    """Return a system prompt of about so many tokens."""
    settings = settings_for(runnable)
    with worker.start(runnable.format, runnable.entry, settings) as engine:
        each = len(engine.tokenize(WORDS * 100)) / 100
    return WORDS * round(tokens / each)


def ask(runnable: Runnable, system: str, *, before: bool) -> tuple[float, list[int], int]:
    """Return TTFT, the answer and how many tokens were reused, in a worker of its own."""
    settings = settings_for(runnable)
    places = places_of(runnable, settings) if before else []
    prompt = ChatPrompt((Message("system", system), Message("user", QUESTION)))
    with worker.start(runnable.format, runnable.entry, settings, prefixes=places) as engine:
        tokens = list(engine.stream(prompt, GREEDY))
    timings = tokens[-1].timings
    ids = [token.id for token in tokens if token.id is not None]
    # An answer that ends at once has no first token, but was ready for one.
    return timings.ttft_seconds or timings.prefill_seconds, ids, timings.reused_tokens


def here(path: Path, tokens: int, pairs: int, *, compact: bool) -> list[Pair]:
    """Return pairs of runs on this machine."""
    with tempfile.TemporaryDirectory(dir=cache() / "tmp") as folder:
        runnable = choose(bundle_of(path, Path(folder) / "bundle"))
        system = prompt_of(runnable, tokens)
        prompt = ChatPrompt((Message("system", system),))
        file = Path(folder) / "system.txt"
        file.write_text(system, encoding="utf-8")
        assert runnable.bundle is not None
        bundled.add_prompt(runnable.bundle, file)
        with worker.start(runnable.format, runnable.entry, settings_for(runnable)) as engine:
            made = bundled.read(
                engine, runnable, "system", prompt, lambda *_: None, compact=compact
            )
        say(f"{made.tokens} tokens in {made.bytes / 1e6:.1f} MB, read in {made.seconds:.1f} s")
        found = []
        for number in range(pairs):
            order = (False, True) if number % 2 == 0 else (True, False)
            runs = {before: ask(runnable, system, before=before) for before in order}
            (anew, first, _), (fast, second, reused) = runs[False], runs[True]
            found.append(Pair(anew, fast, first == second, reused))
        return found


def pitool(*words: object) -> str:
    """Run pitool and return its stdout."""
    done = subprocess.run(
        [sys.executable, "-m", "pitool", *map(str, words)], check=True, stdout=subprocess.PIPE
    )
    return done.stdout.decode()


STEPS = """
set -e
mkdir s && tar -xf /share/sample.pi -C s && s/install.sh >&2
ask() {{
    date +%s.%N
    timeout --signal INT --kill-after 60 "$1" \\
        pitool run bundle "{question}" --prefill "$2" --temp 0 --max-tokens 32 --json \\
        || {{ [ $? -eq 124 ]; echo {{}}; }}
    date +%s.%N
}}
ask 0 system
mv ~/.local/share/pitool/bundles/bundle/prefills .
ask {wait:g} prefills/system.txt
"""


def emulated(board: str, tokens: int, wait: float) -> tuple[Pair, tuple[float, float]]:
    """Return a pair on an emulated board, and the seconds of both commands.

    ``wait``: seconds after which reading is broken off, 0 for never.
    """
    with tempfile.TemporaryDirectory(dir=cache() / "tmp") as folder:
        share, bundle = Path(folder) / "share", Path(folder) / "bundle"
        share.mkdir()
        pitool("convert", "sample", "--ram", "1gb", "--quant", "F32", "--out", bundle)
        whole = manifest.read(bundle)
        planned = replace(whole.artifacts[0], kv_type="f32", context=CONTEXT)
        manifest.write(bundle, replace(whole, artifacts=(planned,)))
        system = Path(folder) / "system.txt"
        system.write_text(prompt_of(choose(Bundle(bundle, manifest.read(bundle))), tokens))
        target = share / "sample.pi"
        pitool("pack", bundle, "--board", board, "--prefill", system, "-o", target)
        script = STEPS.format(question=QUESTION, wait=wait)
        command = [str(EMULATOR), str(cache() / "rootfs/bookworm"), board, str(share)]
        command += ["bash", "-c", script]
        out = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.decode()
    started, fast, ended, again, slow, last = out.splitlines()
    before, anew = json.loads(fast), json.loads(slow)
    commands = float(last) - float(again), float(ended) - float(started)
    seconds, alike = wait, None
    if anew:
        seconds, alike = _waited(anew), anew["ids"] == before["ids"]
    return Pair(seconds, _waited(before), alike, before["reused_tokens"]), commands


def _waited(run: dict[str, Any]) -> float:
    """Return the seconds to the first token, or to where there could have been one."""
    read = run["prompt_tokens"] - run["reused_tokens"]
    return float(run["ttft_seconds"] or read / run["prefill_tokens_per_second"])


def main() -> None:
    """Print a line a pair, then JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", nargs="?", type=Path, help="a GGUF; else one of --shape")
    parser.add_argument("--shape", default="135m")
    parser.add_argument("--quant", default="Q4_0")
    parser.add_argument("--tokens", type=int, default=5000)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--compact", action="store_true", help="saved in q8_0")
    parser.add_argument("--emulate", metavar="BOARD", help="pi3, pi4 or pi5")
    parser.add_argument("--wait", type=float, default=0.0, help="seconds, with --emulate")
    asked = parser.parse_args()
    (cache() / "tmp").mkdir(parents=True, exist_ok=True)
    more: dict[str, Any] = {}
    if asked.emulate:
        pair, commands = emulated(asked.emulate, asked.tokens, asked.wait)
        pairs, more = [pair], {"command_seconds": commands}
    else:
        path = asked.model or models.gguf(asked.shape, asked.quant)
        pairs = here(path, asked.tokens, asked.pairs, compact=asked.compact)
    answers = {None: "broken off", True: "same answer", False: "another answer"}
    for each in pairs:
        print(
            f"TTFT read anew {each.anew:8.2f} s  read before {each.before:7.3f} s"
            f"  ratio {each.ratio:.4f}  {answers[each.alike]}"
            f"  {each.reused} tokens reused"
        )
    ratio = statistics.median(each.ratio for each in pairs)
    result = {"benchmark": "saved_prompt", "ratio": ratio, "target": TARGET, **more}
    print(json.dumps({**result, "pairs": [asdict(p) for p in pairs], "met": ratio <= TARGET}))


if __name__ == "__main__":
    main()
