"""Predicted sizes of files: against files that are made, and against those that others publish."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import pytest

from pitool.catalog.model_argument import ModelArgument, ModelKind
from pitool.catalog.tensor_types import QUANTISATIONS
from pitool.catalog.tiers import tiers
from pitool.checkpoint.config import read_config
from pitool.checkpoint.source import find_source, open_checkpoint
from pitool.convert.download import planned_checkpoint
from pitool.convert.gguf.artifacts import header_of
from pitool.convert.gguf.model import model_shape
from pitool.convert.gguf.quantise import quantise
from pitool.convert.onnx.writer import write_onnx
from pitool.convert.plan import make_plan
from pitool.planning.formats import GGUF
from pitool.planning.formats.onnx import plan_folder
from pitool.planning.memory import Load
from pitool.planning.models import planned_model
from pitool.planning.onnx_weights import ONNX_QUANTISATIONS
from pitool.planning.places import Place
from pitool.planning.speed import NONE
from tests.convert.helpers import source_of, write_float
from tests.planning.test_type_mixture import PUBLISHED

KINDS = tuple(QUANTISATIONS)
TOKENIZERS = {
    "Qwen": "qwen2.5",
    "SmolLM2": "smollm2-135m-instruct",
    "TinyLlama": "tinyllama-chat",
}
# By the vocabulary that is at hand: it is the publisher's, but for TinyLlama's, which was stored
# otherwise; without one, a usual header.
WITHIN = {"qwen2.5": 1e-5, "smollm2-135m-instruct": 1e-5, "tinyllama-chat": 2e-3, None: 6e-3}


@pytest.mark.thorough
def test_the_plan_knows_the_size_of_the_file(tiny_checkpoint: Path, tmp_path: Path) -> None:
    config = read_config(tiny_checkpoint)
    plan = make_plan(
        config, "1gb", tiers()["1gb"], ",".join(KINDS), 512,
        header=partial(header_of, source_of(tiny_checkpoint), config),
    )  # fmt: skip
    exact = write_float(tiny_checkpoint, tmp_path / "F16.gguf", "F16")
    for planned in plan.artifacts:
        path, kind = tmp_path / f"{planned.quantisation.name}.gguf", planned.quantisation.name
        if kind != "F16":
            quantise(exact, path, QUANTISATIONS[kind], 1)
        assert path.stat().st_size == planned.bytes, kind


def test_a_plan_without_a_conversion_knows_it_as_well(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    """By the checkpoint's settings and vocabulary, and by the file's own header once it exists."""
    path = write_float(tiny_checkpoint, tmp_path / "F16.gguf", "F16")
    place = Place("", "", 1 << 30, 0, {})
    before = planned_checkpoint(source_of(tiny_checkpoint))
    after = planned_model(ModelArgument(str(path), ModelKind.GGUF, path))
    for model in (before, after):
        planned = GGUF.artifact(model, QUANTISATIONS["F16"], place, Load(512), NONE)
        assert planned.bytes == path.stat().st_size


def test_a_vocabulary_that_cannot_be_read_is_taken_to_be_a_usual_one(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    """A plan needs settings only; what is wrong with a tokenizer is for a conversion to say."""
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "bare")
    (folder / "tokenizer.json").write_text("{", encoding="utf-8")
    assert planned_checkpoint(source_of(folder)).header is None
    assert planned_checkpoint(source_of(tiny_checkpoint)).header


@pytest.mark.parametrize("kind", ["FP16", "INT8", "INT8_DYNAMIC", "INT4", "INT4_ASYMMETRIC"])
def test_the_plan_knows_about_how_large_an_onnx_folder_is(kind: str, tmp_path: Path) -> None:
    """Of the smallest real model, for graph and tokenizer are the more the smaller it is."""
    checkpoint = open_checkpoint(find_source("sample", "1gb"))
    quantisation = ONNX_QUANTISATIONS[kind]
    made = write_onnx(tmp_path / "made", checkpoint, quantisation)
    size = sum(path.stat().st_size for path in made.rglob("*") if path.is_file())
    planned = plan_folder(model_shape(checkpoint.config), quantisation, Load(512))
    assert planned.bytes == pytest.approx(size, rel=0.05)


@pytest.mark.thorough
@pytest.mark.parametrize("repository", PUBLISHED)
def test_published_files_have_the_planned_size(
    shared_data: Path, tmp_path: Path, repository: str
) -> None:
    """Llama 3.2's and Gemma's vocabularies are not at hand: their headers are taken to be usual.

    Where the publisher stores an untied head, the prediction is made for one, too.
    """
    name, untied, wanted = PUBLISHED[repository]
    folder = tmp_path / name
    shutil.copytree(shared_data / "configs" / name, folder)
    tokenizer = next((t for start, t in TOKENIZERS.items() if name.startswith(start)), None)
    if tokenizer:
        shutil.copytree(shared_data / "tokenizers" / tokenizer, folder, dirs_exist_ok=True)
    settings = json.loads((folder / "config.json").read_text())
    settings["tie_word_embeddings"] = not untied
    (folder / "config.json").write_text(json.dumps(settings))
    quants = ",".join(sorted(wanted))
    config = read_config(folder)
    header = partial(header_of, source_of(folder), config) if tokenizer else None
    plan = make_plan(config, "16gb", tiers()["16gb"], quants, 512, header=header)
    published = {
        file["quant"]: file["bytes"]
        for file in json.loads((shared_data / "gguf_sizes.json").read_text())
        if file["repo"] == repository
    }
    for planned in plan.artifacts:
        size = published[planned.quantisation.name]
        near = pytest.approx(size, rel=WITHIN[tokenizer])
        assert planned.bytes == near, planned.quantisation
