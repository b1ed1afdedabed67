"""Draft models of a plan: what they gain by hand, and which models are offered as one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pitool.catalog import bundles, manifest
from pitool.catalog.boards import boards
from pitool.catalog.gguf import read_header
from pitool.catalog.manifest import Artifact, Manifest, Source
from pitool.catalog.model_argument import ModelArgument, ModelKind
from pitool.catalog.model_shape import TensorShape
from pitool.catalog.profiles import find_profile
from pitool.catalog.tensor_types import QUANTISATIONS
from pitool.checkpoint.source import Source as Checkpoint
from pitool.checkpoint.source import open_checkpoint
from pitool.convert.gguf.model import find_model
from pitool.convert.gguf.vocabulary import read_vocabulary
from pitool.convert.gguf.writer import write_gguf
from pitool.planning import drafts as planning
from pitool.planning.drafts import drafts, known_drafts
from pitool.planning.formats import GGUF
from pitool.planning.formats.base import PlannedModel
from pitool.planning.memory import Load
from pitool.planning.models import local_drafts
from pitool.planning.places import Place
from pitool.planning.planner import Planner, Row
from pitool.planning.shapes import sized_shape
from pitool.planning.speed import Correction, Estimate
from tests.cli.conftest import Pitool
from tests.cli.conftest import call as call
from tests.tiny import write_checkpoint

PLACE = Place("p", "16gb", 10**11, 0, {"pi5": boards()["pi5"]}, ())
# One more token of a prefill takes a tenth of a decode.
MODEL = Estimate("pi5", 100.0, 10.0, 9.0, "memory", 0.35, 0.2)


def planned(size: str) -> tuple[Planner, Row]:
    model = PlannedModel(*sized_shape(size), typical=True)
    planner = Planner(model, find_profile("balanced"), Load(4096))
    return planner, planner.row(GGUF.find("Q4_K_M"), PLACE)


def tokens(accepted: float, guesses: int) -> float:
    """How many tokens a pass gives, by how many of its guesses hold."""
    held = [accepted**n * (1 - accepted) for n in range(guesses)] + [accepted**guesses]
    assert sum(held) == pytest.approx(1)
    return sum((n + 1) * chance for n, chance in enumerate(held))


def test_what_a_draft_gains_by_hand() -> None:
    draft = replace(MODEL, decode=100.0)  # a guess takes a tenth of the model's token
    # At worst a pass of two costs 1 + 2 * 0.1, at best one of eight costs one of one token.
    worst, best = tokens(0.6, 1) / (1.2 + 0.1), tokens(0.8, 7) / (1 + 0.7)
    assert planning._decode(MODEL, draft, 0) == pytest.approx(10 * worst)
    assert planning._decode(MODEL, draft, 1) == pytest.approx(10 * best)


def test_a_draft_as_slow_as_the_model_is_not_asked() -> None:
    assert [planning._decode(MODEL, MODEL, end) for end in (0, 1)] == [10.0, 10.0]


@pytest.mark.parametrize(
    ("size", "names"),
    [
        ("14B", ["Qwen2.5-0.5B", "Qwen2.5-1.5B"]),
        ("8B", ["Qwen3-0.6B", "Qwen3-1.7B", "Qwen3-4B"]),
        ("0.6B", []),
        ("5B", []),
    ],
)
def test_smaller_models_of_its_family_are_offered(size: str, names: list[str]) -> None:
    model = PlannedModel(*sized_shape(size))
    assert [each.name for each in known_drafts(model)] == names
    other = replace(model, shape=replace(model.shape, vocabulary=32000))
    assert known_drafts(other) == []


@pytest.mark.parametrize("name", ["Qwen/Qwen3-8B", "qwen3-8b", "a typical 8B, like Qwen3-8B"])
def test_the_family_is_in_every_way_to_name_it(name: str) -> None:
    model = PlannedModel(name, sized_shape("8B")[1])
    assert [each.name for each in known_drafts(model)][:1] == ["Qwen3-0.6B"]
    assert known_drafts(replace(model, name="tuned")) == []


def test_what_gains_and_fits_is_kept_the_fastest_first() -> None:
    planner, row = planned("8B")
    found = drafts(planner, row, known_drafts(planner.model))
    assert [each.name for each in found] == ["Qwen3-0.6B", "Qwen3-1.7B", "Qwen3-4B"]
    plain = row.artifact.estimates[0].decode
    for each in found:
        low, high = each.decodes["pi5"]
        assert plain <= low < high
        assert each.memory > each.bytes  # its KV cache besides
    small = known_drafts(planner.model)
    room = row.peak + found[0].memory  # PLACE has no margin
    for bytes_, names in ((room, ["Qwen3-0.6B"]), (room - 1, [])):
        narrow = replace(row, place=replace(PLACE, room=bytes_))
        assert [each.name for each in drafts(planner, narrow, small)] == names


def test_a_draft_is_planned_as_its_file_is() -> None:
    planner, row = planned("8B")
    (small, *_) = known_drafts(planner.model)
    tensors = GGUF.artifact(small, QUANTISATIONS["Q4_K_M"], PLACE, Load(4096), Correction()).tensors
    # A file of another program's own mixture has the name of its most used type alone.
    (found,) = drafts(planner, row, [replace(small, name="own", stored={"Q4_K": tensors})])
    assert (found.name, found.quantisation) == ("own", "Q4_K")
    assert found.bytes == pytest.approx(sum(each.bytes for each in tensors), rel=0.03)


def test_what_is_recurrent_or_an_encoder_has_no_draft_and_is_none() -> None:
    planner, row = planned("8B")
    small = known_drafts(planner.model)
    convolution = TensorShape("blk.0.shortconv.conv.weight", (4096, 3))
    shape = replace(planner.model.shape, tensors=(*planner.model.shape.tensors, convolution))
    encoder = replace(planner.model.shape, encoder=True)
    for other in (shape, encoder):
        moved = replace(planner, model=replace(planner.model, shape=other))
        assert drafts(moved, row, small) == []
        assert drafts(planner, row, [replace(each, shape=other) for each in small]) == []


def put(folder: Path, name: str, **changes: Any) -> Path:
    """Write a tiny model as a bundle; return its folder."""
    written = write_checkpoint(folder / f"{name}-checkpoint", **changes)
    checkpoint = open_checkpoint(Checkpoint(name, None, written))
    model = find_model(checkpoint.config)
    bundle = bundles.default_folder() / name
    bundle.mkdir(parents=True)
    path = bundle / "model-F32.gguf"
    vocabulary = read_vocabulary(written, model.shape.vocabulary)
    write_gguf(path, checkpoint, model, vocabulary, QUANTISATIONS["F32"])
    header = read_header(path)
    artifact = Artifact(
        "gguf", "F32", (manifest.file_entry(path, bundle),), "llama", header.parameters, 512, 32.0,
        (), (),
    )  # fmt: skip
    manifest.write(bundle, Manifest(name, Source(name, None, ()), "8gb", None, "", {}, (artifact,)))
    return bundle


@pytest.fixture
def home(private_home: Path, tmp_path: Path) -> Path:
    """Bundles: a model, a small one with its tokens, and a small one with others."""
    put(tmp_path, "large", num_hidden_layers=24)
    put(tmp_path, "small", num_hidden_layers=1)
    put(tmp_path, "foreign", num_hidden_layers=1, vocab_size=300)
    (bundles.default_folder() / "broken").mkdir()
    (bundles.default_folder() / "broken" / "manifest.json").write_text("{")
    return private_home


def test_bundles_with_the_same_tokens_are_found(home: Path) -> None:
    path = bundles.default_folder() / "large"
    by_bundle = ModelArgument("large", ModelKind.BUNDLE, path)
    by_file = ModelArgument("", ModelKind.GGUF, path / "model-F32.gguf")
    for found in (by_bundle, by_file):
        assert [each.name for each in local_drafts(found)] == ["small"]
    small = ModelArgument("small", ModelKind.BUNDLE, bundles.default_folder() / "small")
    assert list(local_drafts(small)) == []
    assert list(local_drafts(ModelArgument("8B", ModelKind.SIZE, Path()))) == []


def test_the_plan_names_them(home: Path, call: Pitool) -> None:
    shown = call("plan", "8B", "--board", "pi5", "--details").out
    assert "with a draft model on pi5-16gb" in shown
    found = json.loads(call("plan", "8B", "--board", "pi5", "--json").out)["drafts"]
    assert [each["name"] for each in found] == ["Qwen3-0.6B", "Qwen3-1.7B", "Qwen3-4B"]
    assert found[0]["decodes"]["pi5"][1] > found[1]["decodes"]["pi5"][1]
    mine = json.loads(call("plan", "large", "--board", "pi5", "--json").out)
    assert [each["name"] for each in mine["drafts"]] == ["small"]
    assert "drafts" not in json.loads(call("plan", "small", "--board", "pi5", "--json").out)
