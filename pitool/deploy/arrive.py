"""BOARD. Installs an unpacked archive below the user's home, offline, and switches to it at once.

``releases/ID/`` links one runtime (``runtimes/KEY``, a virtual environment) and the bundles
(``store/KEY``) that belong together; ``current`` links the release in use and is replaced by one
rename, so a power cut leaves the old release or the new one. Standard library only: a fresh board
runs it from pitool's wheel: ``PYTHONPATH=pitool.whl python3 -m pitool.deploy.arrive``.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pitool.catalog.bundles import RELEASES, STORE, home
from pitool.catalog.files import sync, sync_tree, write_atomically
from pitool.catalog.scratch import locked
from pitool.deploy import archive, systemd
from pitool.errors import BadInput, MissingPart, PitoolError, disk_full

KEEP = 2
# Where links lie that a killed installation did not give their names.
_LINKS = (".*.link", "bundles/.*.link", f"{RELEASES}/*/.*.link", f"{RELEASES}/*/bundles/.*.link")
DONE = ".complete"
# Run by a runtime: a build for another CPU dies of the first line; then every file must be there
# with its size, which a power cut takes away.
SMOKE = """
import llama_cpp.llama_cpp
import importlib.metadata
for package in importlib.metadata.distributions():
    for file in package.files or ():
        if file.size is not None and file.locate().stat().st_size != file.size:
            raise SystemExit(f"{file} is damaged")
"""


def install(folder: Path, keep: int = KEEP) -> str:
    """Install an unpacked archive, switch to it, and return the id of the release.

    Raises MissingPart for a Python that the archive has no wheels for, BadInput for damage.
    """
    contents = archive.read_folder(folder)
    with _alone() as top:
        return _install(folder, contents, top, keep)


@contextmanager
def _alone() -> Iterator[Path]:
    """Yield the home of pitool while no other installation works in it."""
    top = home()
    top.mkdir(parents=True, exist_ok=True)
    with locked(top):
        yield top


def _install(folder: Path, contents: archive.Contents, top: Path, keep: int) -> str:
    before = _current(top)
    release = top / RELEASES / contents.id
    staging = release.with_name(f".{contents.id}.partial")
    shutil.rmtree(staging, ignore_errors=True)
    (staging / "bundles").mkdir(parents=True)
    if contents.pythons:
        _link(staging / "runtime", _runtime(folder, contents, top))
    elif before and (before / "runtime").exists():
        _link(staging / "runtime", (before / "runtime").resolve())
    else:
        raise MissingPart(
            "the archive contains no runtime, and none is installed",
            "create it again without --model-only",
        )
    for link in sorted((before / "bundles").iterdir()) if before else []:
        _link(staging / "bundles" / link.name, link.resolve())
    for name in contents.bundles:
        _link(staging / "bundles" / name, _store(folder / "bundles" / name, top))
    shutil.copy2(folder / archive.MANIFEST, staging)
    sync_tree(staging)
    if release.is_dir():
        _renew(release, staging)
    else:
        staging.rename(release)
    sync(release.parent)
    _switch(top, release)
    _prune(top, keep)
    return contents.id


def _renew(release: Path, staging: Path) -> None:
    """Replace what a release links to, each link in one step: it may be the one in use."""
    (release / "bundles").mkdir(exist_ok=True)
    for path in (staging / archive.MANIFEST, staging / "runtime", *(staging / "bundles").iterdir()):
        path.replace(release / path.relative_to(staging))
    sync(release / "bundles")
    sync(release)
    shutil.rmtree(staging)


def use(name: str) -> str:
    """Switch to a release that is here, after checking that it is whole, and return its id.

    Raises BadInput where it is not.
    """
    with _alone() as top:
        release = top / RELEASES / name
        contents = archive.read_manifest(release)
        files = [entry for entry in contents.files if entry.path.startswith("bundles/")]
        if not archive.whole(release, files) or not _starts(release / "runtime"):
            raise BadInput(f"the release {name} is damaged", "push or install it again")
        _switch(top, release)
    return name


def rollback() -> str:
    """Switch to the release before the one in use, and return its id."""
    nothing = BadInput("there is no earlier release to roll back to", "push a release")
    if not home().is_dir():
        raise nothing
    with _alone() as top:
        current = _current(top)
        others = [path for path in _releases(top) if path != current]
        if not others:
            raise nothing
        _switch(top, others[0])
    return others[0].name


def uninstall(*, models: bool = False) -> None:
    """Remove runtimes and releases, and with ``models`` the bundles as well."""
    if home().is_dir():
        with _alone() as top:
            _remove(top, models=models)
    _launcher().unlink(missing_ok=True)


def _remove(top: Path, *, models: bool) -> None:
    for link in (top / "bundles").glob("*"):
        if link.is_symlink() and models:
            link.unlink()
        elif link.is_symlink() and link.exists():
            # A bundle that stays needs no release to lead to it.
            _link(link, link.resolve())
    (top / "current").unlink(missing_ok=True)
    for name in (RELEASES, "runtimes", *([STORE] if models else [])):
        shutil.rmtree(top / name, ignore_errors=True)


def _runtime(folder: Path, contents: archive.Contents, top: Path) -> Path:
    """Return the virtual environment of these wheels, made if it is not there yet."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    wheels = contents.pythons.get(version)
    if wheels is None:
        known = " and ".join(sorted(contents.pythons))
        raise MissingPart(
            f"this system has Python {version}, and the archive is for {known}",
            "use Raspberry Pi OS Bookworm or Trixie (64-bit)",
        )
    hashes = sorted(entry.sha256 for entry in contents.files if entry.path in wheels)
    key = hashlib.sha256(repr((version, hashes)).encode()).hexdigest()[:12]
    target = top / "runtimes" / key
    if (target / DONE).exists() and _starts(target):
        return target
    shutil.rmtree(target, ignore_errors=True)
    _run(sys.executable, "-P", "-m", "venv", "--without-pip", str(target))
    pip = next((folder / "wheels").glob("pip-*.whl"), None)
    if pip is None:
        raise BadInput(f"{folder} contains no pip to install with", archive.AGAIN)
    words = ("--no-index", "--no-deps", "--no-compile", "--disable-pip-version-check", "-q")
    paths = [str(folder / wheel) for wheel in wheels]
    _run(str(target / "bin/python"), f"{pip}/pip", "install", *words, *paths)
    _smoke(target)
    shutil.copy2(folder / "pitool", target / "launcher")
    sync_tree(target)  # what says that it is complete must not reach the disk before it
    (target / DONE).touch()
    sync(target)
    sync(target.parent)
    return target


