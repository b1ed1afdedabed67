"""Builds llama.cpp's own programs, of the llama.cpp that llama-cpp-python holds.

The source is the sdist of the installed version, from pip; the flags are those of a native build
of the wheel: every CPU feature of this machine, OpenMP, repacking. It is kept in the user's cache.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pitool.bench.rows import LOAD_MODES
from pitool.bench.run import Workload
from pitool.engine.base import Settings

PACKAGE = "llama-cpp-python"
BENCH, QUANTIZE, SERVER, PERPLEXITY, RPC_SERVER = TOOLS = (
    "llama-bench",
    "llama-quantize",
    "llama-server",
    "llama-perplexity",
    "ggml-rpc-server",
)
LOOKUP, SPECULATIVE = EXAMPLES = ("llama-lookup", "llama-speculative-simple")
FLAGS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DBUILD_SHARED_LIBS=ON",
    "-DGGML_NATIVE=ON",
    "-DGGML_CCACHE=OFF",
    "-DGGML_RPC=ON",
    "-DLLAMA_BUILD_COMMON=ON",
    "-DLLAMA_BUILD_TOOLS=ON",
    "-DLLAMA_BUILD_APP=OFF",
    "-DLLAMA_BUILD_SERVER=ON",
    "-DLLAMA_BUILD_UI=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",  # or CMake would download it
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_OPENSSL=OFF",
)
# GCC 12 drops the stores to AMX's tile configuration, and the first prefill ends with SIGILL
# (ggml-org/llama.cpp#26954).
X86_FLAG = "-mno-amx-int8"


@dataclass(frozen=True, slots=True)
class Figure:
    """Tokens per second of each repetition of one test, such as ``pp512``."""

    test: str
    samples: tuple[float, ...]


def cache() -> Path:
    """Return the folder of what benchmarks build and may build again."""
    root = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(root).expanduser() / "pitool"


def version() -> str:
    """Return the installed version of llama-cpp-python, which pyproject.toml pins."""
    return importlib.metadata.version(PACKAGE)


def installed(name: str) -> Path:
    """Return where a program is once it was built."""
    return cache() / "peers" / f"{version()}-{platform.machine()}" / "bin" / name


def program(name: str) -> Path:
    """Return the path of a program, built with those of its like that the cache has not."""
    path = installed(name)
    if not path.is_file():
        folder = path.parents[1]
        folder.mkdir(parents=True, exist_ok=True)
        say(f"building llama.cpp of {PACKAGE} {version()} into {folder}")
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            alike = EXAMPLES if name in EXAMPLES else TOOLS
            missing = [each for each in alike if not installed(each).is_file()]
            built = _build(source(Path(scratch)), Path(scratch) / "build", missing)
            shutil.copytree(built, path.parent, symlinks=True, dirs_exist_ok=True)
    return path


def source(scratch: Path) -> Path:
    """Download and unpack the sdist; return its llama.cpp."""
    order = ["download", "--quiet", "--no-deps", "--no-binary", PACKAGE, "--dest", str(scratch)]
    subprocess.run(
        [sys.executable, "-m", "pip", *order, f"{PACKAGE}=={version()}"],
        check=True,
        stdout=sys.stderr,
    )
    (archive,) = scratch.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(scratch, filter="data")
    (found,) = scratch.glob("*/vendor/llama.cpp")
    return found


def _build(llama: Path, build: Path, programs: Sequence[str]) -> Path:
    """Compile programs; return the folder with them and their libraries."""
    # The libraries are found beside the program, wherever it is copied to.
    extra = ["-DCMAKE_BUILD_WITH_INSTALL_RPATH=ON", "-DCMAKE_INSTALL_RPATH=$ORIGIN"]
    extra += [f"-DLLAMA_BUILD_EXAMPLES={'OFF' if programs is TOOLS else 'ON'}"]
    if platform.machine() == "x86_64":
        extra += [f"-DCMAKE_{language}_FLAGS={X86_FLAG}" for language in ("C", "CXX")]
    for command in (
        ["cmake", "-G", "Ninja", "-S", str(llama), "-B", str(build), *FLAGS, *extra],
        ["cmake", "--build", str(build), "--target", *programs],
    ):
        subprocess.run(command, check=True, stdout=sys.stderr)
    return build / "bin"


def run(model: Path, settings: Settings, workload: Workload, repetitions: int) -> list[Figure]:
    """Return what llama-bench measures with the same settings, prompt and generation apart."""
    flags = {
        "-t": settings.decode_threads,
        "-p": workload.prompt,
        "-n": workload.generate,
        "-r": repetitions,
        "-b": settings.batch,
        "-ub": settings.micro_batch,
        "-ctk": settings.kv_type,
        "-ctv": settings.kv_type,
        "-fa": settings.flash_attention,
        "-lm": LOAD_MODES[settings.load_mode],
        "--repack": int(settings.repack),
    }
    order = [str(part) for pair in flags.items() for part in pair]
    done = subprocess.run(
        [program(BENCH), "-m", str(model), *order, "-o", "json"],
        check=True,
        capture_output=True,
        text=True,
    )
    return [figure(row) for row in json.loads(done.stdout)]


def figure(row: dict[str, Any]) -> Figure:
    """Return a row of llama-bench's JSON, or of pitool's, as a figure."""
    prompt, generate = row["n_prompt"], row["n_gen"]
    name = f"pp{prompt}" if prompt else f"tg{generate}"
    return Figure(name, tuple(row["samples_ts"]))


def say(line: str) -> None:
    """Tell the person who waits; stdout is for results."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    for each in TOOLS:
        print(program(each))
