"""``pitool push``: an archive to boards over OpenSSH, checked before and on arrival.

The archive goes to ``~/.cache/pitool/incoming`` (a cut copy is continued), is unpacked beside it,
and its own installer does the rest, so that nothing is half-installed at any moment.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pitool.catalog.boards import boards
from pitool.deploy import archive
from pitool.device.detect import board_named
from pitool.device.forecast import WORDS
from pitool.device.here import MARGIN_SHARE
from pitool.errors import DoesNotFit, MissingPart, PitoolError
from pitool.planning.places import Verdict, verdict_on
from pitool.remote.ssh import Host
from pitool.report.numbers import compare_bytes, format_bytes, format_share

INCOMING = ".cache/pitool/incoming"
INSTALLED_PER_WHEEL_BYTE = 4
PREFLIGHT = r"""
echo "machine=$(uname -m)"
echo "bits=$(getconf LONG_BIT)"
for name in @PYTHONS@ python3; do
    version=$("$name" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null </dev/null)
    if [ -n "$version" ]; then
        echo "python=$version"
        echo "interpreter=$(command -v "$name")"
        break
    fi
done
echo "system=$(sed -n 's/^PRETTY_NAME="\(.*\)"/\1/p' /etc/os-release)"
echo "model=$(cat /sys/firmware/devicetree/base/model 2>/dev/null | tr -d '\0')"
echo "memory_kib=$(sed -n 's/^MemTotal: *\([0-9]*\).*/\1/p' /proc/meminfo)"
echo "available_kib=$(sed -n 's/^MemAvailable: *\([0-9]*\).*/\1/p' /proc/meminfo)"
echo "free_kib=$(df -Pk "$HOME" | awk 'NR == 2 {print $4}')"
echo "rsync=$(command -v rsync)"
[ ! -f "@RELEASE@/pi.json" ] || echo "installed=yes"
mkdir -p "$HOME/.cache/pitool/incoming"
echo "arrived=$(stat -c %s "$HOME/.cache/pitool/incoming/@ID@.pi" 2>/dev/null)"
"""
INSTALL = r"""
set -eu
cd "$HOME/.cache/pitool/incoming"
if ! echo "@HASH@  @ID@.pi" | sha256sum -c --status; then
    rm -f @ID@.pi
    echo "the copy is damaged: its checksum does not match; push it again" >&2
    exit 1
fi
trap 'rm -rf @ID@' EXIT
rm -rf @ID@ && mkdir @ID@
tar -xf @ID@.pi -C @ID@
PITOOL_PYTHON=@PYTHON@ sh @ID@/install.sh install --keep @KEEP@
rm -f @ID@.pi
# From pushes that were interrupted and never resumed.
find . -mindepth 1 -maxdepth 1 -mtime +7 -exec rm -rf {} +
"""
HOME = "${PITOOL_HOME:-$HOME/.local/share/pitool}"
ARRIVE = f'"{HOME}/current/runtime/bin/python" -P -m pitool.deploy.arrive'
# A model-only archive has no installer of its own: pitool that is there installs it.
MODEL = INSTALL.replace(
    "PITOOL_PYTHON=@PYTHON@ sh @ID@/install.sh install --keep @KEEP@",
    f"{ARRIVE} install @ID@ --keep @KEEP@",
)
ROLLBACK = f"exec {ARRIVE} rollback"
USE = f"exec {ARRIVE} use @ID@"

Say = Callable[[str, str], None]
"""Takes a host's name and what happens there."""

Arrived = Callable[[str, int, int], None]
"""Takes a host's name, and how many bytes of how many have arrived there."""


