"""The wheel for the board: two builds are the same bytes, small, and load on pages of 16 KiB.

Takes two cross-builds, several minutes each: ``PITOOL_BUILD_WHEELS=1`` asks for it.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import zipfile
from pathlib import Path

import pytest

from pitool.deploy import wheel, wheelfile

MOST_BYTES = 3_500_000

pytestmark = [
    pytest.mark.timeout(3000),
    pytest.mark.skipif(
        not os.environ.get("PITOOL_BUILD_WHEELS"), reason="PITOOL_BUILD_WHEELS is not set"
    ),
]
MISSING = {
    "gcc": shutil.which("aarch64-linux-gnu-g++") is None,
    "zig": importlib.util.find_spec("ziglang") is None,
}


@pytest.mark.parametrize("compiler", MISSING)
def test_two_builds_are_the_same_bytes(
    compiler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if MISSING[compiler]:
        pytest.skip(f"the compiler is not installed: {compiler}")
    made = []
    for name in ("a", "a-place-with-a-longer-name"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
        made.append(wheel.build(compiler))
    assert made[0].sha256 == made[1].sha256
    assert made[0].bytes < MOST_BYTES
    with zipfile.ZipFile(made[0].path) as archive:
        libraries = [name for name in archive.namelist() if name.endswith(".so")]
        assert sum("libggml-cpu-armv8" in name for name in libraries) == len(wheel.VARIANTS)
        for name in libraries:
            data = archive.read(name)
            wheelfile.check(name, data)
            assert wheelfile.alignment(data) % (16 * 1024) == 0
            assert str(tmp_path).encode() not in data
