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
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pitool.convert.numpy_forward import reference_logits
from pitool.errors import BadInput
from tests.convert.helpers import checkpoint_of
from tests.oracle.engine import Logits
from tests.oracle.settings import FAMILIES
from tests.oracle.test_settings import (
    IDS,
    PAIRS,
    WHOLE,
    Case,
    Outcome,
    difference,
    pairs,
    singles,
)
from tests.tiny import write_tokenizer

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


def cases() -> list[Case]:
    """Return every family's settings alone, and some together."""
    kinds = [kind for kind in FAMILIES if kind != "qwen3_moe"]  # the reference has no experts
    some = [[Case(kind, ()), *singles(kind), *pairs(kind, PAIRS)] for kind in kinds]
    return [case for each in some for case in each]


@pytest.fixture(scope="module")
def answered(python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders of all cases, computed by one child."""
    return answer_all(python, tmp_path_factory.mktemp("transformers-5"))


def answer_all(python: str, root: Path) -> Path:
    """Have a Python with transformers 5 write and compute every case in a folder of ``root``."""
    (root / "ids.json").write_text(json.dumps(IDS))
    for i, case in enumerate(cases()):
        folder = root / f"{i:04}"
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(case.config))
    subprocess.run([python, CHILD, root], check=True, stderr=subprocess.DEVNULL)
    write_tokenizer(root / "0000", 300)
    return root


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", [kind for kind in FAMILIES if kind != "qwen3_moe"])
def test_what_transformers_5_saves_is_right_or_refused(answered: Path, kind: str) -> None:
    found = list(outcomes(answered, kind))
    assert any(not each.wrong for each in found)
    assert not any(each.wrong for each in found), "\n".join(each.wrong for each in found)


def outcomes(answered: Path, kind: str) -> Iterator[Outcome]:
    """Yield what became of a family's cases, in both spellings."""
    for i, case in enumerate(cases()):
        folder = answered / f"{i:04}"
        if case.kind != kind or not (folder / "logits.npy").exists():
            continue
        wanted = np.load(folder / "logits.npy")
        if not np.isfinite(wanted).all():
            continue
        for source in (folder / "saved", _as_it_was(folder)):
            shutil.copy(answered / "0000" / "tokenizer.json", source)
            yield _compared(case, source, wanted)


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
