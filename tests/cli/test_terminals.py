"""Text of others on a terminal is shown, never obeyed, whichever way it comes; a pipe has all."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from gguf import GGUFWriter

from pitool.catalog import fault_log
from pitool.errors import harmless
from pitool.report import streams
from tests.cli.conftest import environment
from tests.tiny import write_checkpoint

MARK = "ZXZp"
# The clipboard is filled, the screen cleared, a colour set (by an 8-bit CSI), a link begun, the
# line written over, a character taken back, the rest turned around.
HOSTILE = f"a\x1b]52;c;{MARK}\x07\x1b[2J\x9b31m\x1b]8;;evil\x1b\\b\rc\x08\u202egnp.\u2066\x7f"
OBEYED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]|\r(?!\n)")


def on_terminal(
    *words: object, typed: bytes = b"", code: str = "", until: str = "", **more: str
) -> str:
    """Return all that a program writes on a terminal that is dumb: nothing of ours is obeyed."""
    ours, theirs = pty.openpty()
    start = ["-c", code] if code else ["-m", "pitool"]
    process = subprocess.Popen(
        [sys.executable, *start, *map(str, words)], stdin=theirs, stdout=theirs, stderr=theirs,
        env={**environment(), "TERM": "dumb", **more}, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    os.write(ours, typed)
    said, asked = b"", not until
    with suppress(OSError):  # the terminal is gone with the program
        while piece := os.read(ours, 65536):
            said += piece
            if not asked and until.encode() in said:
                asked = True
                process.send_signal(signal.SIGINT)
    os.close(ours)
    process.wait()
    return said.decode()


def check(text: str) -> None:
    assert MARK in text
    assert "Traceback" not in text
    found = OBEYED.search(text)
    assert found is None, repr(text[max(found.start() - 80, 0) : found.end() + 20])


def test_what_is_harmless_stays_and_nothing_else() -> None:
    plain = "a\tb\nc é 日本 👩‍👩‍👧 مرحبا\u200f\u00a0\u3000\u00ad"
    assert harmless(plain) == plain
    for number in range(sys.maxunicode + 1):
        character = chr(number)
        control = unicodedata.category(character) in ("Cc", "Cs") and character not in "\t\n"
        turning = unicodedata.bidirectional(character) in (
            "LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI",
        )  # fmt: skip
        line = character in "\u2028\u2029"
        assert (harmless(character) != character) == (control or turning or line), hex(number)
        assert harmless(character) in (character, "\ufffd")


def test_a_sequence_in_pieces_is_as_harmless_as_a_whole_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours, theirs = pty.openpty()
    terminal = os.fdopen(theirs, "w", encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    streams.guard()
    for character in "\x1b[31mred\r\n\x1b":
        sys.stdout.write(character)
    sys.stdout.writelines(["]0;", "x\x07\n"])
    print("a\x9bb")
    streams.write_own("\x1b[1mours\x1b[0m\n")
    seen = b""
    while b"ours" not in seen:
        seen += os.read(ours, 4096)
    seen += os.read(ours, 4096) if not seen.endswith(b"\n") else b""
    assert seen.decode() == "�[31mred\r\n�]0;x�\r\na�b\r\n\x1b[1mours\x1b[0m\r\n"
    assert isinstance(sys.stderr, io.StringIO)
    sys.stdout = terminal
    terminal.close()
    os.close(ours)


ANSWER = """
import sys
from tests.chat.helpers import Loader
from pitool.engine.scripted import Scripted
from pitool.catalog.bundles import Runnable
from pathlib import Path
import pitool.catalog.model_argument as argument, pitool.cli.loading as loading
hostile = sys.argv.pop()
argument.find_runnable = lambda *_: Runnable(hostile, "gguf", hostile, Path("x"), 4, 4096)
class Open(Scripted):
    def __enter__(self): return self
    def __exit__(self, *_): self.close()

