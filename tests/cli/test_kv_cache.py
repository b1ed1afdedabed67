"""What types of the KV cache cost: measured again with llama.cpp alone, and where it is kept."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pitool.catalog import manifest
from pitool.catalog.bundles import choose, open_bundle
from pitool.engine import worker
from pitool.engine.base import Settings
from pitool.quality.kinds import kind_windows
from tests.cli.conftest import Pitool, check_failure

pytestmark = pytest.mark.engine
# Of the types, those that the test is about; each is loaded twice.
SOME = ("q8_0", "q4_0")


@pytest.fixture
def copy(bundle: Path, tmp_path: Path) -> Path:
    return shutil.copytree(bundle, tmp_path / "copy")


@pytest.mark.thorough
def test_the_figures_are_those_of_the_definition(
    call: Pitool, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pitool.quality.kv_cache.EACH", 256)
    monkeypatch.setattr("pitool.quality.kv_cache.SMALLER", SOME)
    done = call("verify", copy, "--quant", "F16", "--kv-cache", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)["caches"]
    assert list(found) == ["F16"]
    by_types = {(each["keys"], each["values"]): each for each in found["F16"]}
    # Heads of 64 numbers are whole blocks of 32: of keys and of values.
    assert {(name, "f16") for name in SOME} <= set(by_types)
    assert {("f16", name) for name in SOME} <= set(by_types)
    kept = {a.quantisation: a.caches for a in manifest.read(copy).artifacts}
    assert len(kept["F16"]) == len(by_types)
    assert kept["Q8_0"] == ()

    path = copy / choose(open_bundle(copy), "F16").entry.name
    usual = Settings(512, 1, 1, micro_batch=128, outputs=128, kv_type="f32", flash_attention="on")
    logits = []
    for settings in (usual, replace(usual, kv_type="q4_0", value_type="f16")):
        with worker.start("gguf", path, settings) as engine:
            windows = [w for each in kind_windows(engine, 256, 512).values() for w in each]
            rows = [engine.logits(w)[len(w) // 2 : -1].astype(np.float64) for w in windows]
        logits.append(np.concatenate(rows))
    p, q = (x - np.log(np.exp(x).sum(-1, keepdims=True)) for x in logits)
    expected = float((np.exp(p) * (p - q)).sum(-1).mean())
    assert expected > 0
    assert by_types["q4_0", "f16"]["mean_kl"] == pytest.approx(expected, rel=0.02)
    assert by_types["q4_0", "f16"]["tokens"] == len(p)
    # Eight bits lose less than four, of keys and of values.
    assert by_types["q8_0", "f16"]["mean_kl"] < by_types["q4_0", "f16"]["mean_kl"]
    assert by_types["f16", "q8_0"]["mean_kl"] < by_types["f16", "q4_0"]["mean_kl"]

    shown = call("show", copy)
    assert "KV cache of F16" in shown.out
    planned = call("plan", copy, "--board", "pi5", "--ram", "1gb", "--details")
    assert "what the cache adds beside f16, measured with F16" in planned.out
    assert "advised: --kv-type" in planned.out


def test_it_is_measured_on_its_own(call: Pitool, copy: Path, tmp_path: Path) -> None:
    text = tmp_path / "t.txt"
    text.write_text("x")
    said = check_failure(call("verify", copy, "--kv-cache", "--text", text), 2)
    assert "--kv-cache compares an artifact with itself" in said
