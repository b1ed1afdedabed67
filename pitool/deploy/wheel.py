"""``pitool wheel``: llama-cpp-python for every 64-bit Raspberry Pi, built on the host.

One wheel holds two CPU variants of ggml, armv8.0 (Pi 3, Pi 4) and armv8.2 with dotprod and fp16
(Pi 5), of which the engine loads the one that fits. The same sources and compiler give the same
bytes.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pitool.catalog import cache, versions
from pitool.catalog.files import sync, sync_tree
from pitool.catalog.scratch import locked, scratch
from pitool.deploy import toolchain, wheelfile
from pitool.errors import MissingPart, PitoolError
from pitool.process.program import follow

VARIANTS = ("armv8.0_1", "armv8.2_2")
# Read right after llama.cpp's project(). The sdist turns the second off: then the linker sees the
# path of the build, and the build-id with it would be another one each time.
LEAN = """set(LLAMA_BUILD_COMMON OFF CACHE BOOL "" FORCE)
set(CMAKE_BUILD_WITH_INSTALL_RPATH ON)
"""
OPTIONS = (
    "-DGGML_NATIVE=OFF",
    "-DGGML_BACKEND_DL=ON",
    "-DGGML_CPU_ALL_VARIANTS=ON",
    "-DGGML_OPENMP=OFF",
    "-DGGML_RPC=ON",
    "-DLLAVA_BUILD=OFF",
    "-DLLAMA_OPENSSL=OFF",
    "-DCMAKE_PLATFORM_NO_VERSIONED_SONAME=ON",
    "-DCMAKE_INSTALL_LIBDIR=llama_cpp/lib",
    "-DCMAKE_INSTALL_BINDIR=llama_cpp/lib",
    "-DCMAKE_INSTALL_INCLUDEDIR=llama_cpp/include",
    "-DCMAKE_INSTALL_RPATH=$ORIGIN",
    "-DCMAKE_SHARED_LINKER_FLAGS=-Wl,-z,max-page-size=65536",
    "-DCMAKE_MODULE_LINKER_FLAGS=-Wl,-z,max-page-size=65536",
)
EXCLUDE = ";".join(
    f"{name}/**"
    for name in ("llama_cpp/include", "llama_cpp/lib/cmake", "llama_cpp/lib/pkgconfig", "bin",
                 "include", "lib")
)  # fmt: skip
NINJA = re.compile(r"\[(\d+)/(\d+)\]")

OnStep = Callable[[int, int], None]
"""Steps done and steps in all of the compilation."""


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel for the board; ``cached`` when nothing had to be built."""

    path: Path
    bytes: int
    sha256: str
    toolchain: str
    cached: bool


def build(
    compiler: str | None = None, *, force: bool = False, progress: OnStep | None = None
) -> Wheel:
    """Return the wheel of the pinned llama-cpp-python, built if the cache has none.

    Raises MissingPart without a compiler or network, PitoolError when the build fails.
    """
    tools = toolchain.find(compiler)
    version = pinned_version()
    kept = cache.folder("board-wheels", f"{version}-{_key(tools)}")
    cache.take(kept)
    found = sorted(kept.glob("*.whl"))
    if found and not force:
        return describe(found[0], tools.name, cached=True)
    with cache.working("wheel") as folder:
        raw = _compile(sdist(version), tools, folder, progress)
        wheel = wheelfile.normalise(raw, folder)
        sync(wheel)
        target = wheel.replace(kept / wheel.name)
    cache.trim()
    return describe(target, tools.name, cached=False)


def pinned_version() -> str:
    """Return the version of llama-cpp-python that this pitool needs."""
    version = versions.pinned("llama-cpp-python")
    if version is None:
        raise PitoolError(
            "the metadata of this installation has no llama-cpp-python version", "reinstall pitool"
        )
    return version


def describe(path: Path, tools: str, *, cached: bool) -> Wheel:
    """Return a wheel with its size and hash."""
    data = path.read_bytes()
    return Wheel(path, len(data), hashlib.sha256(data).hexdigest(), tools, cached)


