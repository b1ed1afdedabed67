"""What transformers 5 saves and computes, in an environment of its own, against our reference.

The pinned transformers 4 and it exclude each other. ``PITOOL_TRANSFORMERS_5`` names a Python that
has it; with ``PITOOL_ORACLE=all`` one is built under the user's cache, which takes minutes.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader
from safetensors.numpy import load_file, save_file

from pitool.catalog.tensor_types import QUANTISATIONS
from pitool.checkpoint.config import read_config
from pitool.convert.gguf import llama_quantise
from pitool.convert.gguf.model import model_shape
from pitool.convert.gguf.quantise import quantise
from pitool.convert.numpy_forward import reference_logits
from pitool.convert.scope import text_alone
from pitool.errors import BadInput
from pitool.planning.type_mixture import assign_types
from tests.convert.helpers import checkpoint_of, write_float
from tests.oracle.conftest import Converter
from tests.oracle.engine import Engine, Logits
from tests.oracle.settings import FAMILIES
from tests.tiny import write_tokenizer

pytest.importorskip("torch")
from tests.oracle.gguf_files import compare
from tests.oracle.test_settings import (
    IDS,
    PAIRS,
    WHOLE,
    Case,
    Outcome,
    difference,
    in_engine,
    pairs,
    singles,
    unchanged,
)

ENVIRONMENT = Path.home() / ".cache" / "pitool" / "oracle-transformers-5"
# Any other torch is not the small build for CPUs.
PACKAGES = ("torch==2.13.0", "transformers==5.*", "numpy")
CHILD = Path(__file__).with_name("checkpoints.py")


@pytest.fixture(scope="module")
def python() -> str:
    """The Python that has transformers 5."""
    if named := os.environ.get("PITOOL_TRANSFORMERS_5"):
        return named
    if not WHOLE:
        pytest.skip("transformers 5 is built with PITOOL_ORACLE=all only: it takes minutes")
    found = ENVIRONMENT / "bin" / "python"
    if not (ENVIRONMENT / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", ENVIRONMENT], check=True)
        command = [str(found), "-m", "pip", "install", "--quiet", *PACKAGES]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode:
            pytest.skip(f"no environment with transformers 5: {made.stderr.strip()[-200:]}")
        (ENVIRONMENT / "complete").touch()
    return str(found)


# What no other test computes.
NEWER = [kind for kind, family in FAMILIES.items() if family.newer]


def cases(kind: str) -> list[Case]:
    """Return a family's settings alone, and some together."""
    return [Case(kind, ()), *singles(kind), *pairs(kind, PAIRS)]


Answer = Callable[[str], list[tuple[Case, Path]]]
"""Gives the cases of a family with their folders, computed once by one child."""


@pytest.fixture(scope="module")
def answer(python: str, tmp_path_factory: pytest.TempPathFactory) -> Answer:
    """See ``Answer``; what the version saved has a tokenizer."""
    return answers(python, tmp_path_factory.mktemp("transformers-5"))


def answers(python: str, root: Path) -> Answer:
    """Return what has a Python with transformers 5 compute a family's cases below ``root``."""

    @cache
    def answered(kind: str) -> list[tuple[Case, Path]]:
        found = [(case, root / kind / f"{i:04}") for i, case in enumerate(cases(kind))]
        for case, folder in found:
            folder.mkdir(parents=True)
            (folder / "config.json").write_text(json.dumps(case.config))
        (root / kind / "ids.json").write_text(json.dumps(IDS))
        subprocess.run([python, CHILD, root / kind], check=True, stderr=subprocess.DEVNULL)
        for _, folder in found:
            if (folder / "saved").exists():
                write_tokenizer(folder / "saved", 300)
        return found

    return answered


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", FAMILIES)
def test_what_transformers_5_saves_is_right_or_refused(answer: Answer, kind: str) -> None:
    found = list(outcomes(answer(kind)))
    assert any(not each.wrong for each in found)
    assert not any(each.wrong for each in found), "\n".join(each.wrong for each in found)


def outcomes(answered: list[tuple[Case, Path]]) -> Iterator[Outcome]:
    """Yield what became of a family's cases, in both spellings."""
    for case, folder in answered:
        if not (folder / "logits.npy").exists():
            continue
        wanted = np.load(folder / "logits.npy")
        if np.isfinite(wanted).all():
            for source in (folder / "saved", _as_it_was(folder)):
                yield _compared(case, source, wanted)


