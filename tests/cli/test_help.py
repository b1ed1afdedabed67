"""Help, version, completion and the man page: of the commands as they are."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import pytest

import pitool as package
from pitool.cli.completion import LINES
from tests.cli.conftest import Pitool, check_failure, environment

ROOT = Path(__file__).parents[2]


def test_version(pitool: Pitool) -> None:
    for flag in ("-V", "--version"):
        assert pitool(flag).out.strip() == f"pitool, version {package.__version__}"


def test_help_of_a_command_is_what_the_command_says(pitool: Pitool) -> None:
    assert pitool("help", "convert").out == pitool("convert", "--help").out
    assert pitool("help", "bench", "history").out == pitool("bench", "history", "--help").out
    assert pitool("help").out == pitool("--help").out
    assert "did you mean 'convert'" in check_failure(pitool("help", "covert"), 2)
    check_failure(pitool("help", "convert", "history"), 2)


def test_continue_is_for_the_chat(pitool: Pitool) -> None:
    assert "without a command" in check_failure(pitool("--continue", "list"), 2)


@pytest.mark.parametrize("shell", LINES)
def test_completion_is_what_the_shell_reads(pitool: Pitool, shell: str) -> None:
    script = pitool("completion", shell).out
    assert "_PITOOL_COMPLETE" in script
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    subprocess.run([program, "-n"], input=script.encode(), check=True)


def completed(*words: str, last: str, home: Path) -> list[str]:
    """Return what bash would offer, asked as click's script asks."""
    line = ["pitool", *words, last]
    done = subprocess.run(
        [str(ROOT / ".venv/bin/python"), "-m", "pitool"], capture_output=True, check=False,
        env={**environment(), "PITOOL_HOME": str(home), "_PITOOL_COMPLETE": "bash_complete",
             "COMP_WORDS": " ".join(line), "COMP_CWORD": str(len(line) - 1)},
    )  # fmt: skip
    return [text.partition(",")[2] for text in done.stdout.decode().splitlines()]


@pytest.mark.skipif(not (ROOT / ".venv/bin/python").exists(), reason="there is no .venv here")
def test_commands_options_and_bundles_are_completed(tmp_path: Path) -> None:
    (tmp_path / "bundles" / "my-model").mkdir(parents=True)
    assert completed(last="con", home=tmp_path) == ["convert"]
    assert "--details" in completed("plan", last="--de", home=tmp_path)
    assert "my-model" in completed("show", last="my", home=tmp_path)
    assert completed("help", last="mon", home=tmp_path) == ["monitor"]


def test_the_man_page_is_that_of_the_commands() -> None:
    spec = importlib.util.spec_from_file_location("man", ROOT / "scripts" / "man.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text(encoding="utf-8") == module.page(), "run scripts/man.py"
    if shutil.which("man") and shutil.which("col"):
        shown = subprocess.run(
            ["man", "-l", str(module.PAGE)], capture_output=True, check=True,
            env={**os.environ, "MANWIDTH": "80", "LC_ALL": "C.UTF-8"},
        )  # fmt: skip
        assert b"pitool convert" in shown.stdout
        assert b"warning" not in shown.stderr
