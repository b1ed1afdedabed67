"""The program's entry: help, version, exit codes, and errors as one sentence."""

from __future__ import annotations

import errno
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from pitool import __version__, errors
from pitool.cli.commands import cli, commands
from pitool.cli.main import run
from tests.cli.conftest import Pitool


@pytest.mark.parametrize("command", [[], *([name] for name in commands())], ids=str)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_every_help_shows_an_example(
    command: list[str], flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*command, flag]
    assert run(lambda: cli.main(words, standalone_mode=False, prog_name="pitool")) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert re.search(r"\n\s+Example:\n\s+pitool", out)


def test_every_example_of_a_help_names_options_that_are_there() -> None:
    group = click.Context(cli)
    for name in commands():
        command = cli.get_command(group, name)
        assert command is not None
        for line in (command.help or "").partition("Example")[2].splitlines():
            words = line.split()
            if words[:1] != ["pitool"]:
                continue
            shown = cli.get_command(group, words[1]) if len(words) > 1 else None
            if isinstance(shown, click.Group):
                shown = shown.get_command(click.Context(shown), words[2])
            known = {option for p in (shown or command).params for option in p.opts}
            assert set(re.findall(r"(?<=\s)--?[a-z][\w-]*", line)) <= known, line


def test_the_version(pitool: Pitool) -> None:
    result = pitool("--version")
    assert (result.code, result.err) == (0, "")
    assert result.out == f"pitool, version {__version__}\n"


def raising(error: BaseException) -> int:
    def call() -> None:
        raise error

    return run(call)


EXITS: list[tuple[BaseException, int, str]] = [
    (errors.PitoolError("it broke", "mend it"), 1, "pitool: it broke; mend it.\n"),
    (errors.PitoolError("it broke"), 1, "pitool: it broke.\n"),
    (errors.UsageError("no x", "did you mean 'y'?"), 2, "pitool: no x; did you mean 'y'?\n"),
    (errors.DoesNotFit("too large", "buy"), 3, "pitool: too large; buy.\n"),
    (errors.BadInput("bad", "look"), 4, "pitool: bad; look.\n"),
    (errors.MissingPart("none", "install"), 5, "pitool: none; install.\n"),
    (errors.WorkerDied("died", "again"), 1, "pitool: died; again.\n"),
    (errors.Interrupted("stopped"), 130, "pitool: stopped.\n"),
    (errors.BadInput("two\nlines.", "a\tb."), 4, "pitool: two lines.; a b.\n"),
    (KeyboardInterrupt(), 130, "pitool: interrupted.\n"),
    (click.Abort(), 130, "pitool: interrupted.\n"),
    (click.UsageError("Wrong."), 2, "pitool: Wrong.\n"),
    (
        OSError(errno.ENOSPC, "No space left on device"), 3,
        "pitool: the disk is full; free some space, or use another disk.\n",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("error", "code", "sentence"), EXITS, ids=lambda v: repr(v)[:40])
def test_exits(
    error: BaseException, code: int, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert raising(error) == code
    assert capsys.readouterr() == ("", sentence)


# dataclass() and namedtuple() give exec() a string; the shell cannot tell 130 from a signal.
IN_A_MODULE = "def command():\n    exec('raise KeyboardInterrupt')\n"
# A thread whose start was interrupted is listed, and cannot be joined.
IN_A_START = """
import threading

def command():
    def interrupt(*_):
        raise KeyboardInterrupt

    threading._start_new_thread = interrupt
    threading.Thread(target=print).start()
"""
# A library's thread that does not heed the interrupt.
BESIDE_A_THREAD = """
import threading

main.PATIENCE = 0.1

def command():
    threading.Thread(target=threading.Event().wait).start()
    raise KeyboardInterrupt
"""


@pytest.mark.parametrize(
    "command", [IN_A_MODULE, IN_A_START, BESIDE_A_THREAD], ids=["module", "start", "thread"]
)
def test_an_interrupt_is_one_sentence_and_one_exit_code_wherever_it_comes(
    tmp_path: Path, command: str
) -> None:
    (tmp_path / "program.py").write_text(
        f"from pitool.cli import main\n{command}\nmain._command = command\nmain.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "program"], capture_output=True, check=False, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (130, b"pitool: interrupted.\n")


def test_what_should_have_worked_is_logged(private_home: Path) -> None:
    died = errors.WorkerDied("the model process died", "load it again")
    died.details = "ggml: out of luck"
    for error in (errors.UsageError("wrong", "right"), errors.BadInput("bad", "look")):
        raising(error)
    assert not private_home.exists()
    raising(died)
    assert raising(KeyError("x")) == 1
    log = (private_home / "fault.log").read_text()
    assert ": the model process died; load it again\n    ggml: out of luck\n" in log
    assert ": internal error (KeyError: 'x')\n    Traceback (most recent call last):\n" in log


def test_the_exit_codes_of_the_error_tree_are_those_of_the_design() -> None:
    tree = {c.__name__: c.exit_code for c in errors.PitoolError.__subclasses__()}
    assert errors.PitoolError.exit_code == 1
    assert tree == {
        "UsageError": 2, "DoesNotFit": 3, "BadInput": 4, "MissingPart": 5, "WorkerDied": 1,
        "Interrupted": 130,
    }  # fmt: skip
    assert all(name in (errors.__doc__ or "") for name in tree)


def test_help_lists_every_command_in_whole_sentences(pitool: Pitool) -> None:
    listed = re.findall(r"^  ([a-z]+)  +(\S.*)$", pitool("--help").out, re.M)
    assert [name for name, _ in listed] == list(commands())
    assert all(sentence.endswith(".") and "..." not in sentence for _, sentence in listed)


@pytest.mark.parametrize(
    ("word", "hint"), [("convrt", "did you mean 'convert'?"), ("nonsense", "choose from: bench, ")]
)
def test_an_unknown_command(pitool: Pitool, word: str, hint: str) -> None:
    result = pitool(word, "sample")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"pitool: unknown command '{word}'; {hint}")


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_streams_that_are_closed_are_no_fault(closed: tuple[int, ...], private_home: Path) -> None:
    shut = " ".join(f"{n}{'<' if n == 0 else '>'}&-" for n in closed)
    done = subprocess.run(
        ["sh", "-c", f"exec {sys.executable} -m pitool list {shut}"],
        capture_output=True, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr
    assert not (private_home / "fault.log").exists()


def test_the_home_of_nobody(pitool: Pitool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PITOOL_HOME", "~nosuch-user/x")
    done = pitool("list")
    assert done.code == 2
    assert "PITOOL_HOME '~nosuch-user/x'" in done.sentence
