"""``pitool serve`` and ``pitool cluster serve`` as services of the user: units, settings, start.

A unit is written anew by each installation; what the user chose lies beside it in ``serve.env``,
readable by the user alone: ``PITOOL_SERVE`` with the model and options, ``PITOOL_API_KEY``,
``PITOOL_CLUSTER``.
"""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pitool.catalog import cache
from pitool.catalog.bundles import default_folder, home
from pitool.catalog.files import make_private, write_atomically
from pitool.catalog.tiers import MIB, tiers
from pitool.deploy import systemd
from pitool.device import files
from pitool.device.detect import Machine
from pitool.device.here import margin
from pitool.errors import MissingPart, PitoolError, UsageError

TEMPLATE = Path(__file__).with_name(systemd.NAME)
ARGUMENTS, KEY = "PITOOL_SERVE", "PITOOL_API_KEY"
# The launcher of a board's release, which stays while releases come and go.
LAUNCHER = "PITOOL_LAUNCHER"
# Seconds for which a service that was started is watched: what is wrong with it shows at once.
WATCHED, GLANCE = 3.0, 0.25
CONTROLLERS = "sys/fs/cgroup/cgroup.controllers"
LINGER = "var/lib/systemd/linger"
LOWEST_PORT = "proc/sys/net/ipv4/ip_unprivileged_port_start"


@dataclass(frozen=True, slots=True)
class Kind:
    """A service: its unit's name, the words after ``pitool``, the variable of its options."""

    unit: str
    words: str
    arguments: str
    title: str


SERVE = Kind(systemd.NAME, "serve", ARGUMENTS, "a language model over HTTP")
CLUSTER = Kind(
    systemd.CLUSTER_NAME, "cluster serve", "PITOOL_CLUSTER", "layers of models of other machines"
)


def environment_file() -> Path:
    """Return the file that holds what the user chose."""
    return systemd.config_folder() / "pitool/serve.env"


def unit(machine: Machine, kind: Kind = SERVE) -> str:
    """Return the unit for this machine; PitoolError where its memory is not known."""
    if machine.mem_total is None:
        raise PitoolError(
            "the memory of this machine cannot be detected", f"run pitool {kind.words} itself"
        )
    most = machine.mem_total - _system_bytes(machine.mem_total)
    folders = {str(path) for own in (home(), default_folder(), cache.root())
               for path in (own.absolute(), own.resolve())}  # fmt: skip
    values = {
        "HOME": systemd.quoted(f"PITOOL_HOME={home().absolute()}"),
        "ENVIRONMENT": systemd.plain(str(environment_file())),
        "PROGRAM": _command(program()),
        "COMMAND": f"pitool {kind.words}",
        "TITLE": kind.title,
        "WORDS": kind.words,
        "ARGUMENTS": kind.arguments,
        "HIGH": f"{(most - margin(machine)) // MIB}M",
        "MOST": f"{most // MIB}M",
        "WRITES": " ".join(systemd.quoted(f"-{path}") for path in sorted(folders)),
    }
    text = TEMPLATE.read_text(encoding="utf-8")
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text


def _system_bytes(total: int) -> int:
    """Return what the operating system needs beside a model, by the table of tiers."""
    inside = [tier for tier in tiers().values() if tier.mem_total_mib * MIB <= total]
    return (inside or list(tiers().values()))[-1 if inside else 0].os_mib * MIB


def _command(words: list[str]) -> str:
    """Return a command line of a unit; UsageError for a program that systemd does not start."""
    if set(words[0]) & set("\"'\\"):
        raise UsageError(
            f"systemd starts no program with quotes in its path, such as {words[0]}",
            "install pitool in another folder",
        )
    first, *rest = map(systemd.quoted, words)
    return " ".join((first, *(word.replace("$", "$$") for word in rest)))


def program() -> list[str]:
    """Return how this pitool is called, by words that hold after an update."""
    if launcher := os.environ.get(LAUNCHER):
        return [str(Path(launcher).absolute())]
    called = Path(sys.argv[0])
    if called.name == "pitool" and (found := shutil.which(sys.argv[0])):
        return [str(Path(found).absolute())]
    return [sys.executable, "-P", "-m", "pitool"]


