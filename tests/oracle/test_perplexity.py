"""GGUFs in llama.cpp's own llama-perplexity: they load, and its KL is the certified one.

llama-perplexity tokenizes the text, cuts the windows, runs both files and computes the divergence;
nothing there is pitool's. ``python -m benchmarks.peer`` builds it.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from benchmarks import peer
from pitool.catalog.manifest import Artifact
from pitool.catalog.tiers import tiers
from pitool.checkpoint.config import read_config
from pitool.cli import convert_engines
from pitool.convert.conversion import Job
from pitool.convert.pipeline import convert
from pitool.convert.plan import make_plan
from pitool.report.progress import Silent
from tests.convert.helpers import source_of

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[2]
# Prose without special tokens, which llama-perplexity reads as text.
TEXT, OTHER = (ROOT / "docs" / "explanation" / name for name in ("quality.md", "security.md"))
WINDOW = 512
# It logs from a thread, which the end of the program overtakes in most runs on a busy machine.
TRIES = 20
SAMPLE = ROOT / "recipes" / "sample" / "checkpoint"
REAL = Path(os.environ.get("PITOOL_SMOLLM2", "none"))
# Where it is for the user, whose cache a test does not see.
PROGRAM = peer.installed(peer.PERPLEXITY)


def perplexity(model: Path, base: Path, chunks: int, *options: str) -> str:
    """Return what llama-perplexity prints; ``base``: the file of the reference's probabilities."""
    order = ["-f", TEXT, "-c", WINDOW, "-b", WINDOW, "--chunks", chunks, "-t", 2]
    words = [PROGRAM, "-m", model, *order, "--kl-divergence-base", base, *options]
    for _ in range(TRIES):
        done = subprocess.run([str(w) for w in words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        if not options or "Mean    KLD" in done.stdout:
            break
    return done.stdout + done.stderr


def figure(text: str, name: str) -> float:
    found = re.search(rf"{re.escape(name)}\s*:\s*([-\d.]+)", text)
    assert found, text[-3000:]
    return float(found[1])


@pytest.mark.thorough
@pytest.mark.parametrize("folder", [SAMPLE, REAL], ids=["sample", "SmolLM2-135M"])
def test_the_certified_kl_is_that_of_llama_perplexity(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not PROGRAM.is_file():
        pytest.skip("no llama-perplexity: python -m benchmarks.peer builds it")
    if not (folder / "config.json").is_file():
        pytest.skip("no SmolLM2-135M: PITOOL_SMOLLM2 names its folder")
    monkeypatch.setenv("PITOOL_REFERENCE_TOKENS", "1024")
    config = read_config(folder)
    size = make_plan(config, "8gb", tiers()["8gb"], "Q4_K_M", 512).artifacts[0].bytes
    plan = make_plan(
        config, "8gb", tiers()["8gb"], "F32,Q4_0,Q4_K_M,FIT", 512, size=size, importance=True
    )
    job = Job(plan, tmp_path / "b", False, 2, None, str(OTHER))
    made = convert(source_of(folder, TEXT), job, convert_engines.engines(), Silent()).manifest
    exact, *others = made.artifacts
    base = tmp_path / "base.kld"
    windows = _windows(exact)
    perplexity(tmp_path / "b" / exact.files[0].path, base, windows)
    assert {artifact.quantisation for artifact in others} == {"Q4_0", "Q4_K_M", "FIT"}
    for artifact in others:
        said = perplexity(tmp_path / "b" / artifact.files[0].path, base, windows, "--kl-divergence")
        certificate = artifact.certificate
        assert certificate
        found = {
            "mean_kl": figure(said, "Mean    KLD"),
            "median_kl": figure(said, "Median  KLD"),
            "p99_kl": figure(said, "99.0%   KLD"),
            "perplexity": figure(said, "Mean PPL(Q)"),
            "top1": figure(said, "Same top p") / 100,
        }
        wanted = {name: getattr(certificate, name) for name in found}
        print(artifact.quantisation, {n: (found[n], wanted[n]) for n in found})
        # The base is kept in 16 bits, and llama.cpp's own kernels add up in another order.
        assert found["mean_kl"] == pytest.approx(wanted["mean_kl"], rel=0.03, abs=1e-4)
        assert found["median_kl"] == pytest.approx(wanted["median_kl"], rel=0.05, abs=1e-4)
        assert found["p99_kl"] == pytest.approx(wanted["p99_kl"], rel=0.1)
        assert found["perplexity"] == pytest.approx(wanted["perplexity"], rel=0.01)
        assert found["top1"] == pytest.approx(wanted["top1"], abs=0.01)


def _windows(artifact: Artifact) -> int:
    """Return how many windows a certificate was measured on: of each the last 255 rows count."""
    assert artifact.certificate
    count, rest = divmod(artifact.certificate.tokens, WINDOW - WINDOW // 2 - 1)
    assert count >= 2
    assert rest == 0
    return count
