"""The process of llama.cpp's RPC server: what it is sent may end it, so it is by itself.

Ends with its parent, whose end of the pipe on stdin closes.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from pathlib import Path

from pitool.errors import PitoolError

# Of all processes on a board the kernel should rather kill this one.
OOM_SCORE = "500"


def main() -> None:
    """Serve; the arguments are address, threads and, where tensors are kept, their folder."""
    address, threads, *cache = sys.argv[1:]
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE, encoding="ascii")
    from pitool.engine.llamacpp.rpc import start_server

    try:
        start_server(address, Path(cache[0]) if cache else None, int(threads))
    except PitoolError as error:
        sys.stderr.write(f"{error.sentence}\n")
        raise SystemExit(error.exit_code) from None


def _end_with_parent() -> None:
    while os.read(0, 1):  # nothing that Python would have to close at its end
        pass
    os._exit(0)


if __name__ == "__main__":
    main()
