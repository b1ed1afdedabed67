"""A pitool with additions: files in a folder beside it and rows in its tables, in every process.

What CONTRIBUTING's table says has to be touched is all that an addition here consists of. It is
made in a ``sitecustomize`` module, which Python imports at the start of each process, so that
worker processes have it too.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pitool.catalog.tables import recipes_folder

RUN = """
import sys
from pitool.cli.commands import cli
from pitool.cli.main import run
sys.exit(run(lambda: cli.main(sys.argv[1:], standalone_mode=False, prog_name="pitool")))
"""


@dataclass
class Extended:
    """pitool with what a test adds to it; ``folder`` is a scratch folder of the test."""

    folder: Path
    _lines: list[str] = field(default_factory=list)

    def data(self, name: str, text: str) -> None:
        """Append ``text`` to a data file of recipes/, or make that file."""
        recipes = self.folder / "recipes"
        if not recipes.exists():
            shutil.copytree(recipes_folder(), recipes, ignore=shutil.ignore_patterns("sample"))
            (recipes / "sample").symlink_to(recipes_folder() / "sample")
            self._lines += [
                "import pathlib, pitool.catalog.tables as _tables",
                f"_tables.recipes_folder = lambda: pathlib.Path({str(recipes)!r})",
            ]
        path = recipes / name
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        path.write_text(f"{before}\n{text}\n", encoding="utf-8")

    def module(self, package: str, name: str, text: str) -> None:
        """Add a file to a package of pitool, without touching the package's folder."""
        folder = self.folder / package
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
        self._lines += [f"import {package}", f"{package}.__path__.append({str(folder)!r})"]

    def row(self, line: str) -> None:
        """Add a row to a table of the package: one statement."""
        self._lines.append(line)

    def run(self, *words: object, code: int = 0, stdin: str = "") -> str:
        """Run pitool in a process of its own; return its stdout and stderr."""
        return self.python(RUN, *words, code=code, stdin=stdin)

    def json(self, *words: object) -> Any:
        """Return what a command with ``--json`` says."""
        return json.loads(self._start(RUN, [*map(str, words), "--json"], "").stdout)

    def python(self, text: str, *words: object, code: int = 0, stdin: str = "") -> str:
        """Run Python code in a process that has the additions; return its stdout and stderr."""
        done = self._start(text, list(map(str, words)), stdin)
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    def _start(self, text: str, words: list[str], stdin: str) -> subprocess.CompletedProcess[str]:
        site = self.folder / "site"
        site.mkdir(exist_ok=True)
        (site / "sitecustomize.py").write_text("\n".join(self._lines), encoding="utf-8")
        root = Path(__file__).parents[2]
        done = subprocess.run(
            [sys.executable, "-c", text, *words],
            capture_output=True,
            text=True,
            input=stdin,
            env={**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{root}", "COLUMNS": "100"},
            cwd=self.folder,
            timeout=200,
        )
        assert "sitecustomize" not in done.stderr, done.stderr
        return done


@pytest.fixture
def extended(tmp_path: Path) -> Extended:
    """A pitool that a test may add to."""
    folder = tmp_path / "extended"
    folder.mkdir()
    return Extended(folder)


Make = Callable[..., Path]
