"""Small archives that really install: pitool's own wheel, pip's, and a llama_cpp that is empty."""

from __future__ import annotations

import sys
import tempfile
from functools import cache
from pathlib import Path
from py_compile import PycInvalidationMode
from py_compile import compile as compile_
from zipfile import ZipFile

import pytest

from pitool.catalog.manifest import FileEntry
from pitool.deploy import archive, pack, wheelfile

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def pip_wheel() -> Path:
    """Return the pip that comes with Python, compiled: most of an installation's time is that."""
    import ensurepip

    bundled = Path(ensurepip.__file__).parent / "_bundled"
    found = [*bundled.glob("pip-*.whl"), *Path("/usr/share/python-wheels").glob("pip-*.whl")]
    if not found:
        pytest.skip("this Python bundles no pip")
    return Path(_compiled(found[0]).name) / found[0].name


@cache
def _compiled(wheel: Path) -> tempfile.TemporaryDirectory[str]:
    """Return a folder with a wheel whose modules need not be compiled; gone with this process."""
    folder = tempfile.TemporaryDirectory()
    modules = Path(folder.name) / "modules"
    with ZipFile(wheel) as source, ZipFile(Path(folder.name) / wheel.name, "w") as target:
        source.extractall(modules)
        for path in sorted(modules.rglob("*")):
            name = path.relative_to(modules)
            if path.is_file():
                target.write(path, name)
            if path.suffix == ".py":
                code = compile_(str(path), str(path.with_suffix(".pyc")), dfile=str(name),
                                invalidation_mode=PycInvalidationMode.UNCHECKED_HASH)  # fmt: skip
                assert code
                target.write(code, name.with_suffix(".pyc"))
    return folder


def llama(folder: Path) -> Path:
    info = "llama_cpp_python-1.0.dist-info"
    files = {
        "llama_cpp/__init__.py": b"",
        "llama_cpp/llama_cpp.py": b"",
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: llama-cpp-python\nVersion: 1.0\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = wheelfile.record(files, f"{info}/RECORD")
    wheelfile.write_zip(folder / "llama_cpp_python-1.0-py3-none-any.whl", files)
    return folder / "llama_cpp_python-1.0-py3-none-any.whl"


def make(
    path: Path,
    model: bytes = b"weights",
    *,
    runtime: bool = True,
    python: str = PYTHON,
    memory: int = 0,
    padding: int = 0,
) -> archive.Contents:
    """Write an archive of the bundle ``tiny`` whose model is ``model``, and return its contents."""
    folder = path.parent / f"{path.stem}.parts"
    folder.mkdir()
    (folder / "manifest.json").write_bytes(b'{"model": "%s"}' % model)
    (folder / "a.gguf").write_bytes(model + bytes(padding))
    sources = {f"bundles/tiny/{n}": folder / n for n in ("manifest.json", "a.gguf")}
    wheels: tuple[str, ...] = ()
    if runtime:
        own, other, pip = pack.own_wheel(folder), llama(folder), pip_wheel()
        sources |= {f"wheels/{wheel.name}": wheel for wheel in (own, other, pip)}
        sources["install.sh"] = pack.HERE / "board_install.sh"
        sources["pitool"] = pack.HERE / "board_launcher.sh"
        wheels = (f"wheels/{own.name}", f"wheels/{other.name}")
    contents = archive.Contents(
        name="tiny", board="pi5", pitool="0.1.0",
        pythons={python: wheels} if runtime else {}, bundles=("tiny",), memory=memory,
        files=tuple(
            FileEntry(name, source.stat().st_size, archive.file_digest(source))
            for name, source in sorted(sources.items())
        ),
    )  # fmt: skip
    with path.open("wb") as file:
        archive.write(file, contents, sources)
    return contents
