"""What transformers 5 saves and computes, in an environment of its own, against our reference.

The pinned transformers 4 and it exclude each other. ``PITOOL_TRANSFORMERS_5`` names a Python that
has it; with ``PITOOL_ORACLE=all`` one is built under the user's cache, which takes minutes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pitool.convert.numpy_forward import reference_logits
from pitool.errors import BadInput
from tests.convert.helpers import checkpoint_of
from tests.oracle.settings import FAMILIES
from tests.oracle.test_settings import IDS, PAIRS, WHOLE, Case, difference, pairs, singles
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
    root = tmp_path_factory.mktemp("transformers-5")
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
    wrong, right = [], 0
    for i, case in enumerate(cases()):
        folder = answered / f"{i:04}"
        if case.kind != kind or not (folder / "logits.npy").exists():
            continue
        for source in (folder / "saved", _as_it_was(folder)):
            shutil.copy(answered / "0000" / "tokenizer.json", source)
            said = _compared(case, source, folder / "logits.npy")
            wrong.append(said)
            right += not said
    assert right
    assert not any(wrong), "\n".join(filter(None, wrong))


def _as_it_was(folder: Path) -> Path:
    """Return the weights with the settings as they were spelled before."""
    target = folder / "before"
    shutil.copytree(folder / "saved", target, dirs_exist_ok=True)
    shutil.copy(folder / "config.json", target)
    return target


def _compared(case: Case, folder: Path, logits: Path) -> str:
    wanted = np.load(logits)
    if not np.isfinite(wanted).all():
        return ""
    try:
        found = reference_logits(checkpoint_of(folder), IDS)
    except BadInput as error:
        known = case.says(file=True)
        return "" if known else f"{case.name} ({folder.name}): {error.what}"
    off = difference(found, wanted)
    return "" if off < 1e-4 else f"{case.name} ({folder.name}): {off:.2g} away"
