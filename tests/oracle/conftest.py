"""Everything here compares with torch, transformers or llama.cpp's own converter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from pitool.convert import forward
from pitool.process.child import Child
from tests.oracle.cases import CASES, write_case
from tests.oracle.engine import Engine


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker("oracle")


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """llama.cpp as exact as it can be, started once."""
    engine = Engine(tmp_path_factory.mktemp("logits"))
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def transformers_child() -> Iterator[Child]:
    """The process that a conversion runs transformers in, started once."""
    with forward._child() as child:
        yield child


@pytest.fixture
def with_transformers(transformers_child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    """Verify conversions with transformers, which takes seconds to start."""
    monkeypatch.delenv("PITOOL_REFERENCE")
    monkeypatch.setattr(forward, "_child", lambda: nullcontext(transformers_child))


Converter = Callable[[Path, Path, str], Path]
"""Converts a folder into a file of a float type, by llama.cpp's own converter."""


@pytest.fixture(scope="session")
def family_checkpoint(
    shared_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Give the tiny checkpoint of a case, written once."""
    root = tmp_path_factory.mktemp("families")

    def give(case: str) -> Path:
        folder = root / case / "Tiny-Test-1B"
        return folder if folder.is_dir() else write_case(CASES[case], folder, shared_data)

    return give


@pytest.fixture(scope="session")
def converter(llama_cpp_source: Path) -> Iterator[Converter]:
    """llama.cpp's converter, loaded once; see ``peer_converter``."""
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).parent / "peer_converter.py"), str(llama_cpp_source)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdin
    assert process.stdout

    def convert(folder: Path, target: Path, kind: str) -> Path:
        assert process.stdin
        assert process.stdout
        order = {"folder": str(folder), "target": str(target), "kind": kind}
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
        answer = process.stdout.readline().strip()
        assert answer == "done", answer
        return target

    yield convert
    process.stdin.close()
    process.wait()
    process.stdout.close()


@pytest.fixture(scope="session")
def llama_cpp_source() -> Path:
    """The llama.cpp sources of the pinned version, from an unpacked llama-cpp-python sdist."""
    folder = os.environ.get("PITOOL_LLAMA_CPP_SDIST")
    if not folder:
        pytest.skip("PITOOL_LLAMA_CPP_SDIST names no unpacked llama-cpp-python sdist")
    source = Path(folder) / "vendor" / "llama.cpp"
    if not (source / "convert_hf_to_gguf.py").is_file():
        pytest.skip(f"{source} has no convert_hf_to_gguf.py")
    return source