def sdist(version: str) -> Path:
    """Return the source archive of llama-cpp-python, downloaded by pip once."""
    kept = cache.folder("board-sources") / version
    if not cache.take(kept):
        words = ("--no-deps", "--no-binary", "llama-cpp-python")
        download(kept, [(*words, f"llama-cpp-python=={version}")])
    return next(kept.glob("llama_cpp_python-*.tar.gz"))


def download(kept: Path, orders: Sequence[tuple[str, ...]]) -> None:
    """Have pip download into a folder of the cache, which is there whole or not at all."""
    with scratch(kept.parent, kept.name) as folder:
        for words in orders:
            pip("download", "-d", str(folder / "all"), *words)
        sync_tree(folder / "all")
        with locked(kept.parent):
            if not kept.exists():  # another run may have been faster
                (folder / "all").rename(kept)
    cache.take(kept)
    cache.trim()


def pip(*words: str) -> None:
    """Run pip quietly; raises MissingPart with its last error line."""
    command = [sys.executable, "-P", "-m", "pip", "-q", "--disable-pip-version-check", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        reason = (errors or done.stderr.splitlines() or ["pip gave no reason"])[-1]
        raise MissingPart(f"pip {words[0]} failed ({reason})", "check the network and pip's index")


def _key(tools: toolchain.Toolchain) -> str:
    recipe = (tools.name, tools.version, OPTIONS, VARIANTS, EXCLUDE, LEAN, toolchain.CMAKE)
    return f"{tools.name}-{hashlib.sha256(repr(recipe).encode()).hexdigest()[:12]}"


def _unpack(archive: Path, folder: Path) -> Path:
    """Return a fresh source tree that builds only the wanted CPU variants."""
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    (source,) = folder.iterdir()
    lists = source / "vendor/llama.cpp/ggml/src/CMakeLists.txt"
    unwanted = re.compile(r"^\s*ggml_add_cpu_backend_variant\(\s*(arm\S+?)[\s)].*$", re.MULTILINE)
    text = lists.read_text(encoding="utf-8")
    lists.write_text(unwanted.sub(lambda m: m[0] if m[1] in VARIANTS else "", text))
    return source


def _compile(
    archive: Path, tools: toolchain.Toolchain, folder: Path, progress: OnStep | None
) -> Path:
    """Return the wheel as pip builds it."""
    source = _unpack(archive, folder / "source")
    (folder / "lean.cmake").write_text(LEAN)
    options = [
        *OPTIONS,
        f"-DCMAKE_TOOLCHAIN_FILE={tools.write(folder)}",
        f"-DCMAKE_PROJECT_llama.cpp_INCLUDE={folder / 'lean.cmake'}",
        # Paths of this build must not end in the files.
        f"-DCMAKE_C_FLAGS=-ffile-prefix-map={folder}=.",
        f"-DCMAKE_CXX_FLAGS=-ffile-prefix-map={folder}=.",
    ]
    environment = {
        "_PYTHON_HOST_PLATFORM": "linux-aarch64",
        "CMAKE_GENERATOR": "Ninja",
        "CMAKE_ARGS": " ".join(options),
        "SOURCE_DATE_EPOCH": str(wheelfile.SOURCE_DATE_EPOCH),
        "GIT_CEILING_DIRECTORIES": str(folder),
        "SKBUILD_BUILD_DIR": str(folder / "build"),
        "SKBUILD_WHEEL_EXCLUDE": EXCLUDE,
        "TMPDIR": str(folder),
    }
    command = [sys.executable, "-P", "-m", "pip", "wheel", "-v", "--no-deps", "--no-cache-dir"]
    log = cache.folder() / "wheel.log"
    code = _build([*command, "-w", str(folder / "wheel"), str(source)], environment, log, progress)
    made = sorted((folder / "wheel").glob("*.whl"))
    if code or not made:
        raise PitoolError("llama.cpp failed to compile", f"see the compiler's output in {log}")
    return made[0]


def _build(
    command: list[str], environment: dict[str, str], log: Path, progress: OnStep | None
) -> int:
    """Run a command with its output in ``log``, reporting ninja's steps; return its exit code."""
    with log.open("w", encoding="utf-8") as kept:

        def keep(line: str) -> None:
            kept.write(line)
            match = NINJA.search(line)
            if match and progress:
                progress(int(match[1]), int(match[2]))

        return follow(command, keep, environment=environment)
