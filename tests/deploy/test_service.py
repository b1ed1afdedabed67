"""The systemd user unit: systemd itself reads it, and finds nothing amiss."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pitool.deploy import pack

pytestmark = pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="systemd is not installed"
)


def verified(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Return what ``systemd-analyze verify`` says of a unit of a user with nothing else."""
    unit, run = folder / "pitool.service", folder / "run"
    unit.write_text(text)
    run.mkdir(mode=0o700, exist_ok=True)
    return subprocess.run(
        ["systemd-analyze", "verify", "--user", "--man=no", unit],
        env={**os.environ, "HOME": str(folder), "XDG_RUNTIME_DIR": str(run)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    launcher = tmp_path / ".local/bin/pitool"
    launcher.parent.mkdir(parents=True)
    launcher.write_text("#!/bin/sh\n")
    launcher.chmod(0o755)
    text = (pack.HERE / "pitool.service").read_text()
    # What board_install.sh writes, and what install.sh of a clone does.
    for place in ("%h/.local/bin/pitool", str(launcher)):
        done = verified(text.replace("@PITOOL@", place), tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
    wrong = verified(text.replace("@PITOOL@", str(tmp_path / "nothing")), tmp_path)
    assert wrong.returncode != 0
    unknown = text.replace("@PITOOL@", str(launcher)).replace("RestartSec", "RestartSeconds")
    assert "RestartSeconds" in verified(unknown, tmp_path).stderr
