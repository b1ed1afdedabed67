"""Runs pitool as a user does: a process with its own streams, and a bundle to run."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from pitool.cli.commands import cli
from pitool.cli.main import run
from tests.convert.helpers import convert_folder
from tests.tiny import write_checkpoint


@dataclass(frozen=True)
class Result:
    """What a finished command left."""

    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The last line of stderr."""
        return self.err.rstrip("\n").rpartition("\n")[2]


Pitool = Callable[..., Result]


def environment(columns: int = 100) -> dict[str, str]:
    """Return the environment of a child: threads that wait without burning a shared CPU."""
    return {**os.environ, "OMP_WAIT_POLICY": "passive", "COLUMNS": str(columns)}


@pytest.fixture
def pitool(tmp_path: Path) -> Pitool:
    """Run ``python -m pitool`` with arguments; ``stdin`` is a text."""

    def call(
        *arguments: object, stdin: str | bytes = "", cwd: Path | None = None, columns: int = 100
    ) -> Result:
        data = stdin.encode() if isinstance(stdin, str) else stdin
        done = subprocess.run(
            [sys.executable, "-m", "pitool", *map(str, arguments)],
            input=data,
            capture_output=True,
            timeout=200,
            check=False,
            cwd=cwd or Path(__file__).parents[2],
            env=environment(columns),
        )
        return Result(done.returncode, done.stdout.decode(), done.stderr.decode())

    return call


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Pitool:
    """Run a command in this process: as ``pitool`` without a new interpreter and its imports.

    For what a command says and does. Its signals, streams and start are those of a process.
    """
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")

    def run_here(*arguments: object, columns: int = 100) -> Result:
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
        words = [str(a) for a in arguments]
        code = run(lambda: cli.main(words, standalone_mode=False, prog_name="pitool"))
        out, err = capfd.readouterr()
        return Result(code, out, err)

    return run_here


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of random weights with the artifacts F16 and Q8_0."""
    folder = tmp_path_factory.mktemp("cli")
    checkpoint = write_checkpoint(folder / "tiny", num_hidden_layers=1, intermediate_size=256)
    return convert_folder(checkpoint, folder / "bundle", "F16,Q8_0").path


@pytest.fixture(scope="session")
def one_layer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that is converted quickly."""
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    return write_checkpoint(folder, num_hidden_layers=1, intermediate_size=256)


def check_failure(result: Result, code: int) -> str:
    """Check that a command ended with ``code`` and one sentence; return the sentence."""
    assert result.code == code, result.err
    assert result.out == ""
    assert "Traceback" not in result.err
    assert result.sentence.startswith("pitool: ")
    assert re.search(r"[^.?][.?]$", result.sentence)
    assert result.err.count("pitool: ") == 1
    return result.sentence
