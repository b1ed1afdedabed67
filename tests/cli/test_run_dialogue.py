"""``pitool run -i``: turns on one conversation, through a pipe and in a terminal that is dumb."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pitool.catalog.bundles import Runnable
from pitool.chat.answer import PromptStyle
from pitool.cli.commands import cli
from pitool.cli.run_answers import AnswerWriter
from pitool.engine.base import Engine, Message, Sampling
from pitool.engine.scripted import Scripted
from pitool.errors import DoesNotFit, PitoolError, WorkerDied
from tests.chat.helpers import Dying, Loader, Tracked, wait


class Held(Scripted):
    """Sends itself Ctrl-C after two words."""

    def stream(self, prompt: Any, sampling: Sampling) -> Iterator[Any]:
        for token in super().stream(prompt, sampling):
            yield token
            if token.timings.decoded_tokens == 2:
                os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF")
    return path


def run(
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    engine: Engine | Exception,
    *words: str,
    stdin: str,
) -> tuple[Result, Loader]:
    """Run the command on an engine of the test's choice."""
    loader = Loader(engine)
    runnable = Runnable("Tiny", "gguf", "F16", model, 4, 4096)
    monkeypatch.setattr("pitool.catalog.model_argument.find_runnable", lambda *_: runnable)
    monkeypatch.setattr("pitool.cli.loading.loader", lambda *_, **__: loader)
    done = CliRunner().invoke(
        cli, ["run", "-i", *words], input=stdin, standalone_mode=False, catch_exceptions=True
    )
    return done, loader