def _starts(runtime: Path) -> bool:
    """Tell whether a runtime is whole and loads llama.cpp on this board."""
    try:
        _smoke(runtime)
    except (PitoolError, OSError):
        return False
    return True


def _smoke(runtime: Path) -> None:
    _run(str(runtime / "bin/python"), "-I", "-c", SMOKE)


def _run(*command: str) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PIP_"))}
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", check=False, env=environment
    )
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise PitoolError(f"{Path(command[0]).name} failed ({said})", "push or install again")


def _store(bundle: Path, top: Path) -> Path:
    """Return the place of a bundle, copied there whole if it is new."""
    target = top / STORE / f"{bundle.name}-{archive.file_digest(bundle / 'manifest.json')[:12]}"
    if not _same(bundle, target):
        shutil.rmtree(target, ignore_errors=True)
        staging = target.with_name(f".{target.name}.partial")
        shutil.rmtree(staging, ignore_errors=True)
        shutil.copytree(bundle, staging, copy_function=_hard_link)
        sync_tree(staging)
        staging.rename(target)
        sync(target.parent)
    return target


def _same(bundle: Path, target: Path) -> bool:
    """Tell whether every file of a bundle is in ``target`` as well."""
    for path in bundle.rglob("*"):
        other = target / path.relative_to(bundle)
        if path.is_file() and not (
            other.is_file() and archive.file_digest(path) == archive.file_digest(other)
        ):
            return False
    return target.is_dir()