# Each character is a token, so that no sequence comes whole.
loading.loader = lambda *_, **__: Loader(Open([" ".join(hostile)]))
loading.loading_words = lambda *_: hostile
from pitool.cli.main import main
main()
"""


@pytest.mark.thorough
@pytest.mark.parametrize("words", [("run", "Hi"), ("run", "-i"), ("run", "Hi", "--json")])
def test_an_answer_is_shown_and_not_obeyed(words: tuple[str, ...]) -> None:
    typed = b"Hello\n/model\n\x04" if "-i" in words else b""
    text = on_terminal(*words, HOSTILE, code=ANSWER, typed=typed, PYTHONPATH=str(ROOT))
    assert " ".join(MARK) in text  # the answer's own
    check(text)


ROOT = Path(__file__).parents[2]


def test_an_answer_in_a_pipe_is_as_it_is() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ANSWER, "run", "Hi", HOSTILE], capture_output=True, check=True,
        env={**environment(), "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stdout == " ".join(HOSTILE).encode() + b"\n"


@pytest.fixture
def strange(bundle: Path, private_home: Path) -> Path:
    """A bundle whose names, wherever they may be anything, are hostile."""
    folder = private_home / "bundles" / HOSTILE
    shutil.copytree(bundle, folder)
    path = folder / "manifest.json"
    data = json.loads(path.read_text())
    data["name"] = data["source"]["id"] = HOSTILE
    data["versions"] = {HOSTILE: HOSTILE}
    path.write_text(json.dumps(data))
    return folder


COMMANDS: dict[str, tuple[str, ...]] = {
    "list": ("list",),
    "list --json": ("list", "--json"),
    "show": ("show", HOSTILE),
    "show --json": ("show", HOSTILE, "--json"),
    "run": ("run", "Hi", "--max-tokens", "2"),
    "plan": ("plan", HOSTILE),
    "bench": ("bench", HOSTILE, "--quant", "F16", "-p", "8", "-n", "2", "-r", "1"),
    "an argument": ("show", HOSTILE),
    "an option": (f"--{HOSTILE}",),
    "a command": (HOSTILE,),
    "a value": ("run", "--top-k", HOSTILE),
    "a path": ("convert", f"./{HOSTILE}", "--ram", "1gb"),
}


@pytest.mark.thorough
@pytest.mark.engine
@pytest.mark.parametrize("name", COMMANDS)
def test_names_in_a_bundle_and_in_arguments(strange: Path, name: str) -> None:
    check(on_terminal(*COMMANDS[name]))


@pytest.mark.thorough
@pytest.mark.engine
def test_the_log_of_a_server(strange: Path) -> None:
    check(on_terminal("serve", HOSTILE, "--port", "0", until="/v1"))


def test_a_question_before_a_deletion(strange: Path) -> None:
    check(on_terminal("rm", HOSTILE, typed=b"n\n"))
    assert strange.exists()


def test_a_broken_bundle(strange: Path) -> None:
    (strange / "manifest.json").write_text(json.dumps({"schema": HOSTILE}))
    check(on_terminal("list"))


def _gguf(path: Path) -> Path:
    writer = GGUFWriter(path, HOSTILE)
    writer.add_string("general.name", HOSTILE)
    writer.add_string("general.license", HOSTILE)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _checkpoint(path: Path) -> Path:
    return write_checkpoint(path, hidden_act=HOSTILE)


FILES: dict[str, tuple[Callable[[Path], Path], tuple[str, ...]]] = {
    "plan a GGUF": (_gguf, ("plan",)),
    "bench a GGUF": (_gguf, ("bench",)),
    "convert a GGUF": (_gguf, ("convert", "--ram", "1gb")),
    "plan a checkpoint": (_checkpoint, ("plan",)),
    "convert a checkpoint": (_checkpoint, ("convert", "--ram", "1gb", "--dry-run")),
}


@pytest.mark.thorough
@pytest.mark.parametrize("case", FILES)
def test_metadata_of_a_file(tmp_path: Path, case: str) -> None:
    make, (command, *options) = FILES[case]
    path = make(tmp_path / f"{HOSTILE}.gguf")
    check(on_terminal(command, path, *options))


def test_a_board_that_talks(tmp_path: Path) -> None:
    ssh = tmp_path / "ssh"
    # A line is all that is quoted of it, and its carriage return would end one.
    ssh.write_text('#!/bin/sh\nprintf "%s\\n" "$HOSTILE" | tr -d "\\r" >&2\nexit 255\n')
    ssh.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    for words in (("push", "--rollback", "board"), ("bench", "--hosts", "board", "x")):
        check(on_terminal(*words, PATH=path, HOSTILE=HOSTILE))


def test_the_log_of_faults(private_home: Path) -> None:
    fault_log.record(HOSTILE, HOSTILE)
    check(on_terminal("report"))
