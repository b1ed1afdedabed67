"""The user's own systemd: where its units lie, how it is told something, how a unit quotes.

Standard library only: a fresh board's installer uses it.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

NAME = "pitool.service"
CLUSTER_NAME = "pitool-cluster.service"


def config_folder() -> Path:
    """Return the folder of the user's settings."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")


def unit_file(name: str = NAME) -> Path:
    """Return where a unit lies, by default that of ``pitool serve``, there or not."""
    return config_folder() / "systemd/user" / name


def systemctl(*words: str) -> str:
    """Tell the user's systemd something and return its stdout.

    OSError where there is no systemd, CalledProcessError with its ``stderr`` where it refuses.
    """
    # Not set in every session: not by ssh with a command, not by su.
    bus = {"XDG_RUNTIME_DIR": f"/run/user/{os.getuid()}"}
    return subprocess.run(
        ["systemctl", "--user", *words],
        check=True, capture_output=True, text=True, env=bus | dict(os.environ),
    ).stdout  # fmt: skip


def plain(text: str) -> str:
    """Return a text without what a unit would expand (``%h``)."""
    return text.replace("%", "%%")


def quoted(text: str) -> str:
    """Return one word of a list in a unit, whatever is in it."""
    escaped = plain(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def assignment(name: str, value: str) -> str:
    """Return a line of an environment file; it is quoted as a shell would have it in double."""
    escaped = "".join(f"\\{sign}" if sign in '\\"$`' else sign for sign in value)
    return f'{name}="{escaped}"'


def assigned(line: str) -> tuple[str, str] | None:
    """Return name and value of a line of an environment file; None where it has neither."""
    name, equals, value = line.strip().partition("=")
    if not equals or name.startswith(("#", ";")):
        return None
    value = value.strip()
    if len(value) < 2 or value[0] != '"' or value[-1] != '"':
        return name, value.strip("'")
    out, escaped = [], False
    for sign in value[1:-1]:
        escaped = sign == "\\" and not escaped
        if not escaped:
            out.append(sign)
    return name, "".join(out)
