"""Three boards on loopback ports, and a model to split over them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pitool.catalog.tensor_types import QUANTISATIONS
from pitool.checkpoint.source import Source, open_checkpoint
from pitool.convert.gguf.model import find_model
from pitool.convert.gguf.vocabulary import read_vocabulary
from pitool.convert.gguf.writer import write_gguf
from tests.cluster import backend
from tests.cluster.boards import ServedBoard, serve
from tests.tiny import write_checkpoint


@pytest.fixture(scope="session")
def layered_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of seven layers in float32, with a head of its own."""
    folder = write_checkpoint(
        tmp_path_factory.mktemp("layered") / "checkpoint",
        num_hidden_layers=7, tie_word_embeddings=False, max_position_embeddings=2048,
    )  # fmt: skip
    checkpoint = open_checkpoint(Source("layered", None, folder))
    model = find_model(checkpoint.config)
    path = folder.parent / "layered-F32.gguf"
    vocabulary = read_vocabulary(folder, model.shape.vocabulary)
    write_gguf(path, checkpoint, model, vocabulary, QUANTISATIONS["F32"])
    return path


@pytest.fixture
def rpc(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Have children find llama.cpp's RPC backend."""
    found = backend.environment()
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    return found


@pytest.fixture(scope="module")
def shared_boards(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[ServedBoard]]:
    """Three boards for all tests of a file that leave them as they are."""
    folder = tmp_path_factory.mktemp("boards")
    started: list[ServedBoard] = []
    try:
        for number in range(3):
            started.append(serve(folder / f"board{number}", backend.environment()))
        yield started
    finally:
        for board in started:
            board.close()


@pytest.fixture
def three_boards(rpc: dict[str, str], tmp_path: Path) -> Iterator[list[ServedBoard]]:
    """Three boards that serve, for a test that does something to them."""
    started: list[ServedBoard] = []
    try:
        for number in range(3):
            started.append(serve(tmp_path / f"board{number}", rpc))
        yield started
    finally:
        for board in started:
            board.close()
