"""kill -9 at ten random moments: no bundle claims to be whole that is not; the next run works."""

from __future__ import annotations

import contextlib
import hashlib
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pitool.catalog import bundles, manifest
from pitool.convert import cache
from tests.cli.conftest import environment
from tests.convert.helpers import names

SEED = 20


def check_what_claims_to_be_whole(folder: Path) -> int:
    """Hold every visible bundle against its manifest, byte by byte; return how many there are."""
    visible = [path for path in folder.glob("*") if not path.name.startswith(".")]
    for path in visible:
        for artifact in manifest.read(path).artifacts:
            for file in artifact.files:
                data = (path / file.path).read_bytes()
                assert hashlib.sha256(data).hexdigest() == file.sha256
    return len(visible)


@pytest.mark.engine
def test_ten_kills(tiny_checkpoint: Path, private_home: Path) -> None:
    order = [sys.executable, "-m", "pitool", "convert", str(tiny_checkpoint), "--ram", "1gb"]
    text = private_home.with_name("notes.txt")
    text.write_text("A Raspberry Pi has 4 cores. " * 10)
    order += ["--quant", "Q4_K_M,Q8_0", "--calibration", str(text), "--force"]

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            order, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment(),
            cwd=Path(__file__).parents[2],
        )  # fmt: skip

    begun = time.monotonic()
    with start() as process:
        assert process.wait() == 0
    whole = time.monotonic() - begun
    target = private_home / "bundles"
    assert check_what_claims_to_be_whole(target) == 1
    moments, killed = random.Random(SEED), 0
    for attempt in range(10):
        if attempt % 2:  # with the intermediate of an earlier run, and without
            for path in cache.folder().glob("*.gguf"):
                path.unlink()
        with start() as process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(moments.uniform(0.2, 0.95) * whole)
            killed += process.poll() is None
            process.kill()
        # A replaced bundle may lie aside for a moment: then none is there, never half a one.
        assert check_what_claims_to_be_whole(target) <= 1
        for path in cache.folder().glob("*.gguf"):
            assert path.read_bytes()[:4] == b"GGUF"
    assert killed > 0
    with start() as process:
        assert process.wait() == 0
    assert names(target) == {"tiny-llama-1gb"}
    assert check_what_claims_to_be_whole(target) == 1
    (made,), broken = bundles.list_bundles()
    assert not broken
    assert [a.quantisation for a in made.manifest.artifacts] == ["Q4_K_M", "Q8_0"]
    assert not [name for name in names(cache.folder()) if name.startswith(".")]
