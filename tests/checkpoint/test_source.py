"""What a user's word for a model means, and what a folder must hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from pitool.catalog import tables
from pitool.catalog.recipes import recipes
from pitool.catalog.tiers import tiers
from pitool.checkpoint import hub
from pitool.checkpoint.source import Source, find_source, open_checkpoint
from pitool.errors import BadInput, UsageError
from tests.tiny import write_checkpoint

SAMPLE = tables.recipes_folder() / "sample" / "checkpoint"


def test_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "my-model"
    folder.mkdir()
    assert find_source(str(folder), "1gb") == Source("my-model", None, folder)


def test_a_folder_by_a_relative_path_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "my-model"
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert find_source(".", "1gb").id == "my-model"
    monkeypatch.chdir(tmp_path)
    assert find_source("my-model/", "1gb").id == "my-model"


def test_a_folder_under_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "m").mkdir()
    assert find_source("~/m", "1gb").folder == tmp_path / "m"


def test_a_folder_goes_before_a_recipe_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = next(iter(recipes()))
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_source(name, "1gb").folder is not None


@pytest.mark.parametrize("tier", tiers())
def test_no_model_asks_the_recipe_of_the_tier(tier: str) -> None:
    source = find_source(None, tier)
    assert source.recipe is not None
    assert tier in source.recipe.default_for
    assert (source.id, source.revision) == (source.recipe.source, source.recipe.revision)
    assert source.folder is None


@pytest.mark.parametrize("name", recipes())
def test_a_recipe_by_its_name(name: str) -> None:
    recipe = recipes()[name]
    assert find_source(name, "1gb") == Source(recipe.source, recipe.revision, None, recipe)


def test_a_hub_id_with_a_recipe_has_its_revision() -> None:
    recipe = next(iter(recipes().values()))
    assert find_source(recipe.source, "1gb").revision == recipe.revision


def test_a_hub_id_without_a_recipe() -> None:
    assert find_source("someone/Some-Model_1.5b", "1gb") == Source(
        "someone/Some-Model_1.5b", "main", None
    )


def test_the_sample() -> None:
    if not SAMPLE.is_dir():
        pytest.skip("the sample model is not in this clone")
    source = find_source("sample", "1gb")
    assert source.id == "sample"
    assert source.folder == SAMPLE
    assert source.text is not None
    assert source.text.is_file()
    assert open_checkpoint(source).config.model_type == "llama"


def test_the_sample_of_an_installed_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "recipes_folder", lambda: tmp_path)
    with pytest.raises(BadInput, match="not part of an installed package: run pitool from a clone"):
        find_source("sample", "1gb")


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("sampel", "did you mean 'sample'"),
        ("qwen2.5-1.5", "did you mean 'qwen2.5-1.5b'"),
        ("smollm-135m", "did you mean 'smollm2-135m'"),
        ("no-such-thing-at-all", "choose from: "),
        ("a/b/c", ""),
        ("", "choose from: "),
        ("http://example.org/model", ""),
    ],
)
def test_nonsense_names_the_nearest(word: str, hint: str) -> None:
    with pytest.raises(BadInput, match="is not a folder, a hub id or a recipe") as caught:
        find_source(word, "1gb")
    assert repr(word) in caught.value.what
    assert hint in caught.value.do


@pytest.mark.parametrize("path", ["./gone/model", "/gone/model", "gone.gguf"])
def test_a_path_that_leads_nowhere(path: str) -> None:
    with pytest.raises(BadInput, match=f"'{path}' does not exist: check the path"):
        find_source(path, "1gb")


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"")
    with pytest.raises(BadInput, match="is a file, not a checkpoint folder: use its folder"):
        find_source(str(path), "1gb")


def test_a_tier_without_a_recipe() -> None:
    with pytest.raises(UsageError, match="6gb has no default recipe: choose a model"):
        find_source(None, "6gb")


def test_open_checkpoint(tiny_checkpoint: Path) -> None:
    checkpoint = open_checkpoint(find_source(str(tiny_checkpoint), "1gb"))
    assert checkpoint.folder == tiny_checkpoint
    assert checkpoint.config.count("hidden_size") == 256
    assert checkpoint.tensors["model.norm.weight"].shape == (256,)


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("config.json", r"it has no config\.json"),
        ("tokenizer.json", "has no tokenizer"),
        ("model.safetensors", r"has no model\.safetensors"),
    ],
)
def test_a_checkpoint_without_one_of_its_files(tmp_path: Path, gone: str, message: str) -> None:
    folder = write_checkpoint(tmp_path / "c")
    (folder / gone).unlink()
    with pytest.raises(BadInput, match=message):
        open_checkpoint(find_source(str(folder), "1gb"))


@pytest.mark.parametrize("fetch", [hub.fetch_settings, hub.fetch_weights])
def test_the_hub_offline_names_the_sample(fetch: object) -> None:
    assert callable(fetch)
    with pytest.raises(BadInput, match="cannot download") as caught:
        fetch(Source("someone/model", "main", None))
    assert "pitool convert sample" in caught.value.do
