"""What a user rarely types or has around: it ends in a sentence, or does what it says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Pitool, check_failure, environment


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e999"])
@pytest.mark.parametrize(
    "words",
    [
        ("run", "Hi", "--temp"), ("run", "Hi", "--top-p"), ("run", "Hi", "--repeat-penalty"),
        ("monitor", "-n", "1", "--interval"), ("bench", "--cooldown"),
        ("convert", "x", "--ram", "1gb", "--lora-scale"),
    ],
    ids=lambda words: words[-1],
)  # fmt: skip
def test_a_number_without_a_value(
    words: tuple[str, ...], number: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import click

    from pitool.cli.commands import cli

    with pytest.raises(click.BadParameter, match=r"finite|range"):
        cli.main([*words, number], standalone_mode=False)


def test_a_pipe_in_place_of_a_model(pitool: Pitool, tmp_path: Path) -> None:
    for name in ("pipe", "pipe.gguf"):
        os.mkfifo(tmp_path / name)
        sentence = check_failure(pitool("run", tmp_path / name, "Hi"), 4)
        assert "is a device or a pipe, not a file" in sentence


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    done = subprocess.run(
        ["sh", "-c", 'rmdir ../gone; exec "$0" -P -m pitool convert . --ram 1gb', sys.executable],
        cwd=tmp_path / "gone", env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 4
    assert done.stderr == "pitool: the current folder no longer exists; change to another folder.\n"


@pytest.mark.parametrize("words", [("bench", "history"), ("bench", "compare", "1", "2")])
def test_a_home_that_is_a_file(pitool: Pitool, private_home: Path, words: tuple[str, ...]) -> None:
    private_home.write_text("")
    result = pitool(*words)
    assert "Traceback" not in result.err
    assert "internal error" not in result.err
    if result.code:
        assert f"{private_home} cannot be a folder, because a file is in its place" in result.err