def chosen() -> dict[str, str]:
    """Return what the environment file sets; nothing without one."""
    text = files.text(environment_file()) or ""
    return dict(pair for line in text.splitlines() if (pair := systemd.assigned(line)))


def choose(values: Mapping[str, str]) -> None:
    """Set variables in the environment file, which only the user can read; others stay."""
    path = environment_file()
    make_private(path)
    kept = [
        line for line in (files.text(path) or "").splitlines()
        if (systemd.assigned(line) or ("",))[0] not in values
    ]  # fmt: skip
    made = [systemd.assignment(name, value) for name, value in values.items()]
    write_atomically(path, "".join(f"{line}\n" for line in (*kept, *made)).encode())
    path.chmod(0o600)


def arguments() -> list[str]:
    """Return the model and options that the service is started with."""
    try:
        return shlex.split(chosen().get(ARGUMENTS, ""))
    except ValueError:
        raise UsageError(
            f"{ARGUMENTS} in {environment_file()} is not valid",
            "write it again: pitool service install, with the options of pitool serve",
        ) from None


def check_port(port: int, root: Path = files.HOST) -> None:
    """Raise UsageError for a port that only root may listen on."""
    lowest = files.integer(root / LOWEST_PORT)
    if os.geteuid() != 0 and lowest is not None and 0 < port < lowest:
        raise UsageError(
            f"only root may listen on port {port}",
            f"choose {lowest} or more, put a proxy in front, or allow it:"
            f" sudo sysctl net.ipv4.ip_unprivileged_port_start={port}",
        )


def install(machine: Machine, kind: Kind = SERVE, options: Sequence[str] | None = None) -> None:
    """Write the unit and start the service, or start it again; it also starts with the session.

    ``options``: what it is started with from now on; None leaves that as it is.
    """
    text = unit(machine, kind)
    if options is not None:
        choose({kind.arguments: shlex.join(options)})
    for folder in (home(), cache.root()):
        folder.mkdir(parents=True, exist_ok=True)
    path = systemd.unit_file(kind.unit)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text.encode())
    _tell("daemon-reload")
    _tell("enable", kind.unit)
    _tell("restart", kind.unit)
    _watch(kind.unit)


def uninstall(kind: Kind = SERVE) -> bool:
    """End the service and remove its unit; False where there is none."""
    path = systemd.unit_file(kind.unit)
    if not path.is_file():
        return False
    _tell("disable", "--now", kind.unit)
    path.unlink()
    _tell("daemon-reload")
    return True


def notes(machine: Machine, root: Path = files.HOST) -> list[str]:
    """Return what the user should know of a service on this machine, a sentence each."""
    said = []
    if not (root / LINGER / pwd.getpwuid(os.getuid()).pw_name).exists():
        said.append(
            "it stops when you log out; to keep it running, and start it at boot: loginctl"
            " enable-linger"
        )
    controllers = files.text(root / CONTROLLERS)
    if controllers is not None and "memory" not in controllers.split():
        where = "/boot/firmware/cmdline.txt" if machine.board_id else "the kernel's command line"
        said.append(
            "this kernel does not limit the memory of services: add cgroup_enable=memory to"
            f" {where} and reboot"
        )
    return said


def _watch(name: str) -> None:
    """Raise PitoolError with the service's last words where it fails at once."""
    end = time.monotonic() + WATCHED
    while time.monotonic() < end:
        if _state(name) == "failed":
            raise PitoolError("the service failed", f"see why: journalctl --user -u {name} -n 20")
        time.sleep(GLANCE)


def _state(name: str) -> str:
    words = ("show", "--property=ActiveState", "--value", name)
    return _tell(*words).strip()


def _tell(*words: str) -> str:
    try:
        return systemd.systemctl(*words)
    except OSError:
        raise MissingPart(
            "this machine has no systemd", "have its own service manager run it"
        ) from None
    except subprocess.CalledProcessError as error:
        said = " ".join((error.stderr or "").split())
        raise PitoolError(
            f"systemctl --user {words[0]} failed ({said or error.returncode})",
            "log in as the user whose service it is, not by su or sudo",
        ) from None
