"""``pitool wheel``: the copy is written as every file that a user names."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from pitool.cli.commands import cli
from pitool.deploy import wheel
from pitool.errors import DoesNotFit

NAME = "llama_cpp_python-1.0-py3-none-linux_aarch64.whl"


@pytest.fixture(autouse=True)
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Have a wheel in the cache."""
    kept = tmp_path / "cached" / NAME
    kept.parent.mkdir()
    kept.write_bytes(b"a wheel")
    found = wheel.Wheel(kept, 7, "", "gcc", cached=True)
    monkeypatch.setattr(wheel, "build", lambda *_, **__: found)
    return kept.read_bytes()


def copy_to(folder: Path) -> None:
    CliRunner().invoke(
        cli, ["wheel", "--out", str(folder)], standalone_mode=False, catch_exceptions=False
    )


def test_a_link_is_followed(tmp_path: Path, built: bytes) -> None:
    (tmp_path / "elsewhere").write_bytes(b"an older one")
    out = tmp_path / "new" / "wheels"
    copy_to(out)
    assert (out / NAME).read_bytes() == built
    (out / NAME).unlink()
    (out / NAME).symlink_to(tmp_path / "elsewhere")
    copy_to(out)
    assert (out / NAME).is_symlink()
    assert (tmp_path / "elsewhere").read_bytes() == built
    assert [path.name for path in out.iterdir()] == [NAME]


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    (tmp_path / NAME).symlink_to("/dev/full")
    with pytest.raises(DoesNotFit, match="cannot write to"):
        copy_to(tmp_path)
    assert Path("/dev/full").is_char_device()
