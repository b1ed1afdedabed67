"""What the process of the interface may load: on a board, imports are start-up time and memory."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ["numpy", "llama_cpp", "onnxruntime", "jinja2", "tokenizers", "sqlite3"]


def loaded(module: str) -> list[str]:
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.parametrize("module", ["pitool.tui.app", "pitool.tui.screens.chat"])
def test_the_interface_loads_no_runtime(module: str) -> None:
    assert not set(HEAVY) & set(loaded(module))


def test_the_first_screen_does_not_wait_for_markdown() -> None:
    assert "markdown_it" not in loaded("pitool.tui.app")


@pytest.mark.parametrize("module", ["pitool.chat.session", "pitool.cli.chat"])
def test_the_rest_does_not_know_textual(module: str) -> None:
    assert "textual" not in loaded(module)


@pytest.mark.thorough
@pytest.mark.parametrize("module", ["app", "screens.chat", "screens.models", "screens.device"])
def test_the_facts_of_the_board_are_handed_in(module: str) -> None:
    found = loaded(f"pitool.tui.{module}")
    assert [name for name in found if name.startswith("pitool.device")] == []


@pytest.mark.thorough
@pytest.mark.parametrize("module", ["bench", "device"])
def test_screens_come_when_they_are_opened(module: str) -> None:
    name = f"pitool.tui.screens.{module}"
    assert name not in loaded("pitool.tui.screens.chat")
    assert not (set(HEAVY) - {"sqlite3"}) & set(loaded(name))
