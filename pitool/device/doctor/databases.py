"""The conversations and results that pitool keeps: whole, and of a pitool that is not newer."""

from __future__ import annotations

from collections.abc import Iterator

from pitool.catalog.bundles import home
from pitool.device.doctor.finding import Finding, System


def databases(_system: System) -> Iterator[Finding]:
    """Every database that cannot be used, with the way out."""
    # Here, because SQLite takes its time to be imported and nothing else of a doctor needs it.
    from pitool.catalog.databases import DATABASES, examine, move_away
    from pitool.errors import BadInput

    for kind in DATABASES:
        path = home() / kind.file_name
        if not path.is_file():
            continue
        error = examine(path, kind)
        if error is None:
            yield Finding(kind.holds, "ok", "readable")
            continue
        damaged = isinstance(error, BadInput) and error.do != "update pitool"
        yield Finding(
            kind.holds,
            "fault",
            error.what,
            "they cannot be read or added to; everything else still works",
            move_away(path) if damaged else error.do,
        )
