"""Every setting of every family: right, or refused by a sentence; never accepted and different.

Each is tried alone and with others, in the reference and in llama.cpp on our GGUF, against the
logits of transformers. By default a sample; ``PITOOL_ORACLE=all`` takes every value in the engine
and up to 120 pairs a family, drawn from a seed.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader

from pitool.architectures.description import Description
from pitool.architectures.table import TABLE, describe
from pitool.checkpoint.config import Config
from pitool.convert.gguf.model import find_model
from pitool.convert.numpy_forward import reference_logits
from pitool.errors import BadInput
from tests.convert.helpers import checkpoint_of, write_float
from tests.oracle.engine import Engine, Logits
from tests.oracle.settings import FAMILIES, TOKENS, Changes, Setting, Value
from tests.tiny import write_tokenizer

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore")

WHOLE = os.environ.get("PITOOL_ORACLE") == "all"
PAIRS = 120 if WHOLE else 5
IDS = np.random.default_rng(0).integers(0, 300, TOKENS).tolist()


@dataclass(frozen=True, slots=True)
class Case:
    """A configuration, and the values that made it of its family's base."""

    kind: str
    values: tuple[Value, ...]
    settings: tuple[str, ...] = ()

    @property
    def may_fail(self) -> bool:
        """Whether transformers 4 may compute nothing."""
        known = any(name in FAMILIES[self.kind].fails for name in self.settings)
        return known or any(value.broken or value.refused for value in self.values)

    @property
    def config(self) -> Changes:
        """Settings as transformers 4 spells them."""
        config = {"model_type": self.kind, **FAMILIES[self.kind].base}
        for value in self.values:
            config = merge(config, value.changes)
        return config

    @property
    def name(self) -> str:
        """What it changes, for messages."""
        return " with ".join(json.dumps(value.changes) for value in self.values) or "base"

    def says(self, *, file: bool) -> str:
        """Return the pattern of the refusals that are known; empty for none."""
        known = [v.refused for v in self.values] + [v.unsaid for v in self.values if file]
        if len(self.values) > 1:  # two rotations at once have two original contexts
            known += ["transformers 4 takes", "and the 'type'", FAMILIES[self.kind].joint]
            known += ["YaRN from a context of"] if file else []
        return "|".join(filter(None, known))


def merge(one: Changes, other: Changes) -> Changes:
    """Return settings with others over them, table by table."""
    merged = dict(one)
    for key, value in other.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def singles(kind: str) -> list[Case]:
    """Return each value of each setting alone."""
    return [
        Case(kind, (value,), (each.name,))
        for each in FAMILIES[kind].settings
        for value in each.values
    ]


def firsts(kind: str) -> list[Case]:
    """Return the first value of each setting that changes something and is written."""
    return [
        Case(kind, (value,), (each.name,))
        for each in FAMILIES[kind].settings
        for value in itertools.islice(filter(_written, each.values), 1)
    ]


def _written(value: Value) -> bool:
    return not (value.idle or value.refused or value.unsaid or value.broken)


def pairs(kind: str, count: int) -> list[Case]:
    """Return values of two settings together: a sample by the family's seed."""

    def whole(setting: Setting) -> list[Value]:
        return [value for value in setting.values if not value.broken]

    settings = FAMILIES[kind].settings
    every = [
        Case(kind, both, (one.name, other.name))
        for one, other in itertools.combinations(settings, 2)
        for both in itertools.product(whole(one), whole(other))
    ]
    return random.Random(kind).sample(every, min(count, len(every)))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer that all cases share."""
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder, 300)
    return folder / "tokenizer.json"


Make = Callable[[Case], tuple[Path, Logits | None]]


@pytest.fixture
def make(tmp_path: Path, tokenizer: Path) -> Make:
    """Write the checkpoint of a case; give its folder and transformers' logits, None for none."""
    return maker(tmp_path / "Tiny-Test-1B", tokenizer)


def maker(folder: Path, tokenizer: Path) -> Make:
    """Return what writes the checkpoint of a case into a folder, over the one before."""
    from tests.oracle import checkpoints

    def made(case: Case) -> tuple[Path, Logits | None]:
        shutil.rmtree(folder, ignore_errors=True)
        checkpoints.write_config(folder, case.config)
        shutil.copy(tokenizer, folder)
        try:
            model = checkpoints.make_model(folder)
            logits = checkpoints.compute(model, IDS)
        except Exception:  # whatever a library of models says to a setting that cannot be
            return folder, None
        checkpoints.save_weights(model, folder)
        return folder, logits if np.isfinite(logits).all() else None

    return made


