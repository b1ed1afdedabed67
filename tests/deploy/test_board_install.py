"""install.sh of an archive: what a person meets who unpacks it by hand."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pitool.deploy import archive
from tests.deploy import archives

Install = Callable[..., subprocess.CompletedProcess[str]]


def tool(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def install(tmp_path: Path) -> Install:
    """Run install.sh of an unpacked archive in a home of its own, on what says it is a Pi."""
    home, tools = tmp_path / "home", tmp_path / "tools"
    home.mkdir()
    tools.mkdir()
    tool(tools, "uname", "echo aarch64")
    for name in ("python3.11", "python3.13", "python3"):
        (tools / name).symlink_to(sys.executable)

    def run(archive_folder: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        environment = {"HOME": str(home), "PATH": f"{tools}{os.pathsep}/usr/bin:/bin"}
        return subprocess.run(
            [archive_folder / "install.sh", *words],
            env=environment | more, capture_output=True, text=True, check=False,
        )  # fmt: skip

    return run


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    archives.make(tmp_path / "a.pi")
    archive.unpack(tmp_path / "a.pi", tmp_path / "a")
    return tmp_path / "a"


@pytest.mark.thorough
def test_install_uninstall_and_what_is_left(
    install: Install, unpacked: Path, tmp_path: Path
) -> None:
    done = install(unpacked)
    assert done.returncode == 0, done.stderr
    assert "Next: pitool run" in done.stdout
    assert "is not on the PATH" in done.stderr
    launcher = tmp_path / "home/.local/bin/pitool"
    version = subprocess.run([launcher, "--version"], capture_output=True, text=True, check=False)
    # The archive of the tests has no click: it is pitool that starts, and fails there.
    assert "click" in version.stderr
    assert install(unpacked, "uninstall", "--models").returncode == 0
    assert not [path for path in (tmp_path / "home").rglob("*") if not path.is_dir()]


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("words", "environment", "code", "said"),
    [
        (["--keep"], {}, 2, "--keep needs a number"),
        (["--keep", "two"], {}, 2, "--keep needs a number"),
        (["--keep", "0"], {}, 2, "--keep needs a number"),
        (["--bogus"], {}, 2, "Unknown argument: --bogus"),
        (["rollback"], {}, 4, "no earlier release"),
        ([], {"PITOOL_PYTHON": "/no/python"}, 5, "PITOOL_PYTHON is /no/python"),
    ],
)
def test_wrong_words_end_in_a_sentence(
    install: Install,
    unpacked: Path,
    tmp_path: Path,
    words: list[str],
    environment: dict[str, str],
    code: int,
    said: str,
) -> None:
    done = install(unpacked, *words, **environment)
    assert done.returncode == code
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list((tmp_path / "home").iterdir())


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("uname", "echo armv7l", "this machine is armv7l"),
        ("getconf", "echo 32", "Raspberry Pi OS (64-bit)"),
    ],
)
def test_the_wrong_machine(
    install: Install, unpacked: Path, tmp_path: Path, name: str, text: str, said: str
) -> None:
    tool(tmp_path / "tools", name, text)
    done = install(unpacked)
    assert done.returncode == 5
    assert said in done.stderr
    assert not list((tmp_path / "home").iterdir())


def test_an_older_python_is_told_in_a_sentence(
    install: Install, unpacked: Path, tmp_path: Path
) -> None:
    for name in ("python3.11", "python3.13", "python3"):
        (tmp_path / "tools" / name).unlink()
    # Bullseye has Python 3.9: it says so, and nothing of pitool is run by it.
    said = (
        """case "$2" in *print*) echo 3.9 ;; *version_info*) exit 1 ;; "") ;; *) exit 99 ;; esac"""
    )
    tool(tmp_path / "tools", "python3", said)
    tool(tmp_path / "tools", "python3.13", "exit 127")
    tool(tmp_path / "tools", "python3.11", "exit 127")
    done = install(unpacked)
    assert done.returncode == 5
    assert done.stderr == (
        "error: This system has Python 3.9, and pitool needs 3.11 or newer."
        " Use Raspberry Pi OS Bookworm or Trixie (64-bit).\n"
    )
    assert not list((tmp_path / "home").iterdir())
