"""Where built wheels and downloaded packages are kept between runs."""

from __future__ import annotations

import os
from pathlib import Path

from pitool.catalog.files import expand


def folder(*names: str) -> Path:
    """Return a folder of the user's cache, made if missing."""
    base = expand(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "the cache")
    path = base.joinpath("pitool", *names)
    path.mkdir(parents=True, exist_ok=True)
    return path
