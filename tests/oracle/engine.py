"""llama.cpp in a process of its own that computes many tiny files, rounding as little as it can.

A file that makes llama.cpp abort ends that process, not the tests: it is started again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pitool.engine.base import Settings
from pitool.errors import PitoolError

Logits = NDArray[np.float32]
# Flash attention and the usual cache round to float16.
EXACT = Settings(256, 1, 1, micro_batch=128, outputs=128, kv_type="f32", flash_attention="off")


class Engine:
    """The process, which is asked line by line and answers in a file in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._target, self._child = folder / "logits.npy", _start()

    def logits(self, file: Path, ids: list[int], context: int = EXACT.context) -> Logits:
        """Return the logits after each token."""
        assert self._child.stdin
        assert self._child.stdout
        order = {"file": str(file), "target": str(self._target), "ids": ids, "context": context}
        self._child.stdin.write(json.dumps(order) + "\n")
        self._child.stdin.flush()
        answer = self._child.stdout.readline().strip()
        if not answer:
            self.close()
            self._child = _start()
        assert answer == "done", answer or "llama.cpp ended the process"
        table: Logits = np.load(self._target)
        return table

    def close(self) -> None:
        """End the process."""
        self._child.communicate()


def _start() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.oracle.engine"],
        cwd=Path(__file__).parents[2], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True, env={**os.environ, "GGML_NO_BACKTRACE": "1"},
    )  # fmt: skip


def main() -> None:
    """Write the logits of every file that is named, until the input ends."""
    from pitool.engine.llamacpp.engine import LlamaCpp

    for line in sys.stdin:
        order = json.loads(line)
        try:
            engine = LlamaCpp(Path(order["file"]), replace(EXACT, context=order["context"]))
            np.save(order["target"], engine.logits(order["ids"]))
            engine.close()
            print("done", flush=True)
        except PitoolError as error:
            print(error.what, flush=True)


if __name__ == "__main__":
    main()
