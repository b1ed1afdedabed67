"""llama.cpp in a process of its own, for many tiny files: reads orders line by line.

A file that makes llama.cpp abort ends this process, not the tests.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from pitool.engine.base import Settings
from pitool.engine.llamacpp.engine import LlamaCpp
from pitool.errors import PitoolError

# Flash attention and the usual cache round to float16.
EXACT = Settings(256, 1, 1, outputs=64, kv_type="f32", flash_attention="off")


def main() -> None:
    """Write the logits of every file that is named, until the input ends."""
    for line in sys.stdin:
        order = json.loads(line)
        try:
            engine = LlamaCpp(Path(order["file"]), EXACT)
            np.save(order["target"], engine.logits(order["ids"]))
            engine.close()
            print("done", flush=True)
        except PitoolError as error:
            print(error.what, flush=True)


if __name__ == "__main__":
    main()
