"""Lints every file of ``recipes/models/``, and how recipes are found."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pitool.catalog import tables
from pitool.catalog.model_argument import parse_size
from pitool.catalog.recipes import Recipe, default_recipe, find_recipe, load_recipes, recipes
from pitool.catalog.tensor_types import QUANTISATIONS, TENSOR_TYPES
from pitool.catalog.tiers import tiers
from pitool.errors import BadInput, UsageError
from pitool.planning.formats import FORMATS
from pitool.planning.shapes import sizes

MODELS = tables.recipes_folder() / "models"
FILES = sorted(MODELS.rglob("*"))
# SPDX identifiers of licences that let anyone use, change and pass on the weights.
OPEN_LICENCES = {"Apache-2.0", "MIT", "BSD-3-Clause", "CC-BY-4.0"}
# That of a maker who asks large companies for a contract.
OTHER_LICENCES = {"LFM Open 1.0"}
RUNTIME_BYTES = 150_000_000
# What people run on small boards at the end of 2026.
TIERS_OF_TODAY = ("1gb", "2gb", "3gb", "4gb", "8gb", "16gb")

every_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)


def read(path: Path) -> Recipe:
    return tables.build(Recipe, tables.read_toml(path), path.name)


def least_weight_bytes(recipe: Recipe) -> float:
    """Return the weights at the basic type: llama.cpp keeps some tensors larger."""
    if recipe.quantisation not in QUANTISATIONS:
        assert recipe.gguf and recipe.gguf.bytes
        return recipe.gguf.bytes
    return recipe.parameters * TENSOR_TYPES[QUANTISATIONS[recipe.quantisation].base].bits / 8


def test_there_are_recipes_and_nothing_else_in_the_folder() -> None:
    assert len(FILES) >= 8
    assert {path.suffix for path in FILES} == {".toml"}
    assert len(recipes()) == len(FILES)


@every_file
def test_the_name_is_a_lower_case_word(path: Path) -> None:
    assert re.fullmatch(r"[a-z0-9][a-z0-9.-]+", path.stem)


@every_file
def test_the_source_is_a_hub_id_at_a_commit(path: Path) -> None:
    recipe = read(path)
    assert re.fullmatch(r"[\w.-]+/[\w.-]+", recipe.source)
    assert recipe.revision == "main" or re.fullmatch(r"[0-9a-f]{40}", recipe.revision)


@every_file
def test_the_licence_is_open(path: Path) -> None:
    recipe = read(path)
    also = set() if recipe.default_for else OTHER_LICENCES
    assert recipe.licence in OPEN_LICENCES | also


@every_file
def test_the_tiers_exist_and_the_defaults_are_among_them(path: Path) -> None:
    recipe = read(path)
    assert recipe.tiers
    assert set(recipe.tiers) <= set(tiers())
    assert set(recipe.default_for) <= set(recipe.tiers)
    assert list(recipe.tiers) == [tier for tier in tiers() if tier in recipe.tiers]


@every_file
def test_quantisation_format_and_context_are_known(path: Path) -> None:
    recipe = read(path)
    assert recipe.quantisation in QUANTISATIONS or (recipe.gguf and not recipe.default_for)
    assert set(recipe.formats) <= set(FORMATS)
    assert recipe.context in {512, 1024, 2048, 4096, 8192, 16384, 32768}
    assert re.fullmatch(r"20\d\d-(0[1-9]|1[0-2])", recipe.released or "2026-01")
    assert 10 <= len(recipe.summary) <= 90


@every_file
def test_weights_and_runtime_fit_each_tier(path: Path) -> None:
    recipe = read(path)
    for tier in recipe.tiers:
        assert least_weight_bytes(recipe) + RUNTIME_BYTES < tiers()[tier].model_bytes


@every_file
def test_the_sum_in_the_comment_adds_up_and_fits(path: Path) -> None:
    """A recipe says what it needs; the sum is that of its own context and smallest tier.

    One that is only pulled may leave it to the planner, where its shape was not published.
    """
    recipe, text = read(path), path.read_text(encoding="utf-8")
    if text.startswith("# What it needs is estimated by the planner"):
        assert recipe.gguf
        assert not recipe.default_for
        return
    found = re.match(
        r"# MB: weights (\d+).*? \+ KV cache (\d+) \((\d+) bytes a token\) \+ 150 = (\d+); "
        r"the tier (\w+) has (\d+)\n",
        text,
    )
    assert found
    weights, cache, per_token, total, room = (int(found[i]) for i in (1, 2, 3, 4, 6))
    assert found[5] == recipe.tiers[0]
    assert cache == round(per_token * recipe.context / 1e6)
    assert total == weights + cache + 150
    assert room == round(tiers()[found[5]].model_bytes / 1e6)
    assert total < room
    assert weights >= int(least_weight_bytes(recipe) / 1e6)


@every_file
def test_what_is_pulled_is_named_as_the_hub_names_it(path: Path) -> None:
    found = read(path).gguf
    if found is None:
        return
    assert re.fullmatch(r"[\w.-]+/[\w.-]+", found.repository)
    assert found.revision == "main" or re.fullmatch(r"[0-9a-f]{40}", found.revision)
    assert not found.file or found.file.endswith(".gguf")
    assert found.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", found.sha256)


@every_file
def test_the_row_of_sizes_has_the_weights_that_the_recipe_says(path: Path) -> None:
    recipe = read(path)
    if recipe.size:
        shape = sizes()[parse_size(recipe.size) or 0].shape
        head = shape.vocabulary * shape.hidden if path.stem == "deepseek-r1-qwen-1.5b" else 0
        assert recipe.parameters == pytest.approx(shape.parameters + head, rel=0.001)


def test_published_sizes_are_those_that_others_saw(shared_data: Path) -> None:
    rows = json.loads((shared_data / "gguf_sizes.json").read_text())
    seen = {(row["repo"], row["file"]): row["bytes"] for row in rows}
    known = [r.gguf for r in recipes().values() if r.gguf and r.gguf.bytes]
    both = [g for g in known if (g.repository, g.file) in seen]
    assert len(both) >= 8
    for found in both:
        assert found.bytes == seen[found.repository, found.file]


@pytest.mark.parametrize("tier", TIERS_OF_TODAY)
def test_each_tier_has_three_models_that_are_pulled(tier: str) -> None:
    assert len([r for r in recipes().values() if tier in r.tiers and r.gguf]) >= 3


@pytest.mark.parametrize("tier", list(tiers()))
def test_each_tier_has_exactly_one_default(tier: str) -> None:
    defaults = [name for name, recipe in recipes().items() if tier in recipe.default_for]
    assert len(defaults) == 1
    assert default_recipe(tier) == (defaults[0], recipes()[defaults[0]])


@pytest.mark.parametrize("tier", list(tiers()))
def test_the_default_is_of_a_family_that_the_native_writers_know(tier: str) -> None:
    source = default_recipe(tier)[1].source
    assert source.startswith(("HuggingFaceTB/SmolLM2-", "Qwen/Qwen2.5-", "TinyLlama/"))


def test_a_larger_tier_runs_a_model_that_is_not_smaller() -> None:
    sizes = [default_recipe(tier)[1].parameters for tier in tiers()]
    assert sizes == sorted(sizes)


def test_a_tier_without_a_default_says_so() -> None:
    with pytest.raises(UsageError, match="6gb has no default recipe: choose a model"):
        default_recipe("6gb")


def test_a_recipe_is_found_by_name_or_by_hub_id() -> None:
    assert find_recipe("qwen2.5-0.5b") is recipes()["qwen2.5-0.5b"]
    assert find_recipe("Qwen/Qwen2.5-0.5B-Instruct") is recipes()["qwen2.5-0.5b"]
    assert find_recipe("Qwen/Qwen2.5-0.5B") is None


def test_of_two_recipes_of_one_model_the_hub_id_finds_the_plainer() -> None:
    assert find_recipe("Qwen/Qwen2.5-1.5B-Instruct") is recipes()["qwen2.5-1.5b"]
    assert recipes()["qwen2.5-1.5b-q6"].source == recipes()["qwen2.5-1.5b"].source


def test_a_wrong_key_names_the_file(tmp_path: Path) -> None:
    text = (MODELS / "qwen2.5-0.5b.toml").read_text(encoding="utf-8")
    (tmp_path / "mine.toml").write_text(text.replace("licence", "license"), encoding="utf-8")
    with pytest.raises(BadInput, match=r"mine\.toml has an unknown key 'license': .*'licence'"):
        load_recipes(tmp_path)


def test_an_empty_folder_has_no_recipes(tmp_path: Path) -> None:
    assert load_recipes(tmp_path) == {}
