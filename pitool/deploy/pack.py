"""``pitool pack``: a bundle and all that a board needs to run it, in one file, for no network."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import re
from dataclasses import dataclass
from pathlib import Path

import pitool
from pitool.catalog import cache, manifest, tables
from pitool.catalog.boards import Board
from pitool.catalog.bundles import Bundle
from pitool.catalog.manifest import Artifact
from pitool.catalog.outputs import check_output, output
from pitool.deploy import archive, wheel, wheelfile
from pitool.engine.prefills import bundled
from pitool.errors import DoesNotFit, PitoolError, UsageError

PYTHONS = ("3.11", "3.13")  # Raspberry Pi OS Bookworm and Trixie
PLATFORMS = tuple(f"manylinux_2_{minor}_aarch64" for minor in (36, 35, 34, 31, 28, 27, 26, 24, 17))
PLATFORM_WORDS = [w for p in (*PLATFORMS, "manylinux2014_aarch64") for w in ("--platform", p)]
# Its wheel asks for the hub's client, which only downloads: no part of a board.
ALONE = ("tokenizers",)
HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Packed:
    """An archive that was written; sizes in bytes."""

    path: Path
    bytes: int
    runtime_bytes: int
    model_bytes: int
    id: str


def pack(
    bundle: Bundle | None,
    board_id: str,
    board: Board,
    target: Path,
    *,
    runtime: bool = True,
    quantisations: tuple[str, ...] = (),
    compiler: str | None = None,
) -> Packed:
    """Write the archive ``target`` for a board; ``bundle`` None packs the runtime only.

    Raises DoesNotFit when no artifact of the bundle fits the board, UsageError for a folder that is
    not there, and what ``wheel.build`` does.
    """
    check_output(target, "file with -o")
    with cache.working("pack") as folder:
        sources: dict[str, Path] = {}
        pythons, memory = {}, 0
        if runtime:
            pythons = _runtime(sources, folder, compiler)
        runtime_bytes = sum(path.stat().st_size for path in sources.values())
        if bundle is not None:
            memory = _model(sources, bundle, board, quantisations, folder)
        try:
            contents = archive.Contents(
                name=bundle.path.name if bundle else "runtime",
                board=board_id,
                pitool=pitool.__version__,
                pythons=pythons,
                bundles=(bundle.path.name,) if bundle else (),
                memory=memory,
                files=tuple(
                    manifest.FileEntry(name, path.stat().st_size, archive.file_digest(path))
                    for name, path in sorted(sources.items())
                ),
            )
        except ValueError as error:  # a folder that its user gave an odd name
            raise UsageError(f"cannot pack {target.name}: {error}", "rename it") from None
        with output(target) as file:
            size = archive.write(file, contents, sources)
    return Packed(target, size, runtime_bytes, contents.bytes - runtime_bytes, contents.id)


def _model(
    sources: dict[str, Path], bundle: Bundle, board: Board, names: tuple[str, ...], folder: Path
) -> int:
    """Add the artifacts that the board wants, with the prompts that were read for them.

    Return the memory of the smallest.
    """
    chosen = choose(bundle, board, names)
    top = f"bundles/{bundle.path.name}"
    for artifact in chosen:
        for entry in artifact.files:
            path = bundle.path / entry.path
            if not path.is_file() or archive.file_digest(path) != entry.sha256:
                raise PitoolError(f"{path} is missing or damaged", "convert the model again")
            sources[f"{top}/{entry.path}"] = path
    manifest.write(folder, dataclasses.replace(bundle.manifest, artifacts=chosen))
    sources[f"{top}/{manifest.FILE_NAME}"] = folder / manifest.FILE_NAME
    for name, prompt in bundled.prompts(bundle.path).items():
        found = [bundled.states(bundle.path, name, a.quantisation) for a in chosen]
        for path in (prompt, *(path for paths in found for path in paths)):
            sources[f"{top}/{path.relative_to(bundle.path).as_posix()}"] = path
    return min(_memory(artifact) for artifact in chosen)


def choose(bundle: Bundle, board: Board, names: tuple[str, ...] = ()) -> tuple[Artifact, ...]:
    """Return the named artifacts of a bundle, or all that fit the board's largest memory."""
    artifacts = bundle.manifest.artifacts
    if names:
        known = {artifact.quantisation: artifact for artifact in artifacts}
        wanted = {
            tables.lookup(known, n.upper(), "artifact", UsageError).quantisation for n in names
        }
        artifacts = tuple(a for a in artifacts if a.quantisation in wanted)
    room = max(ram.mem_total_mib for ram in board.ram) * 1024**2
    fitting = tuple(artifact for artifact in artifacts if _memory(artifact) <= room)
    if not fitting or (names and fitting != artifacts):
        raise DoesNotFit(
            f"{bundle.manifest.name} does not fit a {board.name}", "convert it for a smaller --ram"
        )
    return fitting