def _hard_link(source: str, target: str) -> None:
    """Link a file where both lie on one disk: a model is not copied twice."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _switch(top: Path, release: Path) -> None:
    """Make ``release`` the one in use, by one rename."""
    _link(top / "current", release)
    os.utime(release, follow_symlinks=False)
    (top / "bundles").mkdir(exist_ok=True)
    for link in (top / "bundles").iterdir():
        if link.is_symlink() and not link.exists():
            link.unlink()
    for bundle in (release / "bundles").iterdir():
        path = top / "bundles" / bundle.name
        if path.is_symlink() or not path.exists():
            _link(path, top / "current/bundles" / bundle.name)
    launcher = _launcher()
    launcher.parent.mkdir(parents=True, exist_ok=True)
    text = (release / "runtime/launcher").read_text(encoding="utf-8")
    write_atomically(launcher, text.replace("@HOME@", str(top)).encode(), 0o755)
    _restart_service()


def _restart_service() -> None:
    """Have running services of the user's systemd take what is in use now."""
    for name in (systemd.NAME, systemd.CLUSTER_NAME):
        if not systemd.unit_file(name).is_file():
            continue
        words = ("try-restart", name)
        try:
            systemd.systemctl(*words)
        except (OSError, subprocess.CalledProcessError):
            again = " ".join(("systemctl", "--user", *words))
            print(f"warning: restart the service: {again}", file=sys.stderr)  # noqa: T201


def _link(path: Path, target: Path) -> None:
    """Put a relative symbolic link at ``path``, in place of what was there."""
    partial = path.with_name(f".{path.name}.link")
    partial.unlink(missing_ok=True)
    partial.symlink_to(os.path.relpath(target, path.parent))
    partial.replace(path)
    sync(path.parent)


def _prune(top: Path, keep: int) -> None:
    """Remove all but the newest releases, and what neither those nor kept bundles link to."""
    for left in (top / RELEASES).glob(".*.partial"):  # of an installation that was killed
        shutil.rmtree(left)
    for left in (link for pattern in _LINKS for link in top.glob(pattern)):
        left.unlink()
    for release in _releases(top)[max(keep, 1) :]:
        if release != _current(top):
            shutil.rmtree(release)
    used = {link.resolve() for link in (top / "bundles").iterdir()} | {
        link.resolve()
        for release in _releases(top)
        for link in (release / "runtime", *(release / "bundles").iterdir())
    }
    for path in (*(top / "runtimes").glob("*"), *(top / STORE).glob("*")):
        if path.resolve() not in used:
            shutil.rmtree(path)


def _releases(top: Path) -> list[Path]:
    """Return the releases, the last used first."""
    found = [path.resolve() for path in (top / RELEASES).glob("[!.]*") if path.is_dir()]
    return sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True)


def _current(top: Path) -> Path | None:
    link = top / "current"
    return link.resolve() if link.exists() else None


def _launcher() -> Path:
    return Path.home() / ".local/bin/pitool"


def main(words: list[str] | None = None) -> int:
    """Do what the installer or a push asks; one sentence on stderr when it fails."""
    parser = argparse.ArgumentParser(prog="pitool.deploy.arrive")
    parser.add_argument("what", choices=["unpack", "install", "use", "rollback", "uninstall"])
    parser.add_argument("paths", nargs="*", type=Path)
    parser.add_argument("--keep", type=int, default=KEEP)
    parser.add_argument("--models", action="store_true")
    asked = parser.parse_args(words)
    try:
        said = _do(asked)
    except PitoolError as error:
        print(f"pitool: {error.what}; {error.do}.", file=sys.stderr)  # noqa: T201
        return error.exit_code
    except OSError as error:
        full = disk_full(error, "uninstall what is not needed")
        print(f"pitool: {full.sentence if full else error}.", file=sys.stderr)  # noqa: T201
        return full.exit_code if full else 1
    print(said)  # noqa: T201
    return 0


def _do(asked: argparse.Namespace) -> str:
    match asked.what:
        case "unpack":
            return archive.unpack(*asked.paths).id
        case "install":
            return install(asked.paths[0], asked.keep)
        case "use":
            return use(asked.paths[0].name)
        case "rollback":
            return rollback()
        case _:
            uninstall(models=asked.models)
            return "removed"


if __name__ == "__main__":
    sys.exit(main())
