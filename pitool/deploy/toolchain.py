"""The C++ compilers that make aarch64 code on this host: Debian's GCC, or zig from PyPI.

Owns how each is found and called. Installs nothing.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pitool.errors import MissingPart

GCC = "aarch64-linux-gnu-"
ZIG_TARGET = "aarch64-linux-gnu.2.28"
ZIG_INSTALL = f"{sys.executable} -m pip install ziglang (411 MB)"

# zig knows no -march=armv8*: the same architectures under its own names.
ZIG_WRAPPER = """#!/bin/sh
for word do
    shift
    case $word in
        -march=armv8.2-a+*) word=-mcpu=generic+v8_2a+${{word#-march=armv8.2-a+}}
            word=$(printf %s "$word" | sed 's/+fp16/+fullfp16/') ;;
        -march=armv8*) word=-mcpu=generic+v8a ;;
    esac
    set -- "$@" "$word"
done
exec "{zig}" {tool} {target} "$@"
"""

CMAKE = """set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
set(CMAKE_C_COMPILER "{cc}")
set(CMAKE_CXX_COMPILER "{cxx}")
"""


@dataclass(frozen=True, slots=True)
class Toolchain:
    """A cross compiler; ``version`` is its own first line, part of the key of what it builds.

    ``write`` puts what it needs into a folder and returns the path of the CMake toolchain file.
    """

    name: str
    version: str
    write: Callable[[Path], Path]


def find(name: str | None = None) -> Toolchain:
    """Return the named toolchain (``gcc`` or ``zig``), or the first that is installed.

    Raises MissingPart with the ways to get one.
    """
    for key, make in (("gcc", _gcc), ("zig", _zig)):
        found = make() if name in (None, key) else None
        if found:
            return found
    raise MissingPart(
        f"there is no {name or 'cross'} compiler for aarch64 on this machine",
        f"install one: sudo apt-get install g++-aarch64-linux-gnu, or without root {ZIG_INSTALL}",
    )


def _gcc() -> Toolchain | None:
    cxx = shutil.which(f"{GCC}g++")
    if cxx is None:
        return None

    def write(folder: Path) -> Path:
        text = CMAKE.format(cc=f"{GCC}gcc", cxx=f"{GCC}g++")
        path = folder / "toolchain.cmake"
        path.write_text(f"{text}set(CMAKE_FIND_ROOT_PATH /usr/aarch64-linux-gnu)\n")
        return path

    return Toolchain("gcc", _first_line([cxx, "--version"]), write)


def _zig() -> Toolchain | None:
    package = importlib.util.find_spec("ziglang")
    if package is None or package.origin is None:
        return None
    # The program itself: where pip builds, Python does not find the package.
    zig = Path(package.origin).with_name("zig")

    def write(folder: Path) -> Path:
        paths = {}
        for tool, flags in (("cc", True), ("c++", True), ("ar", False), ("ranlib", False)):
            path = folder / f"zig-{tool}"
            target = f"-target {ZIG_TARGET}" if flags else ""
            path.write_text(ZIG_WRAPPER.format(zig=zig, tool=tool, target=target))
            path.chmod(0o755)
            paths[tool] = path
        text = CMAKE.format(cc=paths["cc"], cxx=paths["c++"])
        extra = f'set(CMAKE_AR "{paths["ar"]}")\nset(CMAKE_RANLIB "{paths["ranlib"]}")\n'
        toolchain = folder / "toolchain.cmake"
        toolchain.write_text(text + extra)
        return toolchain

    return Toolchain("zig", _first_line([str(zig), "version"]), write)


def _first_line(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).partition("\n")[0].strip()
