"""The shape of the house: no circle of files, and command files that only command."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import pitool

PACKAGE = Path(pitool.__file__).parent
COMMAND_FILES = sorted((PACKAGE / "cli").glob("*.py"))

# What a file that measures or runs a model would call.
MEASURING = {
    "perf_counter", "perf_counter_ns", "monotonic", "monotonic_ns", "process_time", "thread_time",
    "logits", "time_forward", "squares",
}  # fmt: skip


@cache
def trees() -> dict[str, ast.Module]:
    """Return every module of pitool by its dotted name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imported(tree: ast.Module) -> Iterator[str]:
    """Yield what a file imports anywhere: at its head, in a function, for types alone."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inside = f"{node.module}.{alias.name}"
                yield inside if inside in trees() else node.module


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return what is left of a graph when every file that imports only settled files is settled."""
    left = {name: set(others) for name, others in graph.items()}
    while settled := {name for name, others in left.items() if not others & set(left)}:
        left = {name: others for name, others in left.items() if name not in settled}
    return [[name, *sorted(others & set(left))] for name, others in sorted(left.items())]


def test_contributing_has_a_line_for_each_package() -> None:
    text = (PACKAGE.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    said = re.findall(r"^\| `pitool/(\w+)/` \|", text, re.MULTILINE)
    assert sorted(said) == sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))


def test_a_circle_would_be_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set[str]()}
    assert circles(graph) == [["a", "b"], ["b", "c"], ["c", "b"]]


def test_no_files_import_each_other_in_a_circle() -> None:
    graph = {name: set(imported(tree)) - {name} for name, tree in trees().items()}
    assert len(graph) > 100
    assert circles(graph) == []


@pytest.mark.parametrize("path", COMMAND_FILES, ids=lambda path: str(path.stem))
def test_a_command_file_holds_no_measuring(path: Path) -> None:
    called = {
        node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    }
    assert not called & MEASURING


@pytest.mark.parametrize("name", sorted(trees()))
def test_every_module_says_what_it_is(name: str) -> None:
    said = ast.get_docstring(trees()[name])
    assert said and len(said) > 20
