"""The writers through which every file and folder of pitool's gets its name, each in one step.

``python -m tests.faults.writers NAME FOLDER`` runs one, for ``dying`` to kill. To add a writer: one
function, and its name in ``WRITERS``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

OLD, NEW = b"old" * 1000, b"new" * 5000
PARTS = ("manifest.json", "part")


def file_of_ours(folder: Path, data: bytes) -> None:
    from pitool.catalog.files import write_atomically

    write_atomically(folder / "f", data)


def output(folder: Path, data: bytes) -> None:
    from pitool.catalog.outputs import write_output

    write_output(folder / "f", data)


def new_output(folder: Path, data: bytes) -> None:
    from pitool.catalog.outputs import write_output

    free = next(name for name in "fghi" if not (folder / name).exists())
    write_output(folder / free, data, replace=False)


def saved_prefill(folder: Path, data: bytes) -> None:
    from pitool.engine.prefills.files import Prefills

    Prefills(folder).save("f", lambda path: path.write_bytes(data))


def bundle(folder: Path, data: bytes) -> None:
    from pitool.catalog.staging import Staging

    with Staging(folder / "f", replace=True) as staging:
        for name in PARTS:
            (staging.folder / name).write_bytes(data)
        staging.publish()


def removed_bundle(folder: Path, data: bytes) -> None:
    from pitool.catalog.scratch import remove

    if not (folder / "f").exists():
        bundle(folder, data)
    remove(folder / "f")


Writer = Callable[[Path, bytes], None]
WRITERS: dict[str, Writer] = {
    writer.__name__: writer
    for writer in (file_of_ours, output, new_output, saved_prefill, bundle, removed_bundle)
}


if __name__ == "__main__":
    WRITERS[sys.argv[1]](Path(sys.argv[2]), NEW)
