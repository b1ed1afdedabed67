"""A folder of a stranger that one stands in: the Python files in it are never run.

``python -m`` looks for modules in the current folder first, so that a ``numpy.py`` beside a model
would be run by whoever runs the model there.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import environment
from tests.tiny import write_checkpoint

ROOT = Path(__file__).parents[1]
# What pitool, its workers and their libraries import, each from another place.
NAMES = (
    "click", "ctypes", "gguf", "jinja2", "json", "llama_cpp", "numpy", "onnxruntime", "pip",
    "pitool", "safetensors", "socket", "tempfile", "tokenizers", "transformers", "venv",
)  # fmt: skip


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A checkpoint among modules that leave a mark where they are imported."""
    folder = write_checkpoint(
        tmp_path / "model", num_hidden_layers=1, intermediate_size=256,
        auto_map={"AutoConfig": "json.Config", "AutoModelForCausalLM": "json.Model"},
    )  # fmt: skip
    for name in NAMES:
        (folder / f"{name}.py").write_text(f"open({str(tmp_path / 'run')!r}, 'a').write({name!r})")
    return folder


def pitool(folder: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the installed program in a folder, as its script does."""
    return subprocess.run(
        [sys.executable, "-P", "-c", "from pitool.cli.main import main; main()", *words],
        cwd=folder, env={**environment(), **more}, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.thorough
@pytest.mark.engine
def test_code_beside_a_model_is_never_run(trap: Path, tmp_path: Path) -> None:
    made = pitool(trap, "convert", ".", "--ram", "1gb", "--quant", "F16,FP32", "--out", "../made")
    assert made.returncode == 0, made.stderr
    answer = pitool(trap, "run", "../made", "Hello", "--max-tokens", "2")
    assert answer.returncode == 0, answer.stderr
    pitool(trap, "doctor")
    assert not (tmp_path / "run").exists(), (tmp_path / "run").read_text()


@pytest.mark.thorough
@pytest.mark.oracle
def test_transformers_runs_no_code_of_a_model(trap: Path, tmp_path: Path) -> None:
    done = pitool(
        trap, "convert", ".", "--ram", "1gb", "--quant", "F16", "--out", "../made",
        PITOOL_REFERENCE="transformers",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "run").exists(), (tmp_path / "run").read_text()


def commands() -> Iterator[tuple[str, list[str]]]:
    """Yield the options of each command that starts this Python, with its place."""
    for path in sorted((ROOT / "pitool").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            words = getattr(node, "elts", None) or getattr(node, "args", None)
            if isinstance(words, list) and any(ast.unparse(w) == "sys.executable" for w in words):
                yield (
                    f"{path.relative_to(ROOT)}:{node.lineno}",  # type: ignore[attr-defined]
                    [str(w.value) for w in words if isinstance(w, ast.Constant)],
                )


@pytest.mark.thorough
def test_every_python_that_is_started_leaves_the_current_folder_out() -> None:
    found = list(commands())
    assert len(found) >= 8
    for place, words in found:
        assert {"-m", "-c"}.isdisjoint(words) or {"-P", "-I"} & set(words), place


def test_the_launcher_of_a_board_leaves_it_out(trap: Path, tmp_path: Path) -> None:
    text = (ROOT / "pitool" / "deploy" / "board_launcher.sh").read_text()
    python = tmp_path / "home" / "current" / "runtime" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    launcher = tmp_path / "pitool.sh"
    launcher.write_text(text.replace("@HOME@", str(tmp_path / "home")))
    done = subprocess.run(
        ["sh", launcher, "--version"], cwd=trap, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout[:7]) == (0, "pitool,"), done.stderr
    assert not (tmp_path / "run").exists()
