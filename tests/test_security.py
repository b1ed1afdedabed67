"""The page on security: every row names a test that exists, and every attacker has one."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "explanation" / "security.md"
ATTACKERS = {
    "a model file", "a chat template", "an adapter", "an answer of a model", "a bundle",
    "a `.pi` archive", "a client on the network", "a web page", "another user on the board",
    "a board that is pushed to", "a board of a cluster", "a hub server", "a reader of your issue",
}  # fmt: skip


def rows() -> list[list[str]]:
    table = PAGE.read_text().partition("<!-- threats -->")[2].partition("<!-- /threats -->")[0]
    lines = [line.strip("|").split(" | ") for line in table.strip().splitlines()]
    return [[cell.strip() for cell in line] for line in lines[2:]]


@cache
def functions_of(name: str) -> set[str]:
    """Return the names of the test functions in a file."""
    nodes = ast.walk(ast.parse((TESTS / name).read_text()))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in nodes if isinstance(node, kinds)}


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[-1].strip("`"))
def test_a_row_names_a_test_that_exists(row: list[str]) -> None:
    assert len(row) == 4
    assert all(row)
    name, _, test = row[-1].strip("`").partition("::")
    assert test.startswith("test_")
    assert test in functions_of(name)


def test_each_attacker_has_a_row() -> None:
    assert {row[0] for row in rows()} == ATTACKERS


def test_a_page_of_rows_is_read() -> None:
    assert len(rows()) >= 30
    assert len({row[-1] for row in rows()}) == len(rows())


def test_what_is_not_protected_is_said() -> None:
    text = PAGE.read_text().partition("## What is not protected")[2]
    for word in ("TLS", "root", "may lie", "memory limit", "signed", "sandboxed"):
        assert word in text
