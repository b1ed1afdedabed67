"""Everything here compares with torch, transformers or llama.cpp's own converter."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker("oracle")


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
