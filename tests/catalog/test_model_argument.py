"""What a word on the command line names, and what is said of a word that names nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from pitool.catalog.model_argument import CHECKPOINTS, RUNNABLES, ModelKind, parse_size, resolve
from pitool.catalog.recipes import recipes
from pitool.errors import BadInput
from pitool.planning.models import PLANNED
from tests.catalog.test_bundles import make, make_onnx
from tests.catalog.test_gguf import write as write_gguf
from tests.tiny import write_checkpoint

RECIPE = next(iter(recipes()))
EVERYTHING = (*CHECKPOINTS, *PLANNED)


@pytest.fixture
def here(tmp_path: Path, private_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one of each, and a bundle in the default folder."""
    write_checkpoint(tmp_path / "checkpoint")
    make(tmp_path / "bundle")
    make_onnx(tmp_path / "onnx")
    write_gguf(tmp_path / "model.gguf")
    write_gguf(tmp_path / "blob")
    (tmp_path / "model.safetensors").write_bytes(b"no GGUF")
    (tmp_path / "3B").mkdir()
    make(private_home / "bundles" / "named-1gb")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("checkpoint", ModelKind.FOLDER),
        ("./checkpoint/", ModelKind.FOLDER),
        ("bundle", ModelKind.BUNDLE),
        ("named-1gb", ModelKind.BUNDLE),
        ("model.gguf", ModelKind.GGUF),
        ("blob", ModelKind.GGUF),
        ("14B", ModelKind.SIZE),
        ("3B", ModelKind.FOLDER),
        ("sample", ModelKind.SAMPLE),
        (RECIPE, ModelKind.RECIPE),
        (recipes()[RECIPE].source, ModelKind.RECIPE),
        ("someone/model-1.5B", ModelKind.HUB),
    ],
)
def test_what_a_word_names(here: Path, word: str, kind: ModelKind) -> None:
    assert resolve(word, EVERYTHING).kind is kind


def test_where_it_lies(here: Path, private_home: Path) -> None:
    assert resolve("named-1gb", RUNNABLES).path == private_home / "bundles" / "named-1gb"
    assert resolve(str(here / "onnx"), RUNNABLES).kind is ModelKind.ONNX
    assert resolve("~", EVERYTHING).path == Path.home()


@pytest.mark.parametrize(
    ("word", "accepted", "what", "do"),
    [
        ("bundle", CHECKPOINTS, "bundle is a bundle", "checkpoint that it was converted from"),
        (
            "named-1gb",
            CHECKPOINTS,
            "named-1gb is a bundle",
            "checkpoint that it was converted from",
        ),
        (
            "model.gguf",
            CHECKPOINTS,
            "model.gguf is a GGUF file",
            "checkpoint that it was converted from",
        ),
        ("14B", CHECKPOINTS, "14B is a size", "use a folder, a hub id or a recipe"),
        ("model.safetensors", CHECKPOINTS, "is a file, not a checkpoint folder", "its folder"),
        ("model.safetensors", EVERYTHING, "is a file, not a checkpoint folder", "or a GGUF file"),
        ("gone.gguf", EVERYTHING, "'gone.gguf' does not exist", "check the path"),
        ("./gone", EVERYTHING, "'./gone' does not exist", "check the path"),
        (
            "sampel",
            EVERYTHING,
            "'sampel' is not a folder, a hub id or a recipe",
            "did you mean 'sample'",
        ),
    ],
)
def test_what_is_not_taken(
    here: Path, word: str, accepted: tuple[ModelKind, ...], what: str, do: str
) -> None:
    with pytest.raises(BadInput) as caught:
        resolve(word, accepted)
    assert what in caught.value.what
    assert do in caught.value.do


@pytest.mark.parametrize("text", ["", "B", "14", "14 GB", "-1B", "1.B", "qwen-14B"])
def test_what_is_no_size(text: str) -> None:
    assert parse_size(text) is None
