"""Looks up known holes of the installed packages with pip-audit, where its source can be reached.

``.venv/bin/python scripts/audit.py``: exit code 1 for a hole in what users install (the core and
the extra ``host``); one in what only tests and exports need is printed. Where the source or the
tool cannot be reached, that is said, and the exit code is 0. pip-audit lives in a virtual
environment of its own in the cache, since it has thirty packages that nothing else needs.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
import sysconfig
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

from pitool.catalog import cache

# A version with a known hole (CVE-2025-27516): pip-audit takes a package that its source does not
# know for one without holes, as behind a mirror that knows of none.
KNOWN = "https://pypi.org/pypi/jinja2/3.1.5/json"
SECONDS = 5
TOOL_SECONDS = 300
EXTRAS = ("host",)


def main() -> int:
    """Print what was found, and return the exit code."""
    if why := unreachable(KNOWN):
        return skipped(why)
    try:
        document = audit()
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return skipped(f"pip-audit did not come to an end ({error})")
    bad, others = holes(document, needed("pitool", EXTRAS))
    for line in (*bad, *others):
        print(line)
    print(f"known holes: {len(bad)} in what users install, {len(others)} in what tests need")
    return 1 if bad else 0


def skipped(why: str) -> int:
    """Say why nothing was looked up."""
    print(f"known holes: skipped, {why}")
    return 0


def unreachable(address: str) -> str:
    """Return why the source says nothing of packages; empty where it does."""
    try:
        with urllib.request.urlopen(address, timeout=SECONDS) as reply:  # noqa: S310 - https above
            known = json.load(reply)["vulnerabilities"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        return f"{address} does not answer ({error})"
    return "" if known else f"{address} knows of no holes"


def audit() -> dict[str, Any]:
    """Return pip-audit's document on this environment; the tool is installed if it is missing."""
    place = cache.folder("audit")
    tool = place / "bin" / "pip-audit"
    quiet = {"check": True, "timeout": TOOL_SECONDS, "capture_output": True}
    if not tool.exists():
        subprocess.run([sys.executable, "-m", "venv", place], **quiet)
        subprocess.run([place / "bin" / "pip", "install", "-q", "pip-audit"], **quiet)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "audit.json"
        words = ["--progress-spinner", "off", "--timeout", str(SECONDS), "-f", "json"]
        installed = sysconfig.get_path("purelib")
        # Exit code 1 is a hole as well as a fault, which leaves no report.
        subprocess.run(
            [tool, *words, "-o", report, "--path", installed], **(quiet | {"check": False})
        )
        document: dict[str, Any] = json.loads(report.read_text())
    return document


def needed(package: str, extras: tuple[str, ...]) -> set[str]:
    """Return a package with all that it needs, and its extras, by their normal names (PEP 503)."""
    found: set[str] = set()
    left = [(package, extras)]
    while left:
        name, wanted = left.pop()
        if normal(name) in found:
            continue
        found.add(normal(name))
        try:
            lines = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # of another system
        for line in lines:
            extra = re.search(r"extra\s*==\s*['\"]([\w-]+)", line)
            if extra is None or extra[1] in wanted:
                match = re.match(r"([\w.-]+)(?:\[([\w, -]+)\])?", line)
                assert match
                left.append((match[1], tuple(re.findall(r"[\w-]+", match[2] or ""))))
    return found


def normal(name: str) -> str:
    """Return the name by which an index knows a package."""
    return re.sub(r"[-_.]+", "-", name).lower()


def holes(document: dict[str, Any], users: set[str]) -> tuple[list[str], list[str]]:
    """Return a line for each hole, of what users install and of the rest."""
    found: tuple[list[str], list[str]] = ([], [])
    for package in document["dependencies"]:
        for hole in package.get("vulns", []):
            fixed = ", ".join(hole["fix_versions"]) or "no version yet"
            line = f"{package['name']} {package['version']}: {hole['id']}, mended in {fixed}"
            found[normal(package["name"]) not in users].append(line)
    return found


if __name__ == "__main__":
    sys.exit(main())
