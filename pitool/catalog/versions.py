"""Which versions pitool was made for, and which are installed; from the packages' metadata."""

from __future__ import annotations

import importlib.metadata
import re


def pinned(package: str) -> str | None:
    """Return the one version of a package that this pitool is made for; None without such a pin."""
    try:
        lines = importlib.metadata.requires("pitool") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    pattern = re.compile(rf"{re.escape(package)}==([\w.]+)")
    return next((match[1] for line in lines if (match := pattern.match(line))), None)


def installed(package: str) -> str | None:
    """Return the installed version of a package, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
