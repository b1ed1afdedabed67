"""The .pi of the sample model beside compiling llama-cpp-python from its sdist: size and time.

    python -m benchmarks.install            # 13 minutes of CPU time, nearly all of it compiling
    python -m benchmarks.install --emulate pi5

Both sides run on this machine and end with the same packages in an environment of their own, all
downloads made before: ours unpacks an archive and installs it as install.sh of a .pi does, theirs
is pip, which compiles llama-cpp-python as it does on a Raspberry Pi today. So the ratio is that of
the work and not of a network; a Pi takes longer for both. ``--emulate`` adds our side on an
emulated board, whose time says only that it is not more than this. The sizes are those of the real
archive for a Pi 5. The last line on stdout is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.peer import cache, say
from pitool.catalog.manifest import FileEntry
from pitool.catalog.outputs import output
from pitool.deploy import archive, pack, wheel

LLAMA = "llama-cpp-python"
BUILDERS = ("scikit-build-core[pyproject]", "cmake", "ninja")
EMULATOR = Path(__file__).parents[1] / "tests/emulated/pi.sh"
RUNS = 5
MB = 1e6


def pip(python: Path | str, *words: str) -> None:
    """Run pip without an index of its own choice or cached builds; its words go to stderr."""
    command = [str(python), "-m", "pip", "--no-cache-dir", "--disable-pip-version-check", "-q"]
    subprocess.run([*command, *words], check=True, stdout=sys.stderr)


def fetch(folder: Path) -> None:
    """Download all that either side installs, the sdist among it, and what builds it."""
    pinned = f"{LLAMA}=={wheel.pinned_version()}"
    pip(sys.executable, "download", "-d", str(folder), *pack.requirements(), *BUILDERS, "pip")
    pip(sys.executable, "download", "-d", str(folder), "--no-binary", LLAMA, pinned)


def compiled(packages: Path, folder: Path) -> tuple[float, Path]:
    """Return the seconds that pip takes with the sdist, and the wheel that it made."""
    offline = ("--no-index", "--find-links", str(packages))
    pinned = f"{LLAMA}=={wheel.pinned_version()}"
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    python = folder / "venv/bin/python"
    pip(python, "wheel", "--no-deps", *offline, "-w", str(folder), pinned)
    (made,) = folder.glob("llama_cpp_python-*.whl")
    pip(python, "install", *offline, *pack.requirements(), str(made))
    return time.perf_counter() - start, made


def host_archive(packages: Path, llama: Path, folder: Path) -> Path:
    """Write an archive like a board's, of wheels for this machine."""
    own = pack.own_wheel(folder)
    names = [own, llama, *(p for p in packages.glob("*.whl") if not _builder(p))]
    sources = {f"wheels/{path.name}": path for path in names}
    sources |= {"pitool": pack.HERE / "board_launcher.sh"}
    wheels = tuple(n for n in sources if n.startswith("wheels/") and "/pip-" not in n)
    contents = archive.Contents(
        name="runtime", board="pi5", pitool="0", bundles=(), memory=0,
        pythons={f"{sys.version_info.major}.{sys.version_info.minor}": wheels},
        files=tuple(
            FileEntry(name, path.stat().st_size, archive.file_digest(path))
            for name, path in sorted(sources.items())
        ),
    )  # fmt: skip
    target = folder / "host.pi"
    with output(target) as file:
        archive.write(file, contents, sources)
    return target


def _builder(path: Path) -> bool:
    return path.name.startswith(("scikit_build_core", "cmake", "ninja", "pathspec"))


def installed(made: Path, folder: Path) -> float:
    """Return the seconds from the archive to an environment that starts."""
    place = folder / "unpacked"
    home = folder / "home"
    for path in (place, home):
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
    environment = {**os.environ, "HOME": str(home), "PITOOL_HOME": str(home / "pitool")}
    start = time.perf_counter()
    subprocess.run(["tar", "-xf", made, "-C", place], check=True)
    (own,) = (place / "wheels").glob("pitool-*.whl")
    subprocess.run(
        [sys.executable, "-m", "pitool.deploy.arrive", "install", place],
        check=True, stdout=sys.stderr, env={**environment, "PYTHONPATH": str(own)}, cwd=folder,
    )  # fmt: skip
    return time.perf_counter() - start


def emulated(board: str, share: Path) -> float:
    """Return the seconds of unpacking and install.sh on an emulated board."""
    script = "mkdir s && tar -xf /share/sample.pi -C s && s/install.sh >&2"
    system = cache() / "rootfs/bookworm"
    start = time.perf_counter()
    subprocess.run(
        [EMULATOR, system, board, share, "bash", "-c", script], check=True, stdout=sys.stderr
    )
    return time.perf_counter() - start


def main() -> None:
    """Measure, and print a table and JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--runs", type=int, default=RUNS, help="of our side")
    parser.add_argument("--emulate", metavar="BOARD", help="pi3, pi4 or pi5")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=cache(), prefix="install-") as scratch:
        folder = Path(scratch)
        result = measure(folder, asked.runs)
        if asked.emulate:
            result[f"emulated_{asked.emulate}_seconds"] = emulated(asked.emulate, folder / "share")
    for name, value in result.items():
        print(f"{name:>28}  {value:10.2f}")
    print(json.dumps(result))


def sample(folder: Path) -> dict[str, int]:
    """Pack the sample model for a Pi 5 as ``share/sample.pi``; return what pack says of it."""
    program = [sys.executable, "-m", "pitool"]
    words = ["convert", "sample", "--ram", "1gb", "--out", str(folder / "sample")]
    subprocess.run([*program, *words], check=True, stdout=sys.stderr)
    words = ["pack", str(folder / "sample"), "--board", "pi5", "--json"]
    words += ["-o", str(folder / "share/sample.pi")]
    done = subprocess.run([*program, *words], check=True, stdout=subprocess.PIPE)
    said: dict[str, int] = json.loads(done.stdout)
    return said


def measure(folder: Path, runs: int) -> dict[str, float]:
    """Return sizes in MB, seconds of both sides, and theirs over ours."""
    for name in ("packages", "compiled", "share"):
        (folder / name).mkdir()
    say("fetching what both sides install")
    fetch(folder / "packages")
    say("theirs: pip compiles the sdist")
    theirs, llama = compiled(folder / "packages", folder / "compiled")
    say("ours: unpack and install")
    made = host_archive(folder / "packages", llama, folder)
    times = [installed(made, folder) for _ in range(runs)]
    packed = sample(folder)
    ours = statistics.median(times)
    return {
        "pi_mb": packed["bytes"] / MB,
        "pi_runtime_mb": packed["runtime_bytes"] / MB,
        "pi_model_mb": packed["model_bytes"] / MB,
        "ours_seconds": ours,
        "ours_slowest_seconds": max(times),
        "theirs_seconds": theirs,
        "theirs_over_ours": theirs / ours,
    }


if __name__ == "__main__":
    main()
