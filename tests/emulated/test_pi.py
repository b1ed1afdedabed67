"""From the host to an emulated fresh Raspberry Pi: pack, install offline, run, doctor.

``PITOOL_EMULATE=pi5,pi4:trixie`` names boards and releases; a run takes one to three minutes each,
and the first also cross-builds the wheel. Emulation says nothing about speed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pitool.catalog import cache, manifest
from tests.cli.conftest import environment

HERE = Path(__file__).parent
# Made once and kept: not in the cache of a test.
ROOT_FILE_SYSTEMS = cache.root() / "rootfs"
CASES = [case for case in os.environ.get("PITOOL_EMULATE", "").split(",") if case]
VARIANTS = {"pi3": "armv8.0_1", "pi4": "armv8.0_1", "pi5": "armv8.2_2"}
PAGES = {"pi3": "4 KiB", "pi4": "4 KiB", "pi5": "16 KiB"}
PROMPT = "What is a Raspberry Pi 5?"
ASK = [PROMPT, "--temp", "0", "--max-tokens", "32", "--json"]
# Of each engine one artifact in float32 and one quantised.
EXACT, QUANTISED = ("F32", "FP32"), ("Q8_0", "INT8", "INT8_DYNAMIC", "INT4")
QUANTS = (*EXACT, *QUANTISED)
# Read on the host before, for each artifact; of the exact ones the board reads it anew as well.
SYSTEM = "You know every board of the Raspberry Pi, its memory and its price. " * 30

# What a person does: unpack, install, run; doctor may find a fault of the emulation.
STEPS = """
set -e
mkdir sample && tar -xf /share/sample.pi -C sample
sample/install.sh >&2
command -v pitool
pitool --version
for quant in {quants}; do
    pitool run bundle "{prompt}" --quant $quant --temp 0 --max-tokens 32 --json
done
for quant in {exact}; do
    pitool run bundle "{prompt}" --quant $quant --prefill system --temp 0 --max-tokens 32 --json
done
mv ~/.local/share/pitool/bundles/bundle/prefills .
for quant in {exact}; do
    pitool run bundle "{prompt}" --quant $quant --prefill prefills/system.txt \\
        --temp 0 --max-tokens 32 --json
done
pitool doctor --json | tr -d '\\n' || true
"""

pytestmark = [
    pytest.mark.timeout(1500),
    pytest.mark.skipif(not CASES, reason="PITOOL_EMULATE names no board (pi3, pi4, pi5)"),
]


@dataclass(frozen=True)
class Host:
    """What the host made: the archive in a folder to share, and its own answers."""

    share: Path
    answers: dict[str, list[int]]


def pitool(*words: object) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pitool", *map(str, words)],
        capture_output=True, text=True, check=False, env=environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    if not shutil.which("aarch64-linux-gnu-g++"):
        pytest.skip("g++-aarch64-linux-gnu is not installed")
    folder = tmp_path_factory.mktemp("host")
    bundle, share = folder / "bundle", folder / "share"
    share.mkdir()
    pitool("convert", "sample", "--ram", "1gb", "--quant", ",".join(QUANTS), "--out", bundle)
    exact_caches(bundle)
    (folder / "system.txt").write_text(SYSTEM)
    pitool(
        "pack", bundle, "--board", "pi5", "--prefill", folder / "system.txt",
        "-o", share / "sample.pi",
    )  # fmt: skip
    answers = {
        quant: json.loads(pitool("run", bundle, *ASK, "--quant", quant))["ids"] for quant in QUANTS
    }
    return Host(share, answers)


def exact_caches(bundle: Path) -> None:
    """Plan the exact artifacts of a bundle with keys and values in float32."""
    made = manifest.read(bundle)
    artifacts = tuple(
        replace(a, kv_type="f32") if a.quantisation in EXACT else a for a in made.artifacts
    )
    manifest.write(bundle, replace(made, artifacts=artifacts))


def root_file_system(release: str) -> Path:
    """Return the cached root file system of a release, made of Debian's packages if missing."""
    ROOT_FILE_SYSTEMS.mkdir(parents=True, exist_ok=True)
    folder = ROOT_FILE_SYSTEMS / release
    if not folder.is_dir():
        for program in ("mmdebstrap", "apt-get"):
            if not shutil.which(program):
                pytest.skip(f"{program} is not installed")
        if os.geteuid():
            pytest.skip("a root file system is made as root")
        subprocess.run([HERE / "rootfs.sh", release, folder], check=True, capture_output=True)
    return folder


def emulate(board: str, release: str, share: Path, script: str) -> str:
    """Run a script as user pi and return its output; skips where emulation is not possible."""
    if not Path("/usr/lib/binfmt.d/qemu-aarch64.conf").exists():
        pytest.skip("qemu-user-static is not installed")
    base = [str(HERE / "pi.sh"), str(root_file_system(release)), board, str(share)]
    probe = subprocess.run([*base, "true"], capture_output=True, text=True, check=False)
    if probe.returncode:
        pytest.skip(f"user namespaces with binfmt_misc do not work here: {probe.stderr[-200:]}")
    done = subprocess.run(
        [*base, "bash", "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize("case", CASES)
def test_a_fresh_board_runs_the_sample_offline(case: str, host: Host) -> None:
    board, _, release = case.partition(":")
    script = STEPS.format(prompt=PROMPT, quants=" ".join(QUANTS), exact=" ".join(EXACT))
    where, version, *said, doctor = emulate(
        board, release or "bookworm", host.share, script
    ).splitlines()
    said, before, anew = said[: len(QUANTS)], said[len(QUANTS) : -len(EXACT)], said[-len(EXACT) :]
    for here, there in zip(map(json.loads, before), map(json.loads, anew), strict=True):
        assert here["ids"] == there["ids"]
        assert len(here["ids"]) > 4
        assert (here["reused_tokens"] > 300, there["reused_tokens"]) == (True, 0)
    assert where == "/home/pi/.local/bin/pitool"
    assert version.startswith("pitool")
    answers: dict[str, list[int]] = {
        quant: json.loads(line)["ids"] for quant, line in zip(QUANTS, said, strict=True)
    }
    for quant in EXACT:
        assert answers[quant] == host.answers[quant]
        assert len(answers[quant]) == 32
    # Kernels round differently; the first words of a quantised answer agree all the same.
    for quant in QUANTISED:
        assert answers[quant][:8] == host.answers[quant][:8]
    found = {finding["check"]: finding for finding in json.loads(doctor)["findings"]}
    assert VARIANTS[board] in found["llama.cpp"]["found"]
    assert found["llama.cpp"]["severity"] == "ok"
    assert ("DOTPROD" in found["llama.cpp"]["found"]) == (board == "pi5")
    assert found["page size"]["found"] == PAGES[board]
    assert found["userland"]["severity"] == "ok"
    assert "Raspberry Pi" in found["board"]["found"]
