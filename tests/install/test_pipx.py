"""The wheel as hatchling builds it, installed with pipx: what a laptop and a board get of it.

Its dependencies are those of this environment, so its metadata names none, which pipx would look
for: nothing is downloaded, and nothing compiled.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
QUESTION = "What is a Raspberry Pi 5?"

pytestmark = pytest.mark.skipif(not shutil.which("pipx"), reason="pipx is not installed")


@dataclass(frozen=True)
class Installed:
    """A home of pipx with pitool in it."""

    home: Path

    @property
    def environment(self) -> dict[str, str]:
        names = {"PIPX_HOME": "pipx", "PIPX_BIN_DIR": "bin", "PIPX_MAN_DIR": "man", "HOME": "user"}
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PIPX"))}
        return kept | {name: str(self.home / folder) for name, folder in names.items()}

    def run(self, *words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            list(map(str, words)), capture_output=True, text=True, check=False, cwd=self.home,
            env=self.environment, timeout=200,
        )  # fmt: skip

    def pitool(self, *words: object) -> str:
        done = self.run(self.home / "bin" / "pitool", *words)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("dist")
    words = ("-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w")
    subprocess.run([sys.executable, *words, str(folder), str(ROOT)], check=True)
    (made,) = folder.glob("pitool-*.whl")
    return without_dependencies(made, folder / "alone")


def without_dependencies(wheel: Path, folder: Path) -> Path:
    """Return a copy of a wheel whose metadata names no dependencies."""
    folder.mkdir()
    copy = folder / wheel.name
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(copy, "w") as new:
        for entry in old.infolist():
            data = old.read(entry)
            if entry.filename.endswith(".dist-info/METADATA"):
                lines = data.splitlines(keepends=True)
                data = b"".join(line for line in lines if not line.startswith(b"Requires-Dist"))
                assert len(data) < entry.file_size
            new.writestr(entry, data)
    return copy


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    own = Installed(tmp_path_factory.mktemp("home"))
    (own.home / "user").mkdir()
    install = ("pipx", "install", "--python", sys.executable, "--pip-args=--no-deps")
    done = own.run(*install, wheel)
    if done.returncode and "pip" in done.stderr and not (own.home / "bin" / "pitool").exists():
        pytest.skip(f"pipx could not make its own environment: {done.stderr[-200:]}")
    assert done.returncode == 0, done.stderr
    (packages,) = (own.home / "pipx" / "venvs" / "pitool" / "lib").glob("python*/site-packages")
    (packages / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return own


@pytest.mark.thorough
def test_it_runs_from_its_own_place(installed: Installed) -> None:
    assert installed.pitool("--version").startswith("pitool, version ")
    inside = installed.run(
        installed.home / "pipx/venvs/pitool/bin/python",
        "-c",
        "import pitool; print(pitool.__file__)",
    )
    assert inside.stdout.startswith(str(installed.home))


def test_its_data_travels_with_it(installed: Installed) -> None:
    assert "Take Q4_K_M" in installed.pitool("plan", "14B")
    assert "qwen3-1.7b" in installed.pitool("models", "--board", "pi5", "--ram", "8gb")


@pytest.mark.thorough
def test_a_bundle_is_made_and_answers(installed: Installed) -> None:
    sample = ROOT / "recipes" / "sample" / "checkpoint"
    bundle = installed.home / "sample"
    installed.pitool("convert", sample, "--ram", "1gb", "--quant", "Q8_0", "--out", bundle)
    words = ("--temp", "0", "--max-tokens", "32")
    assert "Cortex-A76" in installed.pitool("run", bundle, QUESTION, *words)


def test_the_man_page_is_found(installed: Installed) -> None:
    pages = list((installed.home / "pipx").rglob("share/man/man1/pitool.1"))
    assert [page.read_bytes() for page in pages] == [(ROOT / "man" / "pitool.1").read_bytes()]
