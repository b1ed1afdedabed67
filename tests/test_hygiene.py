"""What a command loads: on a Raspberry Pi, import time is start-up time."""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

import pitool

ROOT = Path(__file__).parents[1]
HOST_ONLY = {
    "torch", "transformers", "safetensors", "onnx", "optimum", "gguf", "huggingface_hub",
    "sentencepiece", "ml_dtypes", "regex",
}  # fmt: skip
ENGINES = {"llama_cpp", "onnxruntime"}


def loaded(code: str) -> set[str]:
    """Return the modules that a fresh Python has after ``code``, which may print nothing."""
    report = "import sys, json; print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    return set(json.loads(done.stderr.splitlines()[-1]))


def tops(modules: Iterable[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


def modules_of(room: str) -> list[str]:
    """Return every module of a room of pitool."""
    folder = Path(pitool.__file__).parent / room
    if not folder.is_dir():
        return [f"pitool.{room}"]
    found = pkgutil.walk_packages([str(folder)], f"pitool.{room}.")
    return [f"pitool.{room}", *(module.name for module in found)]


HELP = """
from pitool.cli.commands import cli
from pitool.cli.main import run
assert run(lambda: cli.main({words}, standalone_mode=False, prog_name="pitool")) == 0
"""


@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], ["convert", "--help"], ["run", "--help"],
              ["bench", "--help"], ["chat", "--help"], ["serve", "--help"]], ids=" ".join,
)  # fmt: skip
def test_help_loads_nothing_heavy(words: list[str]) -> None:
    found = tops(loaded(HELP.format(words=words)))
    assert "click" in found
    heavy = {"textual", "numpy", "rich", "jinja2", "tokenizers"} | ENGINES | HOST_ONLY
    assert not found & heavy


def test_the_parents_side_of_a_worker_loads_no_engine() -> None:
    assert not tops(loaded("import pitool.engine.worker")) & ({"numpy", "jinja2"} | ENGINES)


def test_a_worker_loads_no_interface() -> None:
    found = tops(loaded("import pitool.engine.worker_main"))
    assert not found & ({"textual", "rich", "click"} | ENGINES)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "room",
    ["tui", "serve", "chat", "bench", "store", "remote", "engine", "device", "planning", "catalog",
     "report", "errors"],
)  # fmt: skip
def test_what_the_board_runs_needs_no_host_package(room: str) -> None:
    names = modules_of(room)
    imports = "\n".join(f"import {name}" for name in names)
    found = loaded(imports)
    assert set(names) <= found
    assert not tops(found) & HOST_ONLY
    assert not {"pitool.convert", "pitool.checkpoint"} & found


@pytest.mark.thorough
def test_only_the_server_loads_what_speaks_http() -> None:
    """The chat must not pay for it with its start and its memory."""
    stack = {"starlette", "uvicorn", "h11", "anyio"}
    imports = "\n".join(
        f"import {name}" for room in ("tui", "chat", "engine", "cli") for name in modules_of(room)
    )
    assert not tops(loaded(imports)) & stack
    assert stack <= tops(loaded("import pitool.serve.run"))


@pytest.mark.parametrize("room", ["planning", "catalog", "errors"])
def test_the_nouns_need_the_standard_library_only(room: str) -> None:
    imports = "\n".join(f"import {name}" for name in modules_of(room))
    before = tops(loaded(""))
    extra = tops(loaded(imports)) - before - set(sys.stdlib_module_names)
    assert extra == {"pitool"}


@pytest.mark.thorough
def test_only_the_tui_loads_textual() -> None:
    rooms = [
        "architectures", "bench", "catalog", "chat", "checkpoint", "convert", "deploy", "device",
        "engine", "planning", "quality", "remote", "report", "store",
    ]  # fmt: skip
    imports = "\n".join(f"import {name}" for room in rooms for name in modules_of(room))
    assert "textual" not in tops(loaded(imports))


def test_the_native_writer_loads_no_torch() -> None:
    imports = "\n".join(
        f"import {n}" for r in ("checkpoint", "architectures", "convert") for n in modules_of(r)
    )
    assert not tops(loaded(imports)) & {"torch", "transformers", "llama_cpp"}


@pytest.mark.engine
@pytest.mark.parametrize(
    "use",
    [
        "from pitool.convert.gguf.ggml import _library; _library()",
        "import pitool.engine.llamacpp.engine, pitool.engine.llamacpp.importance",
    ],
)
def test_the_binding_comes_without_its_package(use: str) -> None:
    """Which takes six times as long to import, and opens files that it never closes."""
    found = loaded(use)
    assert {"llama_cpp._ggml", "llama_cpp.llama_cpp"} & found
    assert not {"llama_cpp.llama", "llama_cpp._utils", "diskcache"} & found