def _memory(artifact: Artifact) -> int:
    return sum(line.bytes for line in artifact.memory)


def _runtime(
    sources: dict[str, Path], folder: Path, compiler: str | None
) -> dict[str, tuple[str, ...]]:
    """Add installer, launcher and wheels; return the wheels of each Python."""
    sources["install.sh"] = HERE / "board_install.sh"
    sources["pitool"] = HERE / "board_launcher.sh"
    llama = wheel.build(compiler).path
    own = own_wheel(folder)
    pythons = {}
    for version in PYTHONS:
        wheels = [llama, own, *download(version)]
        sources.update({f"wheels/{path.name}": path for path in wheels})
        pythons[version] = tuple(
            sorted(f"wheels/{path.name}" for path in wheels if not path.name.startswith("pip-"))
        )
    return pythons


def requirements() -> list[str]:
    """Return what the core of pitool needs, without extras and without what is built here."""
    lines = importlib.metadata.requires("pitool") or []
    core = [line for line in lines if "extra ==" not in line]
    return [line for line in core if not line.startswith("llama-cpp-python")]


def download(version: str) -> list[Path]:
    """Return the wheels of the dependencies for a Python on aarch64, and pip's; from the cache."""
    wanted = sorted(requirements())
    key = hashlib.sha256(repr((wanted, ALONE, PLATFORMS)).encode()).hexdigest()[:12]
    kept = cache.folder("board-packages") / f"{version}-{key}"
    if not cache.take(kept):
        tag = "cp" + version.replace(".", "")
        words = ["--only-binary=:all:", *PLATFORM_WORDS, "--python-version", version]
        words += ["--implementation", "cp", "--abi", tag, "--abi", "abi3", "--abi", "none"]
        alone = [r for r in wanted if re.split(r"[^\w-]", r)[0] in ALONE]
        # What llama-cpp-python asks for beside these (its wheel is not on the index).
        rest = [r for r in wanted if r not in alone] + ["diskcache", "typing-extensions"]
        wheel.download(kept, [(*words, *rest), ("--no-deps", *words, *alone, "pip")])
    return sorted(kept.glob("*.whl"))


def own_wheel(folder: Path) -> Path:
    """Return a wheel of the pitool that runs now, made from its files."""
    package, info = Path(pitool.__file__).parent, f"pitool-{pitool.__version__}.dist-info"
    files = _tree(package, "pitool") | _tree(tables.recipes_folder(), "pitool/recipes", ("*.toml",))
    distribution = importlib.metadata.distribution("pitool")
    for name in ("METADATA", "entry_points.txt"):
        files[f"{info}/{name}"] = (distribution.read_text(name) or "").encode()
    files[f"{info}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: pitool\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    files[f"{info}/RECORD"] = wheelfile.record(files, f"{info}/RECORD")
    target = folder / f"pitool-{pitool.__version__}-py3-none-any.whl"
    wheelfile.write_zip(target, files)
    return target


def _tree(folder: Path, prefix: str, patterns: tuple[str, ...] = ("*",)) -> dict[str, bytes]:
    paths = [path for pattern in patterns for path in folder.rglob(pattern) if path.is_file()]
    return {
        f"{prefix}/{path.relative_to(folder).as_posix()}": path.read_bytes()
        for path in paths
        if "__pycache__" not in path.parts and "sample" not in path.relative_to(folder).parts
    }