def test_each_line_is_a_turn_of_one_conversation(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Tracked(["first", "second", "third"])
    done, loader = run(
        model, monkeypatch, engine, "./model", "zero", "--system", "Be brief.",
        stdin="one\n\n  two \n",
    )  # fmt: skip
    assert done.exception is None
    assert done.stdout == "first\nsecond\nthird\n"
    assert done.stderr.count("prefill") == 3
    assert "> " not in done.stdout + done.stderr  # nobody types here
    assert engine.prompts[-1] == [
        Message("system", "Be brief."),
        Message("user", "zero"),
        Message("assistant", "first"),
        Message("user", "one"),
        Message("assistant", "second"),
        Message("user", "two"),
    ]
    assert len(loader.loads) == 1
    assert engine.closed


def test_what_was_read_is_not_read_again(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = " ".join(["word"] * 40)
    done, _ = run(model, monkeypatch, Tracked(["ok"]), "m", words, stdin="again\n")
    prefills = [line for line in done.stderr.splitlines() if line.startswith("prefill")]
    first, second = (int(line.split()[1]) for line in prefills)
    assert second < first / 2


def test_an_attached_file_is_said_and_sent_with_the_next_question(
    model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("Plums are blue.")
    engine = Tracked(["first", "second"])
    done, _ = run(model, monkeypatch, engine, stdin=f"/attach {notes}\nWhat?\nAnd now?\n")
    assert done.stdout == "first\nsecond\n"
    assert "The next question is sent with notes.txt, 15 B." in done.stderr.splitlines()
    prompt = list(engine.prompts[-1])
    first, last = prompt[0], prompt[-1]
    assert "Plums are blue." in str(first)
    assert last == Message("user", "And now?")


def test_commands_and_errors_and_on(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Tracked(["first", "second"])
    lines = [
        "/set temperature 0", "/set nonsense 1", "/nope", "one", "/again", "/help", "/system",
        "//etc?", "/quit", "never",
    ]  # fmt: skip
    done, _ = run(model, monkeypatch, engine, stdin="\n".join(lines))
    assert done.exception is None
    assert done.stdout == "first\nsecond\nfirst\n"
    err = done.stderr
    assert "unknown parameter 'nonsense'" in err
    assert "unknown command /nope; did you mean '/new'?" in err
    assert "/again                    answer the last question again" in err
    assert "/think" not in err
    assert "No system prompt is set." in err
    assert engine.prompts[-1][-1] == Message("user", "/etc?")
    assert len(engine.prompts) == 3


def test_a_worker_that_dies_is_a_sentence_and_the_next_line_loads_again(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, loader = run(model, monkeypatch, Dying(after=2), stdin="one\ntwo\n")
    assert done.exception is None
    assert done.stdout == "one two\none two\n"
    assert done.stderr.count("ask again to reload the model.") == 2
    assert len(loader.loads) == 2


def test_a_model_that_does_not_fit_ends_it(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done, _ = run(model, monkeypatch, DoesNotFit("2 GB are needed", "take Q4_0"), stdin="one\n")
    assert isinstance(done.exception, DoesNotFit)
    assert done.stdout == ""


def test_ctrl_c_stops_the_answer_and_not_the_program(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Held(["one two three four"])
    done, _ = run(model, monkeypatch, engine, stdin="count\n/continue\n")
    assert done.exception is None
    assert done.stdout == "one two three\none two three\n"  # within a token
    assert done.stderr.count("| stopped") == 2


def test_a_model_without_a_template_continues_the_text(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Tracked([" upon a time", " and on"])
    engine.info = replace(engine.info, chat_template=False)
    done, _ = run(model, monkeypatch, engine, "m", "Once", stdin="more\n")
    assert "no chat template, so it continues the text" in done.stderr
    assert engine.prompts == ["Once", "Once\n upon a time\nmore"]


def test_json_is_one_answer(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done, _ = run(model, monkeypatch, Tracked(), "--json", stdin="one\n")
    assert "-i and --json cannot be combined" in str(done.exception)


def test_an_empty_system_prompt_is_sent(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Tracked()
    run(model, monkeypatch, engine, "--system", "", stdin="one\n")
    assert engine.prompts[0][0] == Message("system", "")


def test_one_question_raises_what_it_ends_in(capsys: pytest.CaptureFixture[str]) -> None:
    with AnswerWriter(Loader(Dying(after=2)), PromptStyle(), "", Sampling()) as writer:
        writer.load(Runnable("Tiny", "gguf", "F16", Path("m.gguf"), 4, 4096))
        with pytest.raises(WorkerDied) as raised:
            writer.ask("count")
    assert isinstance(raised.value, PitoolError)
    assert capsys.readouterr().out == "one two\n"


PROGRAM = """
import sys
from pathlib import Path
from pitool.catalog.bundles import Runnable
from pitool.chat.answer import PromptStyle
from pitool.cli.loading import loader
from pitool.cli.main import run
from pitool.cli.run_answers import AnswerWriter
from pitool.cli.run_dialogue import Dialogue
from pitool.engine.base import Sampling

def talk():
    with AnswerWriter(loader(), PromptStyle(), "", Sampling()) as writer:
        writer.load(Runnable("Tiny", "script", "F16", Path(sys.argv[1]), 4, 4096))
        Dialogue(writer).talk(None)

sys.exit(run(talk))
"""


def read_on(terminal: int, seen: list[bytes]) -> None:
    with suppress(OSError):
        while data := os.read(terminal, 65536):
            seen.append(data)


@pytest.mark.thorough
@pytest.mark.parametrize(("end", "code"), [(b"\x04", 0), (b"\x03", 130)])
@pytest.mark.parametrize("term", ["dumb", "xterm"])
def test_in_a_terminal(tmp_path: Path, end: bytes, code: int, term: str) -> None:
    """Ctrl-C stops an answer and ends at the prompt; Ctrl-D ends as a program that is done."""
    script = tmp_path / "script.json"
    words = " ".join(f"w{n}" for n in range(400))
    script.write_text(
        json.dumps({"answers": [words, "short"], "decode_rate": 50, "real_time": True})
    )
    ours, theirs = pty.openpty()
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(script)],
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)),
        env={**os.environ, "TERM": term},
    )  # fmt: skip
    os.close(theirs)
    seen: list[bytes] = []
    reader = threading.Thread(target=read_on, args=(ours, seen), daemon=True)
    reader.start()

    def text() -> str:
        return b"".join(seen).decode().replace("\r\n", "\n")

    try:
        wait(lambda: "> " in text())
        os.write(ours, b"count\n")
        wait(lambda: "w3 w4" in text())
        os.write(ours, b"\x03")
        wait(lambda: "| stopped\n" in text())
        os.write(ours, b"again\n")
        wait(lambda: "short\n" in text())
        wait(lambda: text().removesuffix("\x1b[?2004h").endswith("> "))
        os.write(ours, end)
        assert program.wait(120) == code
    finally:
        program.kill()
        program.wait()
        os.close(ours)
        reader.join(5)
    if term == "dumb":
        assert "\x1b" not in text()
    assert ("interrupted" in text()) is (code == 130)
