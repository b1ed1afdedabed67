"""A trained model end to end: greedy tokens are those that transformers gave."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Pitool
from tests.cli.conftest import pitool as pitool

pytestmark = pytest.mark.engine


@pytest.mark.thorough
@pytest.mark.parametrize("quant", ["F16", "FP32"])
def test_tinystories(pitool: Pitool, shared_data: Path, tmp_path: Path, quant: str) -> None:
    model = shared_data / "models" / "tinystories-656k"
    out = tmp_path / "bundle"
    made = pitool("convert", model, "--ram", "1gb", "--quant", quant, "--out", out, "--json")
    assert made.code == 0, made.err
    (artifact,) = json.loads(made.out)["manifest"]["artifacts"]
    assert artifact["certificate"]["mean_kl"] < 1e-5
    cases = json.loads((model / "golden_greedy.json").read_text())["cases"]
    assert len(cases) == 3
    for case in cases:
        wanted = case["output_ids"]
        new = len(wanted) - len(case["prompt_ids"])
        told = pitool(
            "run", out, case["prompt"], "--raw", "--temp", 0, "--json", "--max-tokens", new
        )
        answer = json.loads(told.out)
        assert answer["prompt_ids"] == case["prompt_ids"]
        assert answer["prompt_ids"] + answer["ids"] == wanted
