"""Cards to post, and several boards in one table."""

from __future__ import annotations

import csv
import json
import os
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pitool.bench import card_drawing, fleet
from pitool.cli.commands import cli
from pitool.errors import PitoolError, UsageError
from pitool.remote import ssh


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PITOOL_HOME", str(tmp_path))
    return tmp_path


def bench(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, ["bench", *map(str, words)], standalone_mode=False)


@pytest.mark.parametrize("suffix", ["svg", "md"])
def test_a_card_has_all_that_makes_it_comparable(
    suffix: str, bundle: Callable[..., Path], home: Path
) -> None:
    path = home / f"card.{suffix}"
    done = bench(bundle(prefill_rate=256.0), "-n", "0", "-r", "2", "--card", path)
    assert done.exception is None
    text = path.read_text(encoding="utf-8")
    if suffix == "svg":
        text = "\n".join(e.text or "" for e in ElementTree.fromstring(text).iter())
    for part in ("toy Q4_0", "pp512", "256.00 ± 0.00", "pitool", "peak memory", "Linux", "sha256"):
        assert part in text


def test_a_png_is_the_same_picture(bundle: Callable[..., Path], home: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    path = home / "card.png"
    bench(bundle(), "-n", "0", "-r", "1", "--card", path)
    with image.open(path) as picture:
        assert picture.width == card_drawing.PIXELS * card_drawing.WIDTH
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 10  # something is written on it


def test_a_card_that_cannot_be_written_is_said_before_measuring(
    bundle: Callable[..., Path], home: Path
) -> None:
    for path in (home / "card.gif", home / "nowhere" / "card.svg"):
        done = bench(bundle(path.parent.name), "--card", path)
        assert isinstance(done.exception, UsageError)
        assert "warm-up" not in done.stderr


# Stands for ssh: knows two hosts that are up, runs the command here, and refuses a third.
SSH = """#!{python}
import os, subprocess, sys
assert "BatchMode=yes" in sys.argv
host, command = sys.argv[-2:]
if host == "pi@down":
    print("ssh: connect to host down port 22: No route to host", file=sys.stderr)
    sys.exit(255)
if host == "pi@bare":
    sys.exit(127)
if host == "pi@lost":
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    print(done.stdout.splitlines()[0])
    print("client_loop: send disconnect: Broken pipe", file=sys.stderr)
    sys.exit(255)
sys.exit(subprocess.run(["bash", "-c", command]).returncode)
"""


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "ssh").write_text(SSH.format(python=sys.executable))
    (programs / "pitool").write_text(f'#!/bin/sh\nexec {sys.executable} -m pitool "$@"\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    # A login shell would read the profile, which sets another PATH.
    real = ssh.subprocess.Popen  # type: ignore[attr-defined]

    def start(command: list[str], **rest: object) -> object:
        command = [*command[:-1], command[-1].replace("bash -lc", "bash -c")]
        return real(command, **rest)

    monkeypatch.setattr("pitool.remote.ssh.subprocess.Popen", start)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")


@pytest.mark.usefixtures("hosts")
def test_one_host_down_does_not_lose_the_others(bundle: Callable[..., Path]) -> None:
    folder = bundle(prefill_rate=256.0)
    words = ("--hosts", "pi@one,pi@down,pi@two,pi@bare", "-n", "0", "-r", "1", "--json", folder)
    done = bench(*words)
    rows = json.loads(done.stdout)
    assert [(row["host"], row["n_prompt"]) for row in rows] == [("pi@one", 512), ("pi@two", 512)]
    assert isinstance(done.exception, PitoolError)
    assert "No route to host" in done.exception.what
    assert "pi@bare (pitool is not installed)" in done.exception.what


@pytest.mark.usefixtures("hosts")
def test_what_a_lost_host_measured_before_is_kept(bundle: Callable[..., Path]) -> None:
    words = ("--hosts", "pi@lost,pi@one", "-p", "8,16", "-n", "0", "-r", "1", "-o", "csv")
    done = bench(*words, bundle())
    rows = list(csv.DictReader(done.stdout.splitlines()))
    found = [(row["host"], row["n_prompt"]) for row in rows]
    assert found == [("pi@lost", "8"), ("pi@one", "8"), ("pi@one", "16")]
    assert next(iter(rows[0])) == "build_commit"
    assert isinstance(done.exception, PitoolError)
    assert "pi@lost (client_loop" in done.exception.what


def test_hosts_measure_tests_alone(bundle: Callable[..., Path]) -> None:
    done = bench("--hosts", "pi@one", "--sustained", "5s", bundle())
    assert isinstance(done.exception, UsageError)
    assert "--hosts and --sustained cannot be combined" in done.exception.sentence


def test_only_arguments_for_the_boards_are_sent() -> None:
    given = ["--hosts", "a,b", "-p", "16", "--json", "-o", "table", "--card=x.svg", "toy"]
    assert fleet.without_output(given) == ["-p", "16", "toy"]


@pytest.mark.parametrize("hosts", ["", "a,", "-oProxyCommand=x"])
def test_what_is_no_host_is_refused(hosts: str) -> None:
    done = bench("--hosts", hosts)
    assert isinstance(done.exception, UsageError)