@dataclass(frozen=True, slots=True)
class Preflight:
    """What a host said before anything was copied; sizes in bytes, None where unknown.

    ``installed``: it has this very release.
    """

    machine: str
    bits: str
    python: str
    interpreter: str
    system: str
    model: str
    memory: int | None
    available: int | None
    free: int | None
    rsync: bool
    arrived: int | None
    installed: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it ended on one host; ``error`` None when it went well, ``release`` the one in use."""

    host: str
    release: str | None
    error: PitoolError | None


@dataclass(frozen=True, slots=True)
class _Job:
    """What goes to every host."""

    path: Path
    contents: archive.Contents
    digest: str
    say: Say
    arrived: Arrived
    keep: int


def push(
    path: Path,
    hosts: list[Host],
    say: Say,
    arrived: Arrived = lambda *_: None,
    *,
    keep: int = 2,
) -> list[Outcome]:
    """Push an archive to several hosts at once; one that fails keeps no other from it.

    Raises BadInput when the archive is damaged.
    """
    job = _Job(path, archive.check(path), archive.file_digest(path), say, arrived, keep)

    def one(host: Host) -> Outcome:
        try:
            _push_one(job, host)
        except PitoolError as error:
            return Outcome(host.name, None, error)
        return Outcome(host.name, job.contents.id, None)

    with ThreadPoolExecutor(max_workers=len(hosts)) as pool:
        return list(pool.map(one, hosts))


def rollback(host: Host) -> Outcome:
    """Go back to the release before on a host."""
    try:
        return Outcome(host.name, host.run(ROLLBACK).strip(), None)
    except PitoolError as error:
        return Outcome(host.name, None, error)


def _push_one(job: _Job, host: Host) -> None:
    """Ask, copy, check, install and switch on one host."""
    contents, size = job.contents, job.path.stat().st_size
    found = preflight(host, contents)
    if found.installed and _use(job, host):
        return
    check(host.name, found, contents, size)
    job.say(host.name, f"{found.model or found.machine}, {found.system}, Python {found.python}")
    for word in filter(None, (other_board(found, contents), little_memory(found, contents))):
        job.say(host.name, word)
    there = min(found.arrived or 0, size)
    if there < size:
        rest = f", {format_share(there / size)} already copied" if there else ""
        job.say(host.name, f"copying {format_bytes(size)}{rest}")
        target = f"{INCOMING}/{contents.id}.pi"

        def arrived(count: int) -> None:
            job.arrived(host.name, count, size)

        host.send(job.path, target, rsync=found.rsync, there=there > 0, arrived=arrived)
    job.say(host.name, "installing")
    script = INSTALL if contents.pythons else MODEL
    values = {"ID": contents.id, "HASH": job.digest, "KEEP": str(job.keep)}
    values["PYTHON"] = shlex.quote(found.interpreter)
    for name, value in values.items():
        script = script.replace(f"@{name}@", value)
    host.run(script)


def _use(job: _Job, host: Host) -> bool:
    """Switch to the release that is there; False where it is not whole."""
    try:
        host.run(USE.replace("@ID@", job.contents.id))
    except PitoolError:
        job.say(host.name, "this release is installed but damaged: copying it again")
        return False
    job.say(host.name, "nothing to copy: this release is already installed")
    return True


def other_board(found: Preflight, contents: archive.Contents) -> str | None:
    """Return a word about a host that is not the board that the archive was made for."""
    board = boards().get(contents.board)
    if board is None or board_named(found.model) == contents.board:
        return None
    return f"packed for a {board.name}: it runs on this board, but other artifacts may be faster"


def little_memory(found: Preflight, contents: archive.Contents) -> str | None:
    """Return a word about a host where the model does not simply fit beside what runs there."""
    if found.available is None or found.memory is None:
        return None
    margin = int(found.memory * MARGIN_SHARE)
    fit = verdict_on(contents.memory, found.available, margin)
    if fit is Verdict.FITS:
        return None
    needed, free = compare_bytes(contents.memory, found.available)
    return (
        f"{contents.name} needs {needed} of memory, and {free} are free on the board: {WORDS[fit]}"
    )


def preflight(host: Host, contents: archive.Contents) -> Preflight:
    """Ask a host what it is and has."""
    pythons = " ".join(f"python{version}" for version in sorted(contents.pythons))
    script = PREFLIGHT.replace("@RELEASE@", f"{HOME}/releases/{contents.id}")
    said = host.run(script.replace("@ID@", contents.id).replace("@PYTHONS@", pythons))
    values = dict(re.findall(r"(?m)^(\w+)=(.*)$", said))

    def size(name: str, unit: int = 1024) -> int | None:
        text = values.get(name, "")
        return int(text) * unit if text.isdecimal() else None

    return Preflight(
        machine=values.get("machine", ""),
        bits=values.get("bits", ""),
        python=values.get("python", ""),
        interpreter=values.get("interpreter", ""),
        system=values.get("system", ""),
        model=values.get("model", ""),
        memory=size("memory_kib"),
        available=size("available_kib"),
        free=size("free_kib"),
        rsync=bool(values.get("rsync")),
        arrived=size("arrived", 1),
        installed=bool(values.get("installed")),
    )


def check(name: str, found: Preflight, contents: archive.Contents, size: int) -> None:
    """Raise MissingPart or DoesNotFit when the archive cannot run on a host."""
    if found.machine != "aarch64" or found.bits != "64":
        raise MissingPart(
            f"{name} has a {found.bits}-bit userland on {found.machine}, and pitool needs 64-bit"
            " aarch64",
            "write Raspberry Pi OS (64-bit) to its card with Raspberry Pi Imager",
        )
    if contents.pythons and found.python not in contents.pythons:
        raise MissingPart(
            f"{name} has Python {found.python or 'none'}, and the archive is for"
            f" {' and '.join(contents.pythons)}",
            "use Raspberry Pi OS Bookworm or Trixie",
        )
    wheels = sum(entry.bytes for entry in contents.files if entry.path.endswith(".whl"))
    need = size - (found.arrived or 0) + contents.bytes + INSTALLED_PER_WHEEL_BYTE * wheels
    if found.free is not None and found.free < need:
        free, needed = compare_bytes(found.free, need)
        raise DoesNotFit(
            f"{name} has {free} of free disk space and needs {needed}", "free some space on it"
        )
    if found.memory is not None and contents.memory > found.memory:
        has, needed = compare_bytes(found.memory, contents.memory)
        raise DoesNotFit(
            f"{name} has {has} of memory, and {contents.name} needs {needed}",
            "pack a smaller quantisation",
        )