def difference(found: Logits, wanted: Logits) -> float:
    """Return the largest difference as a share of the largest logit."""
    return float(np.abs(found - wanted).max() / (np.abs(wanted).max() or 1))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a case: what is ``wrong``, empty for nothing; whether it was ``refused``."""

    wrong: str = ""
    refused: bool = False


def judge(
    case: Case, logits: Callable[[], Logits], wanted: Logits, limit: float, *, file: bool
) -> Outcome:
    """Compare the logits of a case, or its refusal with the one that is known."""
    known = case.says(file=file)
    try:
        found = logits()
    except BadInput as error:
        right = known and re.search(known, error.what) and error.do
        return Outcome("" if right else f"{case.name}: refused: {error.what}", refused=True)
    if len(case.values) == 1 and known:
        return Outcome(f"{case.name}: accepted, but {known!r} is known")
    if not (off := difference(found, wanted)) < limit:
        return Outcome(f"{case.name}: accepted, and {off:.2g} away")
    return Outcome()


# Whose text models are families of their own.
ENCODERS = {"bert"}  # whose product is no logits: see test_bert
WRAPPERS = {"gemma3", "gemma3n", "gemma4", "mistral3", "qwen3_5"}
# Families that only transformers 5 computes are in ``test_transformers_5``.
KNOWN = [kind for kind, family in FAMILIES.items() if not family.newer]


def test_every_family_has_its_settings() -> None:
    assert set(FAMILIES) == set(TABLE) - WRAPPERS - ENCODERS


@pytest.mark.parametrize("kind", KNOWN)
def test_every_setting_alone_in_the_reference(kind: str, make: Make) -> None:
    _folder, base = make(Case(kind, ()))
    assert base is not None
    wrong: list[str] = []
    for case in [Case(kind, ()), *singles(kind)]:
        folder, wanted = make(case)
        wrong += filter(None, [unchanged(case, base, wanted)])
        if wanted is not None:
            wrong += filter(None, [in_reference(case, folder, wanted).wrong])
    assert not wrong, "\n".join(wrong)


def unchanged(case: Case, base: Logits, wanted: Logits | None) -> str:
    """Return what is untrue of a value's marks: a setting without effect proves nothing."""
    for value in case.values:
        if wanted is None and not case.may_fail:
            return f"{case.name}: transformers computes nothing"
        if wanted is None or value.refused or value.idle is None:
            continue
        if _idle(wanted, base) != value.idle:
            return f"{case.name}: changes {difference(wanted, base):.2g}"
    return ""


def _idle(found: Logits, base: Logits) -> bool:
    return found.shape == base.shape and difference(found, base) < 5e-6


def in_reference(case: Case, folder: Path, wanted: Logits) -> Outcome:
    """Judge reading and forward pass."""
    return judge(
        case, lambda: reference_logits(checkpoint_of(folder), IDS), wanted, 1e-4, file=False
    )


@pytest.mark.parametrize("kind", FAMILIES)
def test_what_no_file_can_say_is_refused_before_it_is_written(kind: str) -> None:
    wrong: list[str] = []
    for case in singles(kind):
        try:
            find_model(Config(case.config, Path("model/config.json")))
            said = ""
        except BadInput as error:
            said = error.what
        known = case.says(file=True)
        if bool(said) != bool(known) or not re.search(known, said):
            wrong.append(f"{case.name}: {said or 'accepted'}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("kind", KNOWN)
def test_settings_in_pairs_in_the_reference(kind: str, make: Make) -> None:
    wrong: list[str] = []
    for case in pairs(kind, PAIRS):
        folder, wanted = make(case)
        if wanted is not None:
            wrong.append(in_reference(case, folder, wanted).wrong)
    assert not any(wrong), "\n".join(filter(None, wrong))


@pytest.mark.engine
@pytest.mark.parametrize("kind", KNOWN)
def test_settings_in_the_engine(kind: str, make: Make, engine: Engine, tmp_path: Path) -> None:
    alone = singles(kind) if WHOLE else firsts(kind)
    wrong: list[str] = []
    for case in [Case(kind, ()), *alone, *pairs(kind, PAIRS)]:
        folder, wanted = make(case)
        if wanted is not None:
            wrong.append(in_engine(case, folder, wanted, engine, tmp_path / "m.gguf").wrong)
    assert not any(wrong), "\n".join(filter(None, wrong))


def in_engine(case: Case, folder: Path, wanted: Logits, engine: Engine, path: Path) -> Outcome:
    """Judge a GGUF for as many tokens as it is said to be right for."""
    right = TOKENS

    def logits() -> Logits:
        nonlocal right
        write_float(folder, path, "F32")
        (context,) = (
            field.contents()
            for key, field in GGUFReader(path).fields.items()
            if key.endswith(".context_length")
        )
        right = min(TOKENS, context)
        found = np.array(wanted)
        found[:right] = engine.logits(path, IDS[:right])
        return found

    try:
        limits = (FAMILIES[case.kind].limit, *(value.limit for value in case.values))
        return judge(case, logits, wanted, max(limits), file=True)
    except AssertionError as error:
        return Outcome(f"{case.name}: {error}")


# Refusals of what only the older spelling can say: two kinds of a scaling, or none.
ONLY_OLD = ("transformers 4 takes", "and the 'type'", "has no 'rope_type'")


@pytest.mark.parametrize("kind", FAMILIES)
def test_both_spellings_mean_the_same(kind: str) -> None:
    for case in [Case(kind, ()), *singles(kind), *pairs(kind, 120)]:
        found, before = _meaning(spelled_anew(case.config)), _meaning(case.config)
        differs = isinstance(before, str) and any(why in before for why in ONLY_OLD)
        refused = isinstance(before, str) and isinstance(found, str)
        assert found == before or refused or differs, f"{case.name}: {found} and {before}"


def _meaning(config: Changes) -> Description | str:
    """Return the description of settings, or why they are refused."""
    try:
        return describe(Config(config, Path("config.json")))
    except BadInput as error:
        return error.what


def spelled_anew(config: Changes) -> Changes:
    """Return settings as transformers 5 writes them."""
    config = dict(config)
    table = {**(config.pop("rope_scaling", None) or {})}
    table.setdefault("rope_type", table.pop("type", "default"))
    for key in ("rope_theta", "partial_rotary_factor"):
        if config.get(key) is not None:
            table[key] = config.pop(key)
    if config["model_type"] == "gemma4_text":  # knows the newer spelling alone
        return config
    if config["model_type"] == "gemma3_text":
        local = {"rope_type": "default"}
        if "rope_local_base_freq" in config:
            local["rope_theta"] = config.pop("rope_local_base_freq")
        table = {"full_attention": table, "sliding_attention": local}
    if config["model_type"] != "gpt2":
        config["rope_parameters"] = table
    return {**config, "dtype": "float32"}