@pytest.mark.engine
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", NEWER)
def test_every_setting_of_a_newer_family_in_the_engine(
    answer: Answer, kind: str, engine: Engine, tmp_path: Path
) -> None:
    wrong: list[str] = []
    base = np.load(answer(kind)[0][1] / "logits.npy")
    for case, folder in answer(kind):
        there = (folder / "logits.npy").exists()
        wanted = np.load(folder / "logits.npy") if there else None
        if len(case.values) == 1:
            wrong.append(unchanged(case, base, wanted))
        if wanted is not None and np.isfinite(wanted).all():
            spelled = _as_it_was(folder)
            path = tmp_path / "m.gguf"
            wrong.append(in_engine(case, spelled, wanted, engine, path).wrong)
    assert not any(wrong), "\n".join(filter(None, wrong))


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", NEWER)
def test_a_newer_family_is_the_converters_file_and_so_is_its_quantisation(
    answer: Answer, kind: str, converter: Converter, tmp_path: Path
) -> None:
    folder = tmp_path / "Tiny-Test-1B"
    shutil.copytree(answer(kind)[0][1] / "saved", folder)
    if complete := COMPLETED.get(kind):
        complete(folder)
    for kind_ in ("BF16", "F16"):
        ours = write_float(folder, tmp_path / "ours.gguf", kind_)
        theirs = converter(folder, tmp_path / "theirs.gguf", kind_)
        compare(GGUFReader(ours), GGUFReader(theirs))
    for name in ("Q4_K_M", "Q8_0"):
        quantisation = QUANTISATIONS[name]
        mine, llamas = tmp_path / "mine.gguf", tmp_path / "llamas.gguf"
        quantise(ours, mine, quantisation, 2)
        llama_quantise.quantise(theirs, llamas, quantisation, 1)
        compare(GGUFReader(mine), GGUFReader(llamas))
        planned = assign_types(model_shape(read_config(folder)), quantisation)
        types = {t.name: t.tensor_type.name for t in GGUFReader(mine).tensors}
        assert {t.tensor.name: t.type.name for t in planned} == types


def _with_predictor(folder: Path) -> None:
    """Add to a Qwen3.5 what transformers does not save, and the converter wants: an MTP layer."""
    path = folder / "model.safetensors"
    tensors, random = load_file(path), np.random.default_rng(0)
    shapes = {name.partition(".3.")[2]: t.shape for name, t in tensors.items() if ".3." in name}
    hidden = len(tensors["model.norm.weight"])
    added = {f"mtp.layers.0.{name}": shape for name, shape in shapes.items()}
    added |= {"mtp.fc.weight": (hidden, 2 * hidden), "mtp.norm.weight": (hidden,)}
    for part in ("embedding", "hidden"):
        added[f"mtp.pre_fc_norm_{part}.weight"] = (hidden,)
    for name, shape in added.items():
        tensors[name] = random.normal(0, 0.1, shape).astype(np.float32)
    save_file(tensors, path, {"format": "pt"})
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "mtp_num_hidden_layers": 1}))


COMPLETED = {"qwen3_5_text": _with_predictor}


@pytest.mark.engine
def test_a_multimodal_qwen3_5_is_its_text_model(
    answer: Answer, engine: Engine, tmp_path: Path
) -> None:
    """By the names and the settings that the whole model is saved with."""
    source = answer("qwen3_5_text")[0][1]
    folder = tmp_path / "Tiny-Test-1B"
    shutil.copytree(source / "saved", folder)
    _with_predictor(folder)
    tensors = load_file(folder / "model.safetensors")
    named = {name.replace("model.", "model.language_model.", 1): t for name, t in tensors.items()}
    named["model.visual.merger.norm.weight"] = np.ones(8, np.float32)
    save_file(named, folder / "model.safetensors")
    text = json.loads((folder / "config.json").read_text())
    whole = {"model_type": "qwen3_5", "text_config": text, "vision_config": {"depth": 1}}
    (folder / "config.json").write_text(json.dumps(whole))
    wanted = np.load(source / "logits.npy")
    assert difference(reference_logits(checkpoint_of(folder), IDS), wanted) < 1e-4
    file = write_float(folder, tmp_path / "m.gguf", "F32")
    assert difference(engine.logits(file, IDS), wanted) < 1e-3
    assert "takes no pictures" in text_alone(read_config(folder))


def _as_it_was(folder: Path) -> Path:
    """Return the weights with the settings as they were spelled before."""
    target = folder / "before"
    shutil.copytree(folder / "saved", target, dirs_exist_ok=True)
    shutil.copy(folder / "config.json", target)
    return target


def _compared(case: Case, folder: Path, wanted: Logits) -> Outcome:
    try:
        found = reference_logits(checkpoint_of(folder), IDS)
    except BadInput as error:
        known = case.says(file=False)
        right = known and re.search(known, error.what)
        said = "" if right else f"{case.name} ({folder.name}): {error.what}"
        return Outcome(said, refused=True)
    off = difference(found, wanted)
    return Outcome("" if off < 1e-4 else f"{case.name} ({folder.name}): {off:.2g} away")
