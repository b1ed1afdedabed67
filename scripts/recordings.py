"""Record real commands in a terminal, and draw the recordings as animated SVG into docs/pictures.

python -m scripts.recordings draw             # from scripts/casts: the same pictures every time
python -m scripts.recordings record plan chat # run the commands anew, then draw them

A recording runs in a home of its own, /tmp/pi, with the sample bundle; `demo` installs a clone of
this repository there, which takes some minutes. Needs ``pip install pyte``.
"""

from __future__ import annotations

import codecs
import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyte

from scripts.cast_svg import LONGEST, known, to_svg

ROOT = Path(__file__).resolve().parent.parent
CASTS = ROOT / "scripts" / "casts"
PICTURES = ROOT / "docs" / "pictures"
HOME = Path("/tmp/pi")  # noqa: S108 - it is seen in the pictures
PROMPT = "$ "
KEY_SECONDS, SECONDS = 0.055, 1800
WAIT = 20.0  # seconds that a command seems to take at most
BUNDLE = "sample-1gb"
ANSWERED = r"\d+ tokens · [\d.]+ t/s"  # below an answer that is complete


@dataclass(frozen=True, slots=True)
class Step:
    """Keys that are typed once the screen shows ``after``; by default the shell's prompt."""

    keys: str
    after: str = r"(^|\n)\$$"
    pause: float = 0.6


@dataclass(frozen=True, slots=True)
class Recording:
    """``size``: columns and lines; ``prepare`` makes what the commands need."""

    title: str
    size: tuple[int, int]
    steps: tuple[Step, ...]
    prepare: Callable[[], None] = lambda: None
    folder: Path = HOME
    variables: dict[str, str] = field(default_factory=dict)


def _bundle() -> None:
    """Convert the sample model."""
    _run(str(ROOT / ".venv/bin/pitool"), "convert", "sample", "--ram", "1gb", "--quant", "Q4_K_M")


def _clone() -> None:
    _run("git", "clone", "--quiet", str(ROOT), str(HOME / "pitool"))


def _run(*words: str) -> None:
    subprocess.run(words, check=True, env=_environment(), stdout=subprocess.DEVNULL)


RECORDINGS = {
    "demo": Recording(
        "from a clone to a chat",
        (88, 26),
        (
            Step("./install.sh demo\r"),
            Step("y", after=r"Open the chat now\? \[Y/n\]$", pause=1.5),
            Step("\r", after=""),
            Step("Which board should I buy?", after="Ready", pause=1.0),
            Step("\r", after=""),
            Step("\x11", after=ANSWERED, pause=3.0),
        ),
        _clone,
        HOME / "pitool",
    ),
    "plan": Recording(
        "what fits, and how fast",
        (88, 24),
        (
            Step("pitool plan 3B\r"),
            Step("pitool plan 14B --board pi5\r", pause=3.0),
            Step("pitool plan 3B --target-tps 5\r", pause=3.0),
            Step("", pause=3.0),
        ),
    ),
    "chat": Recording(
        "a chat in the terminal",
        (88, 26),
        (
            Step(f"pitool chat {BUNDLE}\r"),
            Step("What is a Raspberry Pi 5?", after="Ready", pause=1.0),
            Step("\r", after=""),
            Step("/", after=ANSWERED, pause=2.5),
            Step("he", after="/help", pause=0.8),
            Step("\x15", pause=1.2, after=""),
            Step("\x11", pause=1.0, after=""),
        ),
        _bundle,
    ),
}


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("LANG", "SSL_CERT_FILE") if name in os.environ}
    return {
        **kept,
        "HOME": str(HOME),
        "PATH": f"{ROOT / '.venv/bin'}:/usr/local/bin:/usr/bin:/bin",
        "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache")),
        "TERM": "xterm-256color",
        "COLORTERM": "truecolor",
        "LANG": os.environ.get("LANG", "C.UTF-8"),
        "PS1": PROMPT,
    }


def record(made: Recording) -> list[tuple[float, str]]:
    """Run the steps in a shell in a terminal; return what it wrote, and when in seconds."""
    ours, theirs = pty.openpty()
    columns, lines = made.size
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    shell = subprocess.Popen(
        ["bash", "--noprofile", "--norc", "-i"],
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, cwd=made.folder,
        env={**_environment(), **made.variables}, preexec_fn=_own_terminal,
    )  # fmt: skip
    os.close(theirs)
    try:
        return list(_play(ours, made))
    finally:
        os.killpg(shell.pid, signal.SIGHUP)
        shell.wait()
        os.close(ours)


def _own_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _play(ours: int, made: Recording) -> Iterator[tuple[float, str]]:
    begun = time.monotonic()
    screen = pyte.Screen(*made.size)
    stream = pyte.Stream(screen)
    decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode

    def written(seconds: float) -> Iterator[tuple[float, str]]:
        """Yield what comes within a time, and show it on the screen."""
        ready, _, _ = select.select([ours], [], [], seconds)
        if ready:
            text = decode(os.read(ours, 65536))
            stream.feed(known(text))
            yield time.monotonic() - begun, text

    saved = 0.0
    for step in made.steps:
        start = time.monotonic()
        waited: list[tuple[float, str]] = []
        while not re.search(step.after, _shown(screen)):
            if time.monotonic() > start + SECONDS:
                raise SystemExit(f"never seen: {step.after}; the screen:\n{_shown(screen)}")
            waited += written(0.2)
        took = time.monotonic() - start
        pace = min(WAIT / took, 1.0) if took else 1.0
        yield from (
            (start - begun + (when - start + begun) * pace - saved, text) for when, text in waited
        )
        saved += took * (1 - pace)
        for seconds, key in [(step.pause, ""), *((KEY_SECONDS, key) for key in step.keys)]:
            os.write(ours, key.encode())
            until = time.monotonic() + seconds
            while (left := until - time.monotonic()) > 0:
                yield from ((when - saved, text) for when, text in written(left))


def _shown(screen: pyte.Screen) -> str:
    return "\n".join(line.rstrip() for line in screen.display).rstrip()


def write(path: Path, made: Recording, events: list[tuple[float, str]]) -> None:
    """Write a recording as asciicast v2: no wait is longer than it is shown."""
    columns, lines = made.size
    head = {"version": 2, "width": columns, "height": lines, "title": made.title}
    out, clock, before = [json.dumps(head)], 0.0, 0.0
    for when, text in events:
        clock += min(when - before, LONGEST)
        before = when
        out.append(json.dumps([round(clock, 2), "o", text], ensure_ascii=False))
    path.write_text("\n".join(out) + "\n", encoding="utf-8")


def main() -> None:
    """Record or draw what is named, or all."""
    verb, *names = sys.argv[1:] or ["draw"]
    if verb not in ("record", "draw"):
        raise SystemExit(__doc__)
    PICTURES.mkdir(parents=True, exist_ok=True)
    CASTS.mkdir(exist_ok=True)
    for name in names or RECORDINGS:
        cast = CASTS / f"{name}.cast"
        if verb == "record":
            made = RECORDINGS[name]
            if HOME.exists():
                raise SystemExit(f"{HOME} is there already: move it away")
            HOME.mkdir()
            try:
                made.prepare()
                write(cast, made, record(made))
            finally:
                shutil.rmtree(HOME)
        (PICTURES / f"demo-{name}.svg").write_text(to_svg(cast), encoding="utf-8")


if __name__ == "__main__":
    main()
