"""An emulated Pi 4 and Pi 5 as boards of a cluster, asked by this machine.

``PITOOL_EMULATE=pi4,pi5`` as for ``test_pi``: both are needed. Float32 products of the same layers
are the same on all of them, so the answer is that of this machine alone.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.cluster import backend
from tests.cluster.boards import READY, free_port
from tests.emulated.test_pi import CASES, HERE, Host, emulate, root_file_system
from tests.emulated.test_pi import host as host

BOARDS = ("pi4", "pi5")
WORDS = ["--raw", "--temp", "0", "--max-tokens", "24", "--quant", "F32", "--json"]
PROMPT = "A Raspberry Pi is"
SERVE = """
set -e
mkdir sample && tar -xf /share/sample.pi -C sample
sample/install.sh >&2
exec .local/bin/pitool cluster serve --host 127.0.0.1 --port {port} --threads 1 --no-cache
"""

pytestmark = [
    pytest.mark.network,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(
        not set(BOARDS) <= {case.partition(":")[0] for case in CASES},
        reason="PITOOL_EMULATE does not name pi4 and pi5",
    ),
]


def serve(board: str, share: Path, port: int) -> subprocess.Popen[str]:
    """Start an emulated board; returns when it serves."""
    command = [HERE / "pi.sh", root_file_system("bookworm"), board, share, "bash", "-c"]
    process = subprocess.Popen(
        [*map(str, command), SERVE.format(port=port)], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr
    said = []
    for line in process.stderr:
        said.append(line)
        if line.startswith(READY):
            return process
    raise AssertionError("".join(said))


def test_an_emulated_pi_4_and_pi_5_answer_with_this_machine(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.emulated.test_pi import pitool

    for name, value in backend.environment().items():
        monkeypatch.setenv(name, value)
    emulate("pi4", "bookworm", host.share, "true")  # skips where it is not possible
    bundle = host.share.parent / "bundle"
    alone = json.loads(pitool("run", *WORDS, bundle, PROMPT))
    ports = [free_port() for _ in BOARDS]
    started = [serve(board, host.share, port) for board, port in zip(BOARDS, ports, strict=True)]
    try:
        pitool("cluster", "add", "--not-here", *(f"127.0.0.1:{port}" for port in ports))
        checked = json.loads(pitool("cluster", "check", "--json"))
        assert [each["status"]["board_id"] for each in checked] == ["pi4b", "pi5"]
        together = json.loads(pitool("run", *WORDS, "--cluster", "boards", bundle, PROMPT))
        assert together["ids"] == alone["ids"]
    finally:
        for process in started:
            process.kill()
            with process:
                pass
