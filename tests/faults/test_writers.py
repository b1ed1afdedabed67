"""kill -9 before each change that a writer makes: what is there is whole, and the rest goes.

The commands that write through them are killed by ``test_kills``, at moments that are drawn.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.commands import hidden
from tests.faults.writers import NEW, OLD, PARTS, WRITERS, bundle

ROOT = Path(__file__).parents[2]
MOST = 60


def killed(name: str, folder: Path, before: int) -> bool:
    """Run a writer that dies before a change; False where it made fewer."""
    order = [sys.executable, "-m", "tests.faults.dying", str(folder), str(before)]
    order += ["tests.faults.writers", name, str(folder)]
    code = subprocess.run(order, check=False, cwd=ROOT).returncode
    assert code in (0, -signal.SIGKILL)
    return code != 0


def check_whole(folder: Path) -> None:
    """Hold that what does not hide is whole."""
    for path in folder.glob("[!.]*"):
        files = [path / name for name in PARTS] if path.is_dir() else [path]
        assert {file.read_bytes() for file in files} in ({OLD}, {NEW})


@pytest.mark.thorough
@pytest.mark.parametrize("name", WRITERS)
def test_a_killed_writer(name: str, tmp_path: Path) -> None:
    write = bundle if name == "removed_bundle" else WRITERS[name]
    for before in range(1, MOST):
        folder = tmp_path / str(before)
        folder.mkdir()
        write(folder, OLD)
        if not killed(name, folder, before):
            break
        check_whole(folder)
        WRITERS[name](folder, NEW)
        check_whole(folder)
        assert not (left := hidden(folder)), left
    assert 2 < before < MOST - 1
