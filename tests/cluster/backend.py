"""llama.cpp's RPC backend for the tests, where the installed llama.cpp was built without it.

It is compiled from the sdist of the same version against the installed ggml, and kept in the cache
of the machine, not in that of a test.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

from pitool.catalog import cache, versions

# Before a test's own environment.
SDIST = os.environ.get("PITOOL_LLAMA_CPP_SDIST")
KEPT = cache.root() / "rpc-backend" / (versions.installed("llama-cpp-python") or "none")
SOURCES = ("ggml-rpc.cpp", "transport.cpp")


def environment() -> dict[str, str]:
    """Return what has a child find the backend; skips where there is none and none can be made."""
    folder = installed()
    if list(folder.glob("libggml-rpc.*")):
        return {}
    library = KEPT / "libggml-rpc.so"
    if not library.exists():
        _compile(folder, library)
    return {"GGML_BACKEND_PATH": str(library)}


def installed() -> Path:
    """Return the folder of the installed llama.cpp's libraries."""
    spec = find_spec("llama_cpp")
    assert spec is not None and spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "lib"


def _compile(installed: Path, library: Path) -> None:
    compiler = shutil.which("g++")
    if SDIST is None or compiler is None:
        pytest.skip("llama.cpp has no RPC backend, and PITOOL_LLAMA_CPP_SDIST or g++ is missing")
    ggml = Path(SDIST) / "vendor/llama.cpp/ggml"
    library.parent.mkdir(parents=True, exist_ok=True)
    made = library.with_suffix(f".{os.getpid()}")
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O2", "-DNDEBUG", "-std=c++17",
         "-DGGML_BACKEND_DL", "-DGGML_BACKEND_BUILD", "-DGGML_BACKEND_SHARED", "-DGGML_SHARED",
         f"-I{ggml}/include", f"-I{ggml}/src",
         *(str(ggml / "src/ggml-rpc" / name) for name in SOURCES),
         str(installed / "libggml-base.so"), "-lpthread", "-o", str(made)],
        check=True, capture_output=True,
    )  # fmt: skip
    made.rename(library)
