"""Runs a module of Python that is killed before its Nth change of a file below a folder.

``python -m tests.faults.dying FOLDER N MODULE WORDS...``; N of 0 kills nothing, and the number of
changes is written to ``FOLDER/changes`` at the end.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
from pathlib import Path

CHANGES = frozenset(
    {
        "os.chmod", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink",
        "os.truncate", "os.utime", "sqlite3.connect",
    }
)  # fmt: skip
WRITING = os.O_WRONLY | os.O_RDWR


class Counter:
    """An audit hook."""

    def __init__(self, folder: Path, last: int) -> None:
        self._folder, self._last, self.seen = str(folder), last, 0

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        opened = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING
        if not opened and event not in CHANGES:
            return
        if any(self._folder in name for name in _names(event, arguments)):
            self.seen += 1
            if self.seen == self._last:
                os.kill(os.getpid(), signal.SIGKILL)


def _names(event: str, arguments: tuple[object, ...]) -> list[str]:
    """Return the paths of a change; those that a tree is removed by are below an open folder."""
    if event in ("os.remove", "os.rmdir") and isinstance(arguments[1], int) and arguments[1] >= 0:
        return [str(Path(f"/proc/self/fd/{arguments[1]}").readlink())]
    return [os.fsdecode(a) for a in arguments if isinstance(a, str | bytes | os.PathLike)]


def main() -> None:
    folder, last, module, *words = sys.argv[1:]
    counter = Counter(Path(folder), int(last))
    sys.argv = [module, *words]
    sys.addaudithook(counter)
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        if not int(last):
            seen = counter.seen
            Path(folder, "changes").write_text(str(seen))


if __name__ == "__main__":
    main()
